"""A call as a list of kernels whose frames are written beforehand, but for the addresses: these come with every call.

Whoever builds a program names its tensors by ``tensor``, its scratch memory by ``take`` and its kernels by ``stage``.
All of that works on symbolic addresses: numbers from 2^51 on, which no size, stride or mask reaches. A call then
allocates the scratch memory once and makes one native call: the driver copies the frames, adds the real addresses, and
runs all kernels in one parallel region.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gatewise.backends.cpu import arrays, driver, jit, openmp, pages
from gatewise.backends.cpu.tiers import get

UNIT = 1 << 52
"""Symbolic addresses of one tensor and of the next lie that far apart; offsets may be negative."""
ALIGNMENT = 64
_CPU = torch.device("cpu")  # said, since torch.set_default_device may say another
_WORTH_SHARING = 1 << 17
"""Numbers whose sums or copies are worth a parallel region."""


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
    """Contiguous memory."""
    strides, stride = [], size
    for n in reversed(shape):
        strides.append(stride)
        stride *= n
    return Memory(base, tuple(shape), tuple(reversed(strides)))


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Uninitialised memory; filled with NaN under ``torch.use_deterministic_algorithms``, which tests use."""
    memory = torch.empty(shape, dtype=dtype, device=_CPU)
    if memory.nbytes >= pages.WORTH:
        pages.ask(memory.data_ptr(), memory.nbytes)
    return memory


class _Stage(NamedTuple):
    code: int
    frame: int
    """Where its frame begins, in numbers."""
    threads: int
    apart: bool


class Program:
    """The kernels of a call, in order.

    Args:
        tier, dtype: of the numbers' arithmetic.
    """

    def __init__(self, tier: str, dtype: torch.dtype) -> None:
        self.tier, self.dtype, self.size = tier, dtype, dtype.itemsize
        self._frames: list[int] = []
        self._stages: list[_Stage] = []
        self._tensors = 0
        self._constants: list[Tensor] = []
        self._taken = self._most = 0

    # Building

    def tensor(self, shape: Sequence[int], strides: Sequence[int] | None = None) -> Memory:
        """The next of the tensors that every call brings; strides in numbers, contiguous without."""
        self._tensors += 1
        base = (self._tensors + 1) * UNIT
        if strides is None:
            return dense(base, shape, self.size)
        return Memory(base, tuple(shape), tuple(s * self.size for s in strides))

    def take(self, *shape: int) -> Memory:
        """Scratch memory, aligned to a cache line."""
        memory = dense(UNIT + self._taken, shape, self.size)
        self._taken += -(-memory.numbers * self.size // ALIGNMENT) * ALIGNMENT
        self._most = max(self._most, self._taken)
        return memory

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Scratch memory taken within is free again afterwards."""
        taken = self._taken
        yield
        self._taken = taken

    def zeros(self, count: int) -> int:
        """The address of so many zeros, which nobody writes."""
        self._constants.append(torch.zeros(count, dtype=self.dtype, device=_CPU))
        return self._constants[-1].data_ptr()

    def constant(self, value: float) -> int:
        """The address of a number, which nobody writes."""
        self._constants.append(torch.full((1,), value, dtype=self.dtype, device=_CPU))
        return self._constants[-1].data_ptr()

    def add(self, count: int, a: int, b: int) -> int:
        """The address of the sums of so many numbers."""
        out = self.take(count).base
        self.flat("add", out, count, a, b)
        return out

    def flat(self, entry: str, out: int, count: int, a: int = 0, b: int = 0) -> None:
        """``clear``, ``copy`` or ``add`` so many numbers."""
        threads = openmp.threads() if count > _WORTH_SHARING else 1
        self.stage(arithmetic(self.tier, self.dtype).address(entry), [out, count, a, b, 0, 0, 0], threads=threads)

    def sums(
        self, entry: str, out: int, units: int, rows: int, a: tuple[int, int], b: tuple[int, int] = (0, 0)
    ) -> None:
        """Sums over rows, see ``arrays``; a and b are addresses and bytes per row."""
        threads = openmp.threads() if rows * units > _WORTH_SHARING else 1
        frame = [out, units, a[0], b[0], a[1], b[1], rows]
        self.stage(arithmetic(self.tier, self.dtype).address(entry), frame, threads=threads)

    def stage(self, code: int, frame: Sequence[int], *, threads: int = 1, apart: bool = False) -> None:
        """A kernel ``code(frame, thread, threads)``.

        Args:
            threads: how many it is worth; one runs on the first thread alone.
            apart: it neither reads what the stages since the last barrier write, nor writes what they use.
        """
        self._stages.append(_Stage(code, len(self._frames), threads, apart))
        self._frames += frame

    def finish(self) -> None:
        """What calls need, in the memory that the driver reads."""
        threads = max((s.threads for s in self._stages), default=1)
        moving = [(k, number) for k, number in enumerate(self._frames) if number >= UNIT // 2]
        self._template = (ctypes.c_int64 * len(self._frames))(*self._frames)
        relocations: list[int] = []
        for k, number in moving:
            index = (number + UNIT // 2) // UNIT
            self._template[k] = number - index * UNIT
            relocations += (k, index)
        self._relocations = (ctypes.c_int64 * len(relocations))(*relocations)
        stages: list[int] = []
        for stage, waits in zip(self._stages, self._barriers(), strict=True):
            stages += (stage.code, 8 * stage.frame, int(stage.threads > 1), int(waits))
        self._list = (ctypes.c_int64 * len(stages))(*stages)
        memory = (self._template, self._relocations, self._list)
        template, relocated, listed = (ctypes.addressof(m) for m in memory)
        counts = 8 * len(self._frames), len(moving), len(self._stages)
        self._description = (ctypes.c_int64 * driver.SLOTS)(
            threads, template, counts[0], self._most, relocated, counts[1], listed, counts[2]
        )
        self._bytes = self._most + counts[0] + ALIGNMENT
        self._call = _driver(self.tier)
        self._arguments = struct.Struct(f"{2 + self._tensors}q")
        self._address = ctypes.addressof(self._description)

    def _barriers(self) -> Iterator[bool]:
        """Before which stages all threads meet: those with a stage behind them whose results they need."""
        pending = False
        shared = False
        for stage in self._stages:
            waits = pending and not stage.apart and (shared or stage.threads > 1)
            if waits:
                shared = False
            pending, shared = True, shared or stage.threads > 1
            yield waits

    # Running

    @property
    def scratch_bytes(self) -> int:
        """What a call allocates beside its results."""
        return self._bytes

    def __call__(self, tensors: Sequence[Tensor]) -> None:
        """Run on real memory: the tensors in the order in which they were named."""
        scratch = empty((self._bytes,), torch.uint8)
        address = scratch.data_ptr()
        aligned = address + -address % ALIGNMENT
        self._call(self._arguments.pack(self._address, aligned, *[t.data_ptr() for t in tensors]))


@lru_cache(maxsize=16)
def arithmetic(tier: str, dtype: torch.dtype) -> jit.Kernel:
    """The kernels of ``arrays``."""
    name, chosen = str(dtype).removeprefix("torch."), get(tier)
    return jit.load(f"arrays {name}", lambda: arrays.emit(name, chosen.vector_bytes), chosen, arrays.ENTRIES)


@lru_cache(maxsize=16)
def _driver(tier: str) -> Callable[[bytes], None]:
    address = jit.load("driver", lambda: driver.IR, get(tier), ("program",)).address("program")
    return ctypes.CFUNCTYPE(None, ctypes.c_char_p)(address)  # releases the interpreter lock during the call
