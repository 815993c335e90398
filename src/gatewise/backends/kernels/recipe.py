"""Calls of operators: a program is built for a cell, sizes and strides once, and found again.

Sizes, strides and the number of threads are all that a program depends on; what the tensors hold never is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gatewise.backends import signature
from gatewise.backends.kernels.memory import Memory
from gatewise.backends.kernels.program import Program

REMEMBERED = 1024
"""Programs that are kept; some tens of kilobytes each."""


@dataclass
class Recipe:
    """A program, and what it makes of tensors."""

    program: Program
    results: list[Tensor]
    """Prototypes."""
    dense: list[int]
    """The tensors that kernels need contiguous and that do not come so."""
    names: list[str]
    """Of the tensors, for who reads errors."""
    extents: list[int]
    """Bytes from the first to behind the last number of each tensor."""

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The results, in memory of their own.

        Raises:
            RuntimeError: for a tensor without the memory that its shape asks for.
        """
        addresses = [t.data_ptr() for t in tensors]
        if 0 in addresses or not self._there(tensors):
            tensors = [t.new_zeros(t.shape) if t._is_zerotensor() else t for t in tensors]  # zeros without memory
            signature.check_memory(tensors, self.names, self.program.dtype)
            addresses = [t.data_ptr() for t in tensors]
        if self.dense:
            copies = {k: tensors[k].contiguous() for k in self.dense}
            for k, copy in copies.items():
                addresses[k] = copy.data_ptr()
        results = [self.program.like(prototype) for prototype in self.results]
        self.program(addresses + [r.data_ptr() for r in results])
        return results

    def _there(self, tensors: Sequence[Tensor]) -> bool:
        """Whether all tensors have the memory that their shape asks for: what may change from call to call, beside an
        address of zero."""
        size = self.program.size
        for tensor, extent in zip(tensors, self.extents, strict=True):
            if extent + size * tensor.storage_offset() > tensor.untyped_storage().nbytes() and extent:
                return False
        return True


class Builder:
    """Names the tensors of a call to a program, in their order, then the results."""

    def __init__(self, program: Program, tensors: Sequence[Tensor], names: Sequence[str]) -> None:
        self.program, self._names = program, list(names)
        self._tensors, self._next = tensors, 0
        self._dense: list[int] = []
        self._results: list[Tensor] = []

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
        return self._with_strides(tensor)

    def in_place(self) -> Memory:
        """The next tensor, which is written: its last dimension must be contiguous."""
        tensor = self._tensors[self._next]
        if (tensor.stride(-1) != 1 and tensor.shape[-1] > 1) or signature.overlaps_itself(tensor):
            raise ValueError(
                "what is filled must be contiguous in its last dimension and hold each number once, "
                f"got strides {tensor.stride()} for shape {tuple(tensor.shape)}"
            )
        self._next += 1
        return self._with_strides(tensor)

    def _with_strides(self, tensor: Tensor) -> Memory:
        """A dimension of size 1 may have any stride, also one that looks like an address; nobody goes along it."""
        strides = [stride if n > 1 else 0 for n, stride in zip(tensor.shape, tensor.stride(), strict=True)]
        return self.program.tensor(tuple(tensor.shape), strides)

    def result(self, *shape: int) -> Memory:
        """Another result; only after all tensors."""
        assert self._next == len(self._tensors)
        self._results.append(self.program.prototype(shape))
        return self.program.tensor(shape)

    def finish(self) -> Recipe:
        self.program.finish()
        extents = [signature.extent(t) for t in self._tensors]
        return Recipe(self.program, self._results, self._dense, self._names, extents)


_recipes: dict[tuple[object, ...], Recipe] = {}


def find(identity: tuple[object, ...], threads: int, tensors: Sequence[Tensor], build: Callable[[], Recipe]) -> Recipe:
    """The recipe of this name for tensors like these, and for so many threads."""
    key = (identity, threads, *[(t.shape, t.stride(), t.dtype) for t in tensors])
    known = _recipes.get(key)
    if known is None:
        if len(_recipes) >= REMEMBERED:
            _recipes.clear()  # whoever varies sizes without end builds again, and takes no memory
        known = _recipes[key] = build()
    return known
