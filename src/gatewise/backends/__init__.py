"""The registry of backends: which one runs a call, and why.

A backend with kernels is a package here whose ``BACKEND`` is a ``base.Backend``. Without a wish the first that can run
a call does, else ``eager``, which interprets the cell in torch operations; ``Choice.reason`` says why. A backend asked
for by name that cannot run raises.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gatewise.backends import cudnn
from gatewise.backends.base import Backend, Choice
from gatewise.backends.environment import variable
from gatewise.compiler.cell import Cell

_PACKAGES = ("gatewise.backends.cpu", "gatewise.backends.cuda")
"""In the order in which they are asked."""
REGISTERED: tuple[Backend, ...] = tuple(importlib.import_module(package).BACKEND for package in _PACKAGES)
EAGER = "eager"
NAMES = ("auto", *(backend.name for backend in REGISTERED), EAGER)
WITHOUT_KERNELS = (EAGER, cudnn.NAME)
"""Ways of a call that are no backend with kernels."""


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
    """Force a backend (``"cpu"``, ``"cuda"``, ``"eager"`` or ``"auto"``) and its tier within a ``with`` block: for cpu
    the instructions, for cuda what products are taken in.

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
        raise ValueError(f"backend must be one of {', '.join(NAMES)}, got {name!r}")
    if tier is not None:
        if name == EAGER:
            raise ValueError(f"tier belongs to a backend with kernels, got {tier!r} with backend 'eager'")
        (REGISTERED[0] if name == "auto" else get(name)).check_tier(tier)
    return _Wish(name, tier)


def wish() -> tuple[str, str | None]:
    """The backend and tier asked for: by a ``with`` block, else by the environment, else ``auto``."""
    traced = torch.compiler.is_compiling()  # torch.compile knows os.environ; into ``variable`` it would trace
    current = _traced_wish if traced else _wish.get()
    if current is None:
        name = (os.environ.get("GATEWISE_BACKEND", "") if traced else variable("GATEWISE_BACKEND")) or "auto"
        if name not in NAMES:
            raise ValueError(f"GATEWISE_BACKEND must be one of {', '.join(NAMES)}, but is {name!r}")
        return name, None
    return current.name, current.tier


def choose(
    device: torch.device,
    dtype: torch.dtype,
    half: torch.dtype | None = None,
    cell: Cell | None = None,
    units: int = 0,
) -> Choice:
    """The backend for a call on tensors of this device and dtype.

    Args:
        half: what weights and inputs were rounded to. In bfloat16 products may be taken in it; not where a tier was
            asked for by name. int8: products are of bytes, in kernels that have them or
            in ``eager``.
        cell, units: of the call. Without a wish for another, one that a backend has no room for goes to the next way,
            and on a GPU torch's own formulas to torch's functions (``cudnn``) before ``eager``.

    Raises:
        RuntimeError: when the backend asked for by name cannot run the call.
    """
    name, tier = wish()
    if name == EAGER:
        return Choice(EAGER, "", "asked for by name")
    if half == torch.int8:
        return _in_bytes(device, dtype, name, tier)
    half_products = half == torch.bfloat16 and dtype == torch.float32
    first_problem = ""
    for backend in REGISTERED:
        if name not in ("auto", backend.name):
            continue
        problem, own, matrix = backend.offer(device.type, dtype, half_products)
        if not problem and name == "auto" and cell is not None:
            problem = backend.roomless(cell, tier or own, device, units)
        if problem:
            # Of several, that of the backend which the device belongs to says most.
            first_problem = problem if backend.dispatch_key == device.type.upper() else first_problem or problem
            continue
        reason = "asked for by name" if name == backend.name else "compiled for this machine"
        return Choice(backend.name, tier, reason) if tier else Choice(backend.name, own, reason, matrix)
    if name != "auto":
        raise RuntimeError(first_problem)
    return _without_kernels(first_problem, device, dtype, cell)


def _in_bytes(device: torch.device, dtype: torch.dtype, name: str, tier: str | None) -> Choice:
    """As ``choose``, for products of bytes: no other kernels give their numbers."""
    asked = [backend for backend in REGISTERED if name in ("auto", backend.name)]
    problem = ""
    for backend in asked:
        found, own = backend.offer_bytes(device.type, dtype, tier)
        if not found:
            reason = "asked for by name" if name == backend.name else "compiled for this machine"
            return Choice(backend.name, own, reason, True)
        problem = problem or found
    if name != "auto":
        raise RuntimeError(problem)
    return Choice(EAGER, "", problem)


def _without_kernels(problem: str, device: torch.device, dtype: torch.dtype, cell: Cell | None) -> Choice:
    # A compiled program holds torch's operations: torch traces no RNN of its own.
    if cell is not None and not torch.compiler.is_compiling() and cudnn.enabled():
        formula = cudnn.formula(cell, device.type, dtype)
        if formula:
            said = f"torch's {formula} runs it, with lengths or reset the eager backend"
            return Choice(cudnn.NAME, "", f"{said}; {problem}")
    return Choice(EAGER, "", problem)


def get(name: str) -> Backend:
    """The backend with kernels of this name.

    Raises:
        ValueError: for a name that is none, as a program exported elsewhere may have.
    """
    for backend in REGISTERED:
        if backend.name == name:
            return backend
    raise ValueError(f"the backend must be one of {', '.join(b.name for b in REGISTERED)}, got {name!r}")


def kernels_asked_for() -> str:
    """The backend with kernels that was asked for by name; empty where none was."""
    name = wish()[0]
    return "" if name in ("auto", EAGER) else name


def report() -> dict[str, object]:
    """What ``gatewise info`` prints: versions, tier, threads, the backends and why, the cache."""
    import platform

    import gatewise
    from gatewise.backends import cache

    name, tier = wish()
    found: dict[str, object] = {
        "gatewise": gatewise.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    said: dict[str, object] = {}
    for backend in REGISTERED:
        found |= backend.report()
        said[backend.name] = found.pop(backend.name)
    said[cudnn.NAME] = cudnn.report()
    said[EAGER] = "any device and dtype: the equations in torch operations, one step after another"
    found |= {"tier": tier} if tier else {}
    return {**found, "backend": name, "backends": said, **cache.report()}
