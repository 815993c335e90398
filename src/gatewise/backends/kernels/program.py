"""A call as a list of kernels whose frames are written beforehand, but for the addresses: these come with every call.

Whoever builds a program names its tensors by ``tensor``, its scratch memory by ``take``, and says in order what is to
be done: plans, sums, copies. All of that works on symbolic addresses: numbers from 2^51 on, which no size, stride or
mask reaches. A call then allocates the scratch memory once, puts the real addresses in and runs the list.

What a machine adds to this are the abstract methods: constants in its memory, its kernels, and how the list is run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gatewise.backends.kernels.memory import Memory, Place, Rows, dense
from gatewise.compiler.schedule import Plan

UNIT = 1 << 52
"""Symbolic addresses of one tensor and of the next lie that far apart; offsets may be negative."""
ALIGNMENT = 64

Weights = Callable[[str], tuple[int, int]]
"""Address and bytes per row of a weight by its name in the plans."""


class Packed:
    """A plan made ready for some rows and units, its weights packed: what the machine needs to run it."""


@dataclass(frozen=True)
class Job:
    """``total += Σ δ[:, first : first + M]ᵀ · operand``, or without the plus where nothing is in the total yet."""

    first: int
    total: Memory
    """(M, N), dense."""
    operand: tuple[Rows, ...]
    """As many rows of N numbers as δ has, in one or two pieces; none: a sum of δ alone, N = 1."""
    fresh: bool = False
    """Whether the total is memory that nobody has written."""


class Stage(NamedTuple):
    """A kernel in the list."""

    code: int
    frame: int
    """Where its frame begins, in numbers."""
    threads: int
    apart: bool
    owner: int | None
    """The thread that runs it by itself, while others do theirs; None for a stage of all that are worth it."""
    meets: bool
    """Whether all threads wait for each other before it, whoever runs it."""


class Program(ABC):
    """The kernels of a call, in order.

    Args:
        dtype: of the numbers. weight_size: bytes of a weight as steps read it, packed.
    """

    def __init__(self, dtype: torch.dtype, weight_size: int) -> None:
        self.dtype, self.size, self.weight_size = dtype, dtype.itemsize, weight_size
        self.tensors = 0
        """How many every call brings."""
        self.frames: list[int] = []
        self.stages: list[Stage] = []
        self._taken = self.most = 0
        self.owner: int | None = None
        self._meets = False

    # Memory

    def tensor(self, shape: Sequence[int], strides: Sequence[int] | None = None) -> Memory:
        """The next of the tensors that every call brings; strides in numbers, contiguous without."""
        self.tensors += 1
        base = (self.tensors + 1) * UNIT
        if strides is None:
            return dense(base, shape, self.size)
        return Memory(base, tuple(shape), tuple(s * self.size for s in strides))

    def take(self, *shape: int) -> Memory:
        """Scratch memory, aligned to a cache line."""
        memory = dense(UNIT + self._taken, shape, self.size)
        self._taken += -(-memory.numbers * self.size // ALIGNMENT) * ALIGNMENT
        self.most = max(self.most, self._taken)
        return memory

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Scratch memory taken within is free again afterwards."""
        taken = self._taken
        yield
        self._taken = taken

    @abstractmethod
    def zeros(self, count: int) -> int:
        """The address of so many zeros, which nobody writes."""

    @abstractmethod
    def prototype(self, shape: tuple[int, ...]) -> Tensor:
        """What ``like`` makes results of this shape from."""

    @abstractmethod
    def like(self, prototype: Tensor) -> Tensor:
        """Memory for a result, there now; filled with NaN under ``torch.use_deterministic_algorithms``."""

    # What is done

    @abstractmethod
    def packed(
        self,
        key: str,
        plan: Plan,
        *,
        steps: int,
        rows: int,
        units: int,
        widths: Mapping[str, int],
        weights: Weights,
        transposed: bool,
        like: Packed | None = None,
    ) -> Packed:
        """Make a plan ready for so many rows and units, and pack its weights into scratch memory where that pays for
        the steps that will run on them.

        Args:
            key: names the plan among all plans. widths: columns of each array that is an operand of a product, where
                they are not ``units``. transposed: whether the rows of a weight are units; else its columns are.
            like: the plan for another number of rows, whose packed weights may serve.
        """

    @abstractmethod
    def run(self, packed: Packed, *, steps: int, places: Mapping[str, Place]) -> None:
        """Run a plan over ``steps`` steps; ``places`` has every array of it."""

    @abstractmethod
    def reduce(self, delta: Memory, jobs: Sequence[Job]) -> None:
        """Sums over time and batch, for gradients of weights and biases; ``delta`` is (rows, numbers)."""

    @abstractmethod
    def flat(self, entry: str, out: int, count: int, a: int = 0, b: int = 0) -> None:
        """``clear``, ``copy`` or ``add`` so many numbers."""

    @abstractmethod
    def sums(self, entry: str, out: int, units: int, rows: int, a: tuple[int, int], b: tuple[int, int]) -> None:
        """``product_sums`` or ``scaled_sums``: OUT += Σ A[row] · B[row] over rows, where B has ``units`` numbers in a
        row, or one; a and b are addresses and bytes per row."""

    def add(self, count: int, a: int, b: int) -> int:
        """The address of the sums of so many numbers."""
        out = self.take(count).base
        self.flat("add", out, count, a, b)
        return out

    def stage(self, code: int, frame: Sequence[int], *, threads: int = 1, apart: bool = False) -> None:
        """A kernel ``code(frame, thread, threads)``.

        Args:
            threads: how many it is worth; one runs on the first thread alone.
            apart: it neither reads what the stages since the last barrier write, nor writes what they use.
        """
        self.stages.append(Stage(code, len(self.frames), threads, apart, self.owner, self._meets))
        self.frames += frame
        self._meets = False

    @contextmanager
    def alone(self, owner: int) -> Iterator[None]:
        """What is added within is run by this thread by itself, one stage after another, while the others run what is
        theirs. A program that uses this does so from its first stage to its last."""
        self._taken = self.most  # what one thread gives back another does not take: they use it at one time
        self.owner = owner
        yield
        self.owner = None

    def meet(self) -> None:
        """All threads wait for each other before what is added next."""
        self._meets = True

    # Calls

    @abstractmethod
    def finish(self) -> None:
        """Nothing is added any more: lay down what calls need."""

    @abstractmethod
    def __call__(self, addresses: Sequence[int]) -> None:
        """Run on real memory: the addresses of the tensors in the order in which they were named."""

    def relocations(self) -> list[tuple[int, int, int]]:
        """The numbers of the frames that are addresses: (place in the frames, 1 for scratch memory or 2 and on for
        tensors, offset in bytes)."""
        found = []
        for k, number in enumerate(self.frames):
            if number >= UNIT // 2:
                index = (number + UNIT // 2) // UNIT
                found.append((k, index, number - index * UNIT))
        return found

    def barriers(self) -> Iterator[bool]:
        """Before which stages all threads meet: those with a stage behind them whose results they need."""
        pending = False
        shared = False
        for stage in self.stages:
            if stage.owner is not None:
                yield stage.meets
                continue
            waits = pending and not stage.apart and (shared or stage.threads > 1)
            if waits:
                shared = False
            pending, shared = True, shared or stage.threads > 1
            yield waits
