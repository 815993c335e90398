"""What a transcriber may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gatewise.compiler import Cell
from gatewise.tasks import checks
from gatewise.tasks.errors import InputError
from gatewise.tasks.options import TaskOptions, again, option
from gatewise.tasks.transcribe.features import NORMALISE
from gatewise.tasks.transcribe.units import KINDS

DIRECTIONS = ("both", "forward")
EPOCHS, EMBEDDED_EPOCHS = 60, 20
LEAST_PIECES = 8
MOST_PIECES = 10**5
SLOWEST, FASTEST = 0.5, 2.0
MOST_STRIDE = 32


def _speeds(name: str, value: Any) -> None:
    try:
        found = speeds_of(value)
    except (ValueError, AttributeError):
        found = []
    if 1.0 not in found or len(set(found)) != len(found) or not all(SLOWEST <= speed <= FASTEST for speed in found):
        raise InputError(
            f"{name} must be different numbers from {SLOWEST:g} to {FASTEST:g} with commas, 1 among them, such as "
            f"0.9,1,1.1, got {value!r}"
        )


def speeds_of(text: str) -> list[float]:
    """The numbers in ``speeds``, the recordings' own, 1, first."""
    return sorted((float(part) for part in text.split(",")), key=lambda speed: (speed != 1, speed))


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions(TaskOptions):
    """What a transcriber may be asked for. What is None depends on the data or on other options."""

    units: str = option(
        "char", "What is written: `char` (characters) or `bpe` (pieces of words).", checks.choice(*KINDS)
    )
    vocabulary_size: int = option(200, "Pieces of `bpe` at most.", checks.integer(LEAST_PIECES, MOST_PIECES))
    lowercase: bool = option(False, "Lower-case all transcripts first.", checks.flag)
    direction: str = option(
        "both", "`both`, or `forward`, which can also write while it listens.", checks.choice(*DIRECTIONS)
    )
    lookahead: int = option(
        5, "Later steps that a step sees too, where direction is `forward`.", checks.integer(0, 1000)
    )
    sample_rate: int = option(16000, "Samples a second; other sound is resampled.", checks.integer(4000, 96000))
    stride: int = option(4, "Frames of 10 ms from one step of the layers to the next.", checks.integer(1, MOST_STRIDE))
    window: int | None = option(
        None, "Frames that a step reads, at least stride.", checks.integer(1, 4 * MOST_STRIDE), shown="twice stride"
    )
    kernels: int = option(
        32, "Kernels along the bands in front of the layers; 0 for a linear map alone.", checks.integer(0, 10_000)
    )
    normalise: str | None = option(
        None,
        f"Frames by mean and spread of each {', '.join(NORMALISE[:-1])}, or as they come (`running`).",
        checks.choice(*NORMALISE),
        shown="utterance; `running` where direction is `forward`",
    )
    speeds: str = option("0.9,1,1.1", "Speeds at which training recordings are heard.", _speeds, listed="NUMBERS")
    frequency_masks: int = option(2, "Masks over bands (SpecAugment).", checks.integer(0, 100))
    frequency_width: int = option(15, "Bands of a mask at most, of 80.", checks.integer(1, 80))
    time_masks: int = option(2, "Masks over time (SpecAugment).", checks.integer(0, 100))
    time_width: int = option(
        20, "Frames of a mask at most, and never more than a fifth of a recording.", checks.integer(1, 10_000)
    )
    noise: float = option(
        0.0, "Share of recordings that are heard with noise, 5 to 30 dB below the speech.", checks.share
    )
    batch_seconds: float = option(25.0, "Seconds of sound in a step, with padding.", checks.number_above_zero(10**6))
    weight_decay: float = option(0.01, "Of AdamW.", checks.share)
    warmup: float = option(0.1, "Share of the steps in which the learning rate rises.", checks.share)
    average: float = option(0.99, "Decay of the mean of the weights that is kept; 0 for none.", checks.share)
    cell: Cell = again(TaskOptions, "cell", "gru")
    hidden_size: int = again(TaskOptions, "hidden_size", 160, "160, of each direction")
    num_layers: int = again(TaskOptions, "num_layers", 3)
    dropout: float = again(TaskOptions, "dropout", 0.25)
    initialise: str = again(TaskOptions, "initialise", "orthogonal")
    learning_rate: float = again(TaskOptions, "learning_rate", 2e-3)
    patience: int | None = again(TaskOptions, "patience", 20)
    epochs: int | None = again(TaskOptions, "epochs", None, f"{EPOCHS}; embedded speech: {EMBEDDED_EPOCHS}")

    def check(self) -> None:
        super().check()
        if self.window is not None and self.window < self.stride:
            raise InputError(f"window must be at least stride, {self.stride}, got {self.window}")
