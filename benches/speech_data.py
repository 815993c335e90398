"""Makes the embedded speech: AN4 as Ogg Opus, one stream per speaker, beside its licence.

python -m benches.speech_data DATA, where DATA holds {train,test}.tar with FLAC files, {train,test}.tsv (name, speaker,
seconds, transcript) and LICENSE, made without loss from github.com/cmusphinx/an4. It prints what the compression did:
bytes, and how far the decoded sound lies from the recordings.
"""

from __future__ import annotations

import argparse
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile

import gatewise
from gatewise.tasks.transcribe.embedded import FOLDER, LICENSE, TABLE
from gatewise.tasks.transcribe.recordings import Utterance, recordings
from gatewise.tasks.transcribe.sound import read

RATE = 16000
GAP = np.zeros(round(0.04 * RATE), np.float32)
"""Between utterances, so that the end of one is not heard in the next."""
LEVEL = 0.964
"""Of libsndfile's scale from 256 kbit/s (0) to 6 (1): about 15 kbit/s."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    data: Path = parser.parse_args().data
    folder = Path(gatewise.__file__).parent / "tasks" / "transcribe" / FOLDER
    folder.mkdir(exist_ok=True)
    rows: list[str] = []
    distances: list[float] = []
    for part in ("train", "test"):
        speakers: dict[str, list[Utterance]] = defaultdict(list)
        for one in recordings(data / f"{part}.tsv").utterances:
            speakers[str(one.speaker)].append(one)
        for speaker, own in sorted(speakers.items()):
            rows += written(folder, part, speaker, own, distances)
    (folder / TABLE).write_text("\n".join(rows) + "\n")
    shutil.copyfile(data / "LICENSE", folder / LICENSE)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(
        f"{len(rows)} recordings, {size:,} bytes; decibels between speech and error: median {np.median(distances):.1f}"
    )


def written(folder: Path, part: str, speaker: str, own: list[Utterance], distances: list[float]) -> list[str]:
    """The stream of a speaker, and the lines of the table for it."""
    place, sounds, rows = 0, [], []
    for one in own:
        samples = read(one.clip, RATE)
        rows.append("\t".join([part, speaker, one.name, str(place), str(place + len(samples)), one.text]))
        sounds += [samples, GAP]
        place += len(samples) + len(GAP)
    whole = np.concatenate(sounds)
    path = folder / f"{speaker}.ogg"
    soundfile.write(path, whole, RATE, format="OGG", subtype="OPUS", compression_level=LEVEL)
    decoded, rate = soundfile.read(path, dtype="float32")
    if rate != RATE or len(decoded) < len(whole):
        raise SystemExit(f"{path}: {len(decoded)} samples at {rate} a second, expected {len(whole)} at {RATE}")
    error = decoded[: len(whole)] - whole
    distances.append(10 * float(np.log10((whole**2).mean() / (error**2).mean())))
    return rows


if __name__ == "__main__":
    main()
