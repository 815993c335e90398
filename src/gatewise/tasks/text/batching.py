"""Batches of sequences of like length, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.tasks.errors import InputError

POOL = 32
"""Batches that are drawn together and sorted by length: enough to pad little, few enough to stay random."""


def padded(rows: Sequence[Sequence[int]], value: int = 0) -> Tensor:
    """(B, longest) int64 ids, filled up with ``value``."""
    out = torch.full((len(rows), max(map(len, rows))), value)
    for k, row in enumerate(rows):
        out[k, : len(row)] = torch.tensor(row)
    return out


def by_length(lengths: NDArray[Any], size: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Passes over sequences without end, each in another order: the indices of a batch of like length at a time.

    Args:
        lengths: (sequences,) or (sequences, several), the first counts most. size: sequences of a batch.

    Raises:
        InputError: where there is no sequence.
    """
    keys = np.atleast_2d(lengths.T)
    if not keys.shape[1]:
        raise InputError("data: there is no sequence to train on, expected at least one")
    while True:
        order = generator.permutation(keys.shape[1])
        for start in range(0, len(order), POOL * size):
            pool = order[start : start + POOL * size]
            pool = pool[np.lexsort(keys[::-1, pool])]
            cuts = [pool[k : k + size] for k in range(0, len(pool), size)]
            for k in generator.permutation(len(cuts)):
                yield cuts[k]
