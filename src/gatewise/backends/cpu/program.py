"""Programs on the processor: one native call that copies the frames, adds the real addresses, and runs all kernels in
one parallel region."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from gatewise.backends.cpu import arrays, driver, jit, launch, openmp, pages, tiers
from gatewise.backends.cpu.reduce import reduce
from gatewise.backends.kernels.memory import Memory, Place
from gatewise.backends.kernels.program import ALIGNMENT, Job, Packed, Program, Weights
from gatewise.compiler.schedule import Plan

_CPU = torch.device("cpu")  # said, since torch.set_default_device may say another
_WORTH_SHARING = 1 << 17
"""Numbers whose sums or copies are worth a parallel region."""
_SMALL = 128 << 10
_spare: list[Tensor] = []
"""Scratch memory of so many bytes that no call uses now: as many as calls have run side by side. To take one is a
microsecond less than to allocate it."""


class CpuProgram(Program):
    """The kernels of a call on an instruction tier of this processor."""

    def __init__(self, tier: str, dtype: torch.dtype) -> None:
        self.to = launch.target(tiers.here(tier), dtype)
        super().__init__(dtype, self.to.weight_size)
        self._arithmetic = arithmetic(self.to.tier.name, dtype)
        self._constants: list[Tensor] = []

    def zeros(self, count: int) -> int:
        self._constants.append(torch.zeros(count, dtype=self.dtype, device=_CPU))
        return self._constants[-1].data_ptr()

    def prototype(self, shape: tuple[int, ...]) -> Tensor:
        return pages.prototype(shape, self.dtype)

    def like(self, prototype: Tensor) -> Tensor:
        return pages.like(prototype)

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
        entry = "transposed" if transposed else "copied"
        prepared = launch.prepare(key, plan, self.to, rows, units, widths, entry, steps)
        return launch.packed(self, prepared, self.to, units, weights, like)

    def run(self, packed: Packed, *, steps: int, places: Mapping[str, Place]) -> None:
        launch.run(self, packed, steps=steps, places=places)

    def reduce(self, delta: Memory, jobs: Sequence[Job]) -> None:
        reduce(self, self.to, self._one(), delta, jobs)

    def _one(self) -> int:
        """The address of a one, which nobody writes."""
        self._constants.append(torch.ones(1, dtype=self.dtype, device=_CPU))
        return self._constants[-1].data_ptr()

    def flat(self, entry: str, out: int, count: int, a: int = 0, b: int = 0) -> None:
        threads = openmp.threads() if count > _WORTH_SHARING else 1
        self.stage(self._arithmetic.address(entry), [out, count, a, b, 0, 0, 0], threads=threads)

    def sums(self, entry: str, out: int, units: int, rows: int, a: tuple[int, int], b: tuple[int, int]) -> None:
        threads = openmp.threads() if rows * units > _WORTH_SHARING else 1
        frame = [out, units, a[0], b[0], a[1], b[1], rows]
        self.stage(self._arithmetic.address(entry), frame, threads=threads)

    def finish(self) -> None:
        threads = max((s.threads for s in self.stages), default=1)
        self._template = (ctypes.c_int64 * len(self.frames))(*self.frames)
        relocations: list[int] = []
        for k, index, offset in self.relocations():
            self._template[k] = offset
            relocations += (k, index)
        self._relocations = (ctypes.c_int64 * len(relocations))(*relocations)
        stages: list[int] = []
        for stage, waits in zip(self.stages, self.barriers(), strict=True):
            stages += (stage.code, 8 * stage.frame, int(stage.threads > 1), int(waits))
        self._list = (ctypes.c_int64 * len(stages))(*stages)
        memory = (self._template, self._relocations, self._list)
        template, relocated, listed = (ctypes.addressof(m) for m in memory)
        counts = 8 * len(self.frames), len(relocations) // 2, len(self.stages)
        self._description = (ctypes.c_int64 * driver.SLOTS)(
            threads, template, counts[0], self.most, relocated, counts[1], listed, counts[2]
        )
        self._bytes = self.most + counts[0] + ALIGNMENT
        self._call = _driver(self.to.tier.name)
        self._arguments = struct.Struct(f"{2 + self.tensors}q")
        self._address = ctypes.addressof(self._description)

    def __call__(self, addresses: Sequence[int]) -> None:
        small = self._bytes <= _SMALL and not torch.are_deterministic_algorithms_enabled()
        try:
            scratch = _spare.pop() if small else pages.empty((self._bytes,), torch.uint8)
        except IndexError:
            scratch = pages.empty((_SMALL,), torch.uint8)
        address = scratch.data_ptr()
        aligned = address + -address % ALIGNMENT
        self._call(self._arguments.pack(self._address, aligned, *addresses))
        if small:
            _spare.append(scratch)


@lru_cache(maxsize=16)
def arithmetic(tier: str, dtype: torch.dtype) -> jit.Kernel:
    """The kernels of ``arrays``."""
    name, chosen = str(dtype).removeprefix("torch."), tiers.get(tier)
    return jit.load(f"arrays {name}", lambda: arrays.emit(name, chosen.vector_bytes), chosen, arrays.ENTRIES)


@lru_cache(maxsize=16)
def _driver(tier: str) -> Callable[[bytes], None]:
    address = jit.load("driver", lambda: driver.IR, tiers.get(tier), ("program",)).address("program")
    return ctypes.CFUNCTYPE(None, ctypes.c_char_p)(address)  # releases the interpreter lock during the call
