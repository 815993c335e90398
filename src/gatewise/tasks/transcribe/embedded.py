"""The embedded speech: AN4 (CMU, 1991), spelled names, addresses, numbers and control words by 84 speakers.

42 minutes of 74 speakers to train on and 6 minutes of 10 others to test with, 16 kHz, as Ogg Opus of about 15 kbit/s,
one stream per speaker; made by ``benches/speech_data.py``. Its licence lies beside it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from gatewise.tasks.text.lines import read_lines
from gatewise.tasks.transcribe.recordings import Utterance
from gatewise.tasks.transcribe.sound import Clip

FOLDER, TABLE, LICENSE = "an4", "an4.tsv", "LICENSE.an4"
TRAIN, TEST = "train", "test"


def embedded() -> tuple[list[Utterance], list[Utterance]]:
    """The recordings to train on and to test with."""
    folder = Path(__file__).parent / FOLDER
    parts: dict[str, list[Utterance]] = defaultdict(list)
    for line in read_lines(folder / TABLE):
        part, speaker, name, start, stop, text = line.split("\t")
        clip = Clip(folder / f"{speaker}.ogg", None, int(start), int(stop))
        parts[part].append(Utterance(name, clip, text, speaker))
    return parts[TRAIN], parts[TEST]
