"""Where arrays lie: addresses, sizes and strides, for any machine that counts in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor


class Memory(NamedTuple):
    """An array: address of its first number, sizes, and strides in bytes."""

    base: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def of(tensor: Tensor) -> Memory:
        size = tensor.element_size()
        return Memory(tensor.data_ptr(), tuple(tensor.shape), tuple(s * size for s in tensor.stride()))

    def at(self, k: int) -> Memory:
        """The k-th slice of the first dimension."""
        return Memory(self.base + k * self.strides[0], self.shape[1:], self.strides[1:])

    def some(self, first: int, last: int) -> Memory:
        """Slices of the first dimension."""
        return Memory(self.base + first * self.strides[0], (last - first, *self.shape[1:]), self.strides)

    @property
    def numbers(self) -> int:
        count = 1
        for n in self.shape:
            count *= n
        return count


def dense(base: int, shape: Sequence[int], size: int) -> Memory:
    """Contiguous memory; ``size``: bytes of a number."""
    strides, stride = [], size
    for n in reversed(shape):
        strides.append(stride)
        stride *= n
    return Memory(base, tuple(shape), tuple(reversed(strides)))


class Place(NamedTuple):
    """Where a plan finds an array, step after step; the fields stand in this order in frames (see ``frame``).

    The slice of step s begins at ``base + ((s + shift) & mask) * stride``; that of a carry which is read before step
    ``special`` at ``special_base``, with rows ``special_row`` bytes apart.
    """

    base: int
    stride: int = 0
    """Bytes from step to step."""
    row: int = 0
    """Bytes from row to row."""
    mask: int = -1
    """One less than the slices that serve in turn, a power of two; -1 where every step has its own."""
    shift: int = 0
    special: int = -1
    special_base: int = 0
    special_row: int = 0

    def later(self, first: int) -> Place:
        """As the steps from a later one on see it; slices that serve in turn go round on."""
        base = self.base + (first * self.stride if self.mask == -1 else 0)
        special = self.special - first if self.special >= first else -1
        return self._replace(base=base, special=special)


Rows = tuple[int, int, int]
"""Some rows of a matrix: address, bytes per row, how many."""


def portions(total: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Rows in runs of one size, each a step, and the rest as a step of its own: (first row, steps, rows of a step)."""
    whole, rest = divmod(total, size)
    if whole:
        yield 0, whole, size
    if rest:
        yield whole * size, 1, rest
