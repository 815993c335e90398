"""Calls of operators: a program is built for a cell, sizes and strides once, and found again.

Sizes, strides and the number of threads are all that a program depends on; what the tensors hold never is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gatewise.backends.cpu import openmp, program, tiers
from gatewise.backends.cpu.program import Memory, Program

REMEMBERED = 1024
"""Programs that are kept; some tens of kilobytes each."""


@dataclass
class Recipe:
    """A program, and what it makes of tensors."""

    program: Program
    results: list[tuple[int, ...]]
    """Shapes."""
    dense: list[int]
    """The tensors that kernels need contiguous and that do not come so."""

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The results, in memory of their own."""
        if self.dense:
            tensors = list(tensors)
            for k in self.dense:
                tensors[k] = tensors[k].contiguous()
        dtype = self.program.dtype
        results = [program.empty(shape, dtype) for shape in self.results]
        self.program([*tensors, *results])
        return results


class Builder:
    """Names the tensors of a call to a program, in their order, then the results."""

    def __init__(self, tier: str, tensors: Sequence[Tensor]) -> None:
        self.program = Program(tiers.here(tier), tensors[0].dtype)
        self._tensors, self._next = tensors, 0
        self._dense: list[int] = []
        self._results: list[tuple[int, ...]] = []

    def dense(self) -> Memory:
        """The next tensor, contiguous."""
        tensor = self._tensors[self._next]
        if not tensor.is_contiguous():
            self._dense.append(self._next)
        self._next += 1
        return self.program.tensor(tuple(tensor.shape))

    def lanes(self) -> Memory:
        """The next tensor, whose last dimension is contiguous; the others have any stride, zero included."""
        tensor = self._tensors[self._next]
        if tensor.stride(-1) != 1:
            return self.dense()
        self._next += 1
        return self.program.tensor(tuple(tensor.shape), tensor.stride())

    def in_place(self) -> Memory:
        """The next tensor, which is written: its last dimension must be contiguous."""
        tensor = self._tensors[self._next]
        if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            raise ValueError(
                f"what is filled must be contiguous in its last dimension, but has strides {tensor.stride()}"
            )
        self._next += 1
        return self.program.tensor(tuple(tensor.shape), tensor.stride())

    def result(self, *shape: int) -> Memory:
        """Another result; only after all tensors."""
        assert self._next == len(self._tensors)
        self._results.append(shape)
        return self.program.tensor(shape)

    def finish(self) -> Recipe:
        self.program.finish()
        return Recipe(self.program, self._results, self._dense)


_recipes: dict[tuple[object, ...], Recipe] = {}


def find(identity: tuple[object, ...], tensors: Sequence[Tensor], build: Callable[[], Recipe]) -> Recipe:
    """The recipe of this name for tensors like these."""
    key = (*identity, openmp.threads(), tensors[0].dtype, *[(t.shape, t.stride()) for t in tensors])
    found = _recipes.get(key)
    if found is None:
        if len(_recipes) >= REMEMBERED:
            _recipes.clear()  # whoever varies sizes without end builds again, and takes no memory
        found = _recipes[key] = build()
    return found
