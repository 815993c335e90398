"""Which backend runs a call, and why.

``cpu`` compiles the cell into kernels for this machine; ``eager`` interprets it in torch operations. Without a wish,
``cpu`` runs what it can and ``eager`` the rest, and ``Choice.reason`` says why. A backend asked for by name that
cannot run raises.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gatewise.torch_internals import constant

NAMES = ("auto", "cpu", "eager")


@dataclass(frozen=True)
class Choice:
    """A backend, the instruction tier (cpu only) and the reason in words."""

    name: str
    tier: str
    reason: str

    @property
    def matrix(self) -> bool:
        """Whether products are taken in bfloat16 on the matrix unit."""
        return self.tier.endswith("+amx")

    def __str__(self) -> str:
        return f"{self.name}/{self.tier}" if self.tier else self.name


@dataclass(frozen=True)
class _Wish:
    name: str
    tier: str | None


_wish: contextvars.ContextVar[_Wish | None] = contextvars.ContextVar("gatewise_backend", default=None)
# The same for torch.compile, which cannot trace a context variable but guards a global: a program compiled under one
# wish is compiled anew under another.
_traced_wish: _Wish | None = None


@contextlib.contextmanager
def backend(name: str, *, tier: str | None = None) -> Iterator[None]:
    """Force a backend (``"cpu"``, ``"eager"`` or ``"auto"``) and, for cpu, an instruction tier within a ``with`` block.

    Outside of any block the environment variables GATEWISE_BACKEND and GATEWISE_TIER set the default.

    Raises:
        ValueError: for a name that is none, a tier without the cpu backend, or a tier that this machine cannot run.
    """
    global _traced_wish
    token, earlier = _wish.set(_checked(name, tier)), _traced_wish
    _traced_wish = _wish.get()
    try:
        yield
    finally:
        _wish.reset(token)
        _traced_wish = earlier


def _checked(name: str, tier: str | None) -> _Wish:
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(NAMES)}, but came {name!r}")
    if tier is not None:
        from gatewise.backends.cpu import tiers

        if name == "eager":
            raise ValueError(f"tier belongs to the cpu backend, but came {tier!r} with backend 'eager'")
        if tier not in tiers.available():
            known = ", ".join(tiers.available())
            raise ValueError(f"tier must be one of {known} on this machine, but came {tier!r}{tiers.unnamed(tier)}")
    return _Wish(name, tier)


def wish() -> tuple[str, str | None]:
    """The backend and tier asked for: by a ``with`` block, else by the environment, else ``auto``."""
    current = _traced_wish if torch.compiler.is_compiling() else _wish.get()
    if current is None:
        name = os.environ.get("GATEWISE_BACKEND", "") or "auto"
        if name not in NAMES:
            raise ValueError(f"GATEWISE_BACKEND must be one of {', '.join(NAMES)}, but is {name!r}")
        return name, None
    return current.name, current.tier


def choose(device: torch.device, dtype: torch.dtype, half: torch.dtype | None = None) -> Choice:
    """The backend for a call on tensors of this device and dtype.

    Args:
        half: what weights and inputs were rounded to. In bfloat16 products may be taken on the matrix unit; not where
            a tier was asked for by name.

    Raises:
        RuntimeError: when the backend asked for by name cannot run the call.
    """
    name, tier = wish()
    if name == "eager":
        return Choice("eager", "", "asked for by name")
    problem = ""
    if device.type not in ("cpu", "meta"):
        problem = f"the cpu backend computes on the CPU, but the tensors are on {device.type}"
    elif dtype not in (torch.float32, torch.float64):
        problem = f"the cpu backend computes in float32 and float64, but the tensors are {str(dtype).split('.')[-1]}"
    elif not (chosen := tier or _default_tier(half == torch.bfloat16 and dtype == torch.float32)):
        problem = "the cpu backend writes code for x86-64 and AArch64, and this machine is neither"
    if problem:
        if name == "cpu":
            raise RuntimeError(problem)
        return Choice("eager", "", problem)
    return Choice("cpu", chosen, "asked for by name" if name == "cpu" else "compiled for this machine")


@constant
def _default_tier(matrix: bool = False) -> str:
    """The tier of this machine, its matrix unit included or not, or that of GATEWISE_TIER; empty where no tier runs. A
    constant to torch.compile."""
    return _tier_named(os.environ.get("GATEWISE_TIER", ""), matrix)


@functools.lru_cache(maxsize=16)
def _tier_named(name: str, matrix: bool) -> str:
    from gatewise.backends.cpu import tiers

    if not tiers.available():
        return ""
    found = tiers.default().name
    return tiers.with_matrix(found) if matrix and not name else found


def report() -> dict[str, object]:
    """What ``gatewise info`` prints: versions, tier, threads, the backends and why, the cache."""
    import platform

    import llvmlite
    import llvmlite.binding as llvm

    import gatewise
    from gatewise.backends import cache
    from gatewise.backends.cpu import openmp, tiers

    name, tier = wish()
    half = Choice("cpu", tier or _default_tier(True), "")
    in_half = "bfloat16 products on the matrix unit" if half.matrix else "bfloat16 computes in float32"
    return {
        "gatewise": gatewise.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "llvmlite": llvmlite.__version__,
        "llvm": ".".join(str(v) for v in llvm.llvm_version_info),
        "host": llvm.get_host_cpu_name(),
        "tier": tier or _default_tier(),
        "tiers": tiers.available(),
        "threads": openmp.threads(),
        "threading": openmp.reason(),
        "backend": name,
        "backends": {
            "cpu": "float32, float64 and bfloat16 weights on the CPU: kernels compiled from the equations; " + in_half,
            "eager": "any device and dtype: the equations in torch operations, one step after another",
        },
        **cache.report(),
    }
