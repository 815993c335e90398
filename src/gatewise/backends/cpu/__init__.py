"""The processor as a backend: plans become LLVM IR, machine code, and calls on torch's own threads.

Nothing heavy is imported before the first call.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gatewise.backends.base import Arriving, Backend, Meaning
from gatewise.backends.environment import variable
from gatewise.backends.kernels import calls
from gatewise.backends.kernels.together import SideBySide
from gatewise.backends.signature import KERNEL_DTYPES
from gatewise.compiler.cell import Cell
from gatewise.compiler.schedule import Plan
from gatewise.torch_internals import constant

if TYPE_CHECKING:
    from gatewise.backends.cpu.program import CpuProgram
    from gatewise.backends.cpu.stream import Steps


@constant
def _default_tier(half_products: bool = False) -> str:
    """The tier of this machine, that with products in bfloat16 or the plain one, or that of GATEWISE_TIER; empty where
    no tier runs. A constant to torch.compile."""
    return _tier_named(variable("GATEWISE_TIER"), half_products)


@functools.lru_cache(maxsize=16)
def _tier_named(name: str, half_products: bool) -> str:
    from gatewise.backends.cpu import tiers

    if not tiers.available():
        return ""
    found = tiers.default().name
    return next(iter(tiers.in_bfloat16(found)), found) if half_products and not name else found


@constant
def _bytes_tier(named: str = "") -> str:
    """The tier with products of bytes, beside the one of this name or that of GATEWISE_TIER where there is one; empty
    where there is none. A constant to torch.compile."""
    return _found_bytes_tier(named or variable("GATEWISE_TIER"))


@functools.lru_cache(maxsize=16)
def _found_bytes_tier(named: str) -> str:
    from gatewise.backends.cpu import tiers

    return next(iter(tiers.in_bytes(named)), "") if named else tiers.of_bytes()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Cpu:
    """See ``base.Backend``."""

    name, dispatch_key = "cpu", "CPU"

    def __init__(self) -> None:
        self.together = SideBySide(self)

    def offer(self, device: str, dtype: torch.dtype, half_products: bool) -> tuple[str, str, bool]:
        if device not in ("cpu", "meta"):
            return f"the cpu backend computes on the CPU, but the tensors are on {device}", "", False
        if dtype not in KERNEL_DTYPES:
            return f"the cpu backend computes in float32 and float64, but the tensors are {_name(dtype)}", "", False
        tier = _default_tier(half_products)
        if not tier:
            return "the cpu backend writes code for x86-64 and AArch64, and this machine is neither", "", False
        return "", tier, half_products and tier != _default_tier()

    def offer_bytes(self, device: str, dtype: torch.dtype, tier: str | None) -> tuple[str, str]:
        if device not in ("cpu", "meta"):
            return f"the cpu backend computes on the CPU, but the tensors are on {device}", ""
        if dtype != torch.float32:
            return f"the cpu backend has int8 products beside float32, but the tensors are {_name(dtype)}", ""
        found = _bytes_tier(tier or "")
        named = f"the tier {tier}, asked for by name, has no int8 products" if tier else ""
        return ("" if found else named or "the cpu backend has int8 products on processors with AVX2"), found

    def roomless(self, cell: Cell, tier: str, device: torch.device, units: int) -> str:
        return ""

    def check_tier(self, tier: str) -> None:
        from gatewise.backends.cpu import tiers

        if tier not in tiers.available():
            known = ", ".join(tiers.available())
            raise ValueError(f"tier must be one of {known} on this machine, got {tier!r}{tiers.unnamed(tier)}")

    def threads(self) -> int:
        from gatewise.backends.cpu import openmp

        return openmp.threads()

    def program(self, tier: str, dtype: torch.dtype) -> CpuProgram:
        from gatewise.backends.cpu.program import CpuProgram

        return CpuProgram(tier, dtype)

    def idle(self, plan: Plan, steps: int, rows: int, units: int, widths: Mapping[str, int], size: int) -> bool:
        from gatewise.backends.cpu import launch

        return launch.idle(plan, steps, rows, units, widths, size, self.threads())

    def kept_dtype(self, tier: str, dtype: torch.dtype) -> torch.dtype:
        return dtype

    def forward(
        self, identity: tuple[str, str], tier: str, meaning: Meaning, tensors: Sequence[Tensor]
    ) -> list[Tensor]:
        return calls.forward(self, identity, meaning, tensors)

    def trace(
        self, identity: tuple[str, str], tier: str, meaning: Meaning, tensors: Sequence[Tensor], gates: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        return calls.trace(self, identity, meaning, tensors, gates)

    def backward(
        self,
        identity: tuple[str, str],
        tier: str,
        meaning: Meaning,
        tensors: Sequence[Tensor],
        y: Tensor,
        saved: Tensor,
        dy: Tensor | None,
        finals: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        from gatewise.backends.cpu import tiers

        if tiers.multiplies_bytes(tier):
            raise RuntimeError("a quantised layer has no gradients, and neither has a program that was exported of one")
        return calls.backward(self, identity, meaning, Arriving(tensors, y, saved, dy, finals, wanted))

    def steps(
        self,
        cell: Cell,
        tier: str,
        dtype: torch.dtype,
        sizes: tuple[int, int, int],
        parameters: Sequence[Mapping[str, Tensor]],
        halves: bool,
        threads: int | None,
    ) -> Steps:
        from gatewise.backends.cpu.stream import Steps

        return Steps(cell, tier, dtype, *sizes, parameters, halves, threads)

    def report(self) -> dict[str, object]:
        import llvmlite
        import llvmlite.binding as llvm

        from gatewise.backends.cpu import openmp, tiers

        _, half_tier, half_products = self.offer("cpu", torch.float32, True)
        in_half = f"bfloat16 multiplies on {half_tier}" if half_products else "bfloat16 computes in float32"
        in_bytes = f"int8 multiplies on {_bytes_tier()}" if _bytes_tier() else "int8 computes in torch operations"
        kinds = "float32, float64 and bfloat16 weights on the CPU: kernels compiled from the equations"
        return {
            "llvmlite": llvmlite.__version__,
            "llvm": ".".join(str(v) for v in llvm.llvm_version_info),
            "host": llvm.get_host_cpu_name(),
            "tier": _default_tier(),
            "tiers": tiers.available(),
            "threads": openmp.threads(),
            "threading": openmp.reason(),
            self.name: f"{kinds}; {in_half}; {in_bytes}",
        }


BACKEND: Backend = Cpu()
