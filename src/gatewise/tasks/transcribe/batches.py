"""Batches of recordings by duration, as they are heard in training: at other speeds, with noise, behind masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.tasks.objective import own_rows
from gatewise.tasks.text.batching import padded
from gatewise.tasks.transcribe.features import BANDS, SHIFT, Frames
from gatewise.tasks.transcribe.units import BLANK

POOL = 8
"""Batches that are drawn together and sorted by length: enough to pad little, few enough to stay random."""
MOST_HIDDEN = 0.2
"""Share of a recording that one mask over time hides at most (Park et al. 2019, "SpecAugment", section 2)."""
QUIETEST, LOUDEST = 30.0, 5.0
"""Decibels that noise lies below the mean power of the recording."""
STEEPEST = 6.0
"""Decibels by which the power of noise falls from each octave of bands to the next at most: brown noise."""


@dataclass  # Fabric hands it to processes and refuses frozen ones
class Batch:
    """(B, T, bands) frames, zero past their lengths, (B,); (B, L) tokens, filled up with blanks, and their lengths."""

    frames: Tensor
    lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor

    def share(self, rank: int, world: int) -> Batch:
        """The rows of one of ``world`` processes."""
        own = own_rows(len(self.frames), rank, world)
        return Batch(self.frames[own], self.lengths[own], self.tokens[own], self.token_lengths[own])


def batch_of(frames: Sequence[Frames], tokens: Sequence[Sequence[int]]) -> Batch:
    """Recordings and their transcripts as one batch."""
    return Batch(
        *joined(frames), padded([list(row) for row in tokens], BLANK), torch.tensor([len(row) for row in tokens])
    )


def joined(frames: Sequence[Frames]) -> tuple[Tensor, Tensor]:
    """(B, longest, bands) and (B,): recordings with zeros behind the shorter ones, and their lengths."""
    lengths = [len(one) for one in frames]
    found = torch.zeros(len(frames), max(lengths), BANDS)
    for row, one in enumerate(frames):
        found[row, : len(one)] = torch.from_numpy(one)
    return found, torch.tensor(lengths)


def by_duration(lengths: NDArray[np.int64], frames: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """The numbers of recordings of one pass, in another order each time: those of a batch of like length, which with
    its padding has at most so many frames, or is one recording."""
    order = generator.permutation(len(lengths))
    pool = max(1, round(POOL * frames / max(1.0, float(lengths.mean()))))
    for start in range(0, len(order), pool):
        own = order[start : start + pool]
        cuts = list(cut_by_duration(own[np.argsort(lengths[own], kind="stable")], lengths, frames))
        for k in generator.permutation(len(cuts)):
            yield cuts[k]


def cut_by_duration(order: NDArray[np.int64], lengths: NDArray[np.int64], frames: int) -> Iterator[NDArray[np.int64]]:
    """Recordings, the shortest first, in batches of at most so many frames."""
    start = 0
    for k in range(1, len(order) + 1):
        if k == len(order) or (k + 1 - start) * lengths[order[k]] > frames:
            yield order[start:k]
            start = k


def frames_of(seconds: float) -> int:
    """How many frames are in so many seconds."""
    return max(1, round(seconds / SHIFT))


def with_noise(frames: Frames, generator: np.random.Generator) -> Frames:
    """Frames as if there were a steady noise in the room, of a colour from white to brown.

    Powers of sounds that have nothing to do with each other add up on average, so they are added band by band; the
    noise's own vary from frame to frame as those of a band of Gaussian noise do.
    """
    decibels = generator.uniform(LOUDEST, QUIETEST)
    power = np.exp(frames.astype(np.float64))
    octaves = np.linspace(0.0, np.log2(BANDS), BANDS)
    shape = 10 ** (-generator.uniform(0.0, STEEPEST) * octaves / 10)
    level = power.mean() * 10 ** (-decibels / 10) / shape.mean()
    freedom = 2.0 + np.arange(BANDS) / 8  # wider bands hold more bins of the spectrum, whose powers average out
    varied = generator.gamma(freedom, 1 / freedom, size=power.shape)
    noisy: Frames = np.log(power + level * shape * varied).astype(np.float32)
    return noisy


@dataclass(frozen=True)
class Masks:
    """SpecAugment without warping: bands and stretches of time that are hidden behind zeros, the mean."""

    bands: int
    widest: int
    stretches: int
    longest: int

    def hide(self, frames: Frames, generator: np.random.Generator) -> Frames:
        """Normalised frames with masks; widths are drawn evenly, from none to the widest."""
        frames = frames.copy()
        for _ in range(self.bands):
            width = int(generator.integers(0, min(self.widest, BANDS) + 1))
            start = int(generator.integers(0, BANDS - width + 1))
            frames[:, start : start + width] = 0.0
        for _ in range(self.stretches):
            width = int(generator.integers(0, min(self.longest, int(MOST_HIDDEN * len(frames))) + 1))
            start = int(generator.integers(0, len(frames) - width + 1))
            frames[start : start + width] = 0.0
        return frames
