"""Packed weights of int8 layers, held from call to call of a few steps.

Such a call reads each weight once or twice, so that to pack them takes longer than to multiply. What is held is used
only where it was made of the very weights that are there now: narrow weights are never written into (see ``narrow``),
and of biases, which are parameters, every bit is compared at each call.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Parameter

from gatewise.backends import EAGER, choose, get
from gatewise.backends.base import Engine
from gatewise.nn.base import CellModule
from gatewise.nn.narrow import PACKINGS, Narrow
from gatewise.torch_internals import observed

STEPS = 8
"""Steps of a call at most. A layer with 64 inputs and 96 units packs in the time of about so many."""
KEPT = 4
"""Packings of a layer, for other directions and numbers of rows; the oldest goes."""


@dataclass
class _Packing:
    """Steps of one direction for so many rows, and the weights that they were made of."""

    engine: Engine
    narrow: Mapping[str, Narrow] | None
    others: tuple[Tensor, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)


def run(
    module: CellModule, names: dict[str, str], x: Tensor, states: Sequence[Tensor], reverse: bool
) -> tuple[Tensor, list[Tensor]] | None:
    """A direction of an int8 layer over a few steps: outputs and final states, with the bits of ``ops.run``; None where
    that has to do it.

    Args:
        names: of the direction's parameters, by those of ``Cell.parameter_shapes``. x: (T, B, width). states: (B,
            hidden_size) each.
    """
    if not _suits(module, x, states):
        return None
    choice, others = choose(x.device, x.dtype, module.quantised), _others(module, names)
    if choice.name == EAGER or module.cell.inputs or others is None:
        return None
    rows = int(x.shape[1])
    own: dict[tuple[object, ...], _Packing] = module.__dict__.setdefault(PACKINGS, {})
    key = (*names.values(), rows, choice.name, choice.tier)
    known = own.get(key)
    if known is None or known.narrow is not module._narrow or not all(map(_same, others, known.others)):
        known = _packed(module, names, x, others, choice.name, choice.tier)
        if known is None:
            return None
        while len(own) >= KEPT:
            own.pop(next(iter(own)), None)
        own[key] = known
    if not known.lock.acquire(blocking=False):  # another thread is in the middle of its steps
        return None
    try:
        return _stepped(known.engine, x, states, reverse)
    finally:
        known.lock.release()


def _suits(module: CellModule, x: Tensor, states: Sequence[Tensor]) -> bool:
    if module.quantised != torch.int8 or torch.compiler.is_compiling() or observed():
        return False
    for t in (x, *states):
        if type(t) is not Tensor or not t.is_cpu or t.dtype != torch.float32 or t.is_neg():
            return False
    return 0 < x.shape[0] <= STEPS and x.shape[1] > 0 and x.layout == torch.strided


def _others(module: CellModule, names: dict[str, str]) -> tuple[Tensor, ...] | None:
    """The parameters that are no narrow weights; None where one is no plain tensor in memory."""
    narrow, found = module._narrow or {}, []
    for full in names.values():
        if full in narrow:
            continue
        own = module._parameters.get(full)  # a parametrised one is not in there
        if type(own) is not Parameter or not own.is_cpu or not own.is_contiguous():
            return None
        if own.untyped_storage().nbytes() < own.nbytes + own.storage_offset() * own.itemsize:
            return None  # its memory was freed
        found.append(own)
    return tuple(found)


def _packed(
    module: CellModule, names: dict[str, str], x: Tensor, others: tuple[Tensor, ...], backend: str, tier: str
) -> _Packing | None:
    """None where a step is not one native call."""
    # Memory made in inference mode could not be written outside of it.
    with torch.inference_mode(False), torch.no_grad():
        held = {n: getattr(module, full) for n, full in names.items()}
        sizes = int(x.shape[2]), int(x.shape[1]), module.hidden_size
        engine = get(backend).steps(module.cell, tier, torch.float32, sizes, [held], False, None)
        return None if engine.remark else _Packing(engine, module._narrow, tuple(p.detach().clone() for p in others))


def _stepped(engine: Engine, x: Tensor, states: Sequence[Tensor], reverse: bool) -> tuple[Tensor, list[Tensor]]:
    if torch.is_grad_enabled():
        with torch.no_grad():
            return _stepped(engine, x, states, reverse)
    now, alone = engine.states, len(states) == 1
    if alone:
        now.copy_(states[0])
    else:
        now.copy_(torch.stack(list(states)).unsqueeze(1))
    x, count = x.contiguous(), x.shape[0]
    y = x.new_empty(count, *now.shape[2:])
    for t in range(count - 1, -1, -1) if reverse else range(count):
        engine.step(x[t], y[t], ())
    if alone:  # the output is the state
        return y, [y[0 if reverse else -1].clone()]
    return y, list(engine.states[:, 0].clone().unbind(0))


def _library() -> ctypes.CDLL:
    return ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)


_compare = _library().memcmp
_compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two contiguous tensors have the same bits."""
    return a.dtype == b.dtype and a.shape == b.shape and _compare(a.data_ptr(), b.data_ptr(), b.nbytes) == 0
