"""Batches of sentences of like length, padded to their longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatewise.tasks.objective import own_rows
from gatewise.tasks.text.batching import by_length, padded
from gatewise.tasks.text.vocabulary import END, PAD, START


@dataclass  # Fabric hands it to processes and refuses frozen ones
class Batch:
    """Sentences in pieces: (B, S) and (B, T) int64 ids, padded; lengths on the CPU.

    ``given`` starts with ``<s>``; ``wanted`` is the same one step later and ends with ``</s>``.
    """

    source: Tensor
    source_lengths: Tensor
    given: Tensor
    wanted: Tensor

    @property
    def counts(self) -> Tensor:
        """(B, T) bool: the steps that are no padding."""
        return self.wanted != PAD

    def share(self, rank: int, world: int) -> Batch:
        """The rows of one of ``world`` processes."""
        own = own_rows(len(self.source), rank, world)
        return Batch(self.source[own], self.source_lengths[own], self.given[own], self.wanted[own])


def batch_of(source: Sequence[list[int]], target: Sequence[list[int]]) -> Batch:
    """Sentences as one batch."""
    lengths = torch.tensor([len(row) for row in source])
    given, wanted = padded([[START, *row] for row in target]), padded([[*row, END] for row in target])
    return Batch(padded(source), lengths, given, wanted)


def batches(
    source: Sequence[list[int]], target: Sequence[list[int]], size: int, generator: np.random.Generator
) -> Iterator[Batch]:
    """Passes over the pairs without end, each in another order."""
    lengths = np.array([(len(t), len(s)) for s, t in zip(source, target, strict=True)])
    for chosen in by_length(lengths, size, generator):
        yield batch_of([source[i] for i in chosen], [target[i] for i in chosen])
