"""Inside a transcription: what the network heard, which letters it held likely, and what its gates did meanwhile."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.nn.initialise import keepers
from gatewise.tasks.transcribe.batches import joined
from gatewise.tasks.transcribe.features import Frames, log_mel
from gatewise.tasks.transcribe.network import SpeechNetwork
from gatewise.tasks.transcribe.sound import Samples
from gatewise.tasks.transcribe.writing import Transcript, emitted, step_seconds, transcripts

if TYPE_CHECKING:
    from gatewise.tasks.transcribe.transcriber import Transcriber

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Looking:
    """A transcription seen from inside.

    ``samples`` of ``rate`` a second; ``frames`` before they are normalised; ``probabilities``, (steps, tokens), of
    ``looks``; ``seconds`` of a step. ``gate`` is the name of the gate that keeps the state, None where the cell has
    none; ``kept`` the share of its state that each unit of the last layer keeps, (steps, units) for each direction.
    """

    samples: Samples
    rate: int
    frames: Frames
    probabilities: Values
    looks: list[str]
    seconds: float
    transcript: Transcript
    gate: str | None
    kept: list[Values]

    def csv(self) -> str:
        """One row for each step: its second, the likeliest letter and its probability, the blank's, the mean gate."""
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        ways = ["forward", "backward"][: len(self.kept)]
        out.writerow(["second", "letter", "probability", "blank", *(f"mean {self.gate} {way}" for way in ways)])
        for step, row in enumerate(self.probabilities):
            letter = int(row.argmax())
            gates = [f"{kept[step].mean():.4f}" for kept in self.kept]
            likely = [self.looks[letter], f"{row[letter]:.4f}", f"{row[0]:.4f}"]
            out.writerow([f"{step * self.seconds:.2f}", *likely, *gates])
        return text.getvalue()


def look(task: Transcriber, recording: Any) -> Looking:
    """A recording from inside; see ``Transcriber.transcribe`` for what it may be.

    Raises:
        InputError: for what is no sound.
    """
    network, rate = task.network, task.options.sample_rate
    samples = task.samples(recording)
    frames = log_mel(samples, rate)
    heard = task.normalised(frames)
    emission = emitted(network, [heard])[0]
    best = transcripts(emission, task.guide(), 1, 1, step_seconds(network))[0]
    looks = [task.units.looks(token) for token in range(len(task.units))]
    gate, kept = _kept(network, heard)
    likely = np.exp(emission.astype(np.float64))
    return Looking(samples, rate, frames, likely, looks, step_seconds(network), best, gate, kept)


def _kept(network: SpeechNetwork, heard: Frames) -> tuple[str | None, list[Values]]:
    """Of the last layer."""
    layers: Any = network.layers
    keeping = keepers(layers.cell)
    if not keeping:
        return None, []
    gate, sign = next(iter(keeping.items()))
    with torch.no_grad():
        x = network.front(network.windows(joined([heard])[0]))
        gates = layers.trace(x).gates[gate][-layers.num_directions :, :, 0].double().numpy()
    return gate, [values if sign > 0 else 1 - values for values in gates]
