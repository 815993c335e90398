"""How a layer's parameters start: as torch's, orthogonal, or so that its gates remember over a span of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import torch
from torch import nn

from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import make
from gatewise.nn.layer import Layer

Initialise = str | Callable[[Layer], None]


def torch_uniform(layer: Layer) -> None:
    """Uniform in ±1/√hidden_size, in torch's order; learned initial states are zero."""
    bound = 1.0 / math.sqrt(layer.hidden_size)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound)
    for name in layer._initial_names:
        nn.init.zeros_(getattr(layer, name))


def orthogonal(layer: Layer) -> None:
    """An orthogonal recurrent matrix for each gate (Saxe et al. 2014, arXiv 1312.6120), input weights as Glorot &
    Bengio 2010, biases zero; the rest as ``torch_uniform``."""
    torch_uniform(layer)
    for names in layer._parameter_names:
        for name, full in names.items():
            parameter = getattr(layer, full)
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2 and name != "weight_diagonal":
                for block in parameter.detach().split(layer.hidden_size):
                    (nn.init.orthogonal_ if name == "weight_hh" else nn.init.xavier_uniform_)(block)


def chrono(layer: Layer, longest: float = 100.0) -> None:
    """Biases by which the units forget over spans between 1 and ``longest`` steps (Tallec & Ollivier 2018,
    arXiv 1804.11188): log U(1, longest - 1) for the gate that keeps the state, its negative for one that renews it; the
    rest as ``torch_uniform``.

    Raises:
        ValueError: for a cell without such a gate, a layer without biases, or ``longest`` not above 2.
    """
    name = type(layer).__name__
    if not longest > 2:
        raise ValueError(f"chrono: longest must be above 2 steps, got {longest!r}")
    if not layer.bias:
        raise ValueError(f"{name}: chrono initialises biases, but bias is False")
    signs = keepers(layer.cell)
    if not signs:
        raise ValueError(f"{name}: chrono needs a gate that keeps the state, but cell {layer.cell.name} has none")
    torch_uniform(layer)
    for names in layer._parameter_names:
        like = getattr(layer, next(iter(names.values())))
        spans = torch.empty(layer.hidden_size, dtype=like.dtype, device=like.device).uniform_(1.0, longest - 1.0)
        for gate, sign in signs.items():
            _set_bias(layer, names, gate, sign * spans.log())


def keepers(cell: Cell) -> dict[str, float]:
    """Gates that, at the ends of their range, make a state stay as it is: 1 for those that do so open, else -1.

    Where none does, gates cut at zero are taken as zero: a state that decays with the time since an observation stays
    as it is when there was one just now.
    """
    gates = [g for g in cell.gates if cell.gate_value(g).op == "sigmoid"]
    for rest in ({}, {g: 0 for g in cell.gates if cell.gate_value(g).op == "relu"}):
        for gate in gates:
            for value in (1, 0):
                if _keeps(cell, {**rest, gate: value}):
                    return {gate: 2.0 * value - 1.0}
        for keep, renew in permutations(gates, 2):
            if _keeps(cell, {**rest, keep: 1, renew: 0}):
                return {keep: 1.0, renew: -1.0}
    return {}


def _keeps(cell: Cell, values: dict[str, int]) -> bool:
    try:
        pinned = cell.pin(**values)
    except ValueError:
        return False
    return any(o is make("state", (), s, "hidden") for s, o in zip(cell.states, pinned.outputs, strict=True))


def _set_bias(layer: Layer, names: dict[str, str], gate: str, value: torch.Tensor) -> None:
    """Set the bias of a gate; where it has two, as in torch, the second is zero."""
    h, remaining = layer.hidden_size, value
    for name in ("bias_ih", "bias_hh"):
        rows = layer.cell.rows(name)
        if name in names and name == "bias_hh" and layer.redundant_bias:
            rows = layer.cell.rows("weight_hh")
        if name in names and gate in rows:
            k = rows.index(gate)
            getattr(layer, names[name]).detach()[k * h : (k + 1) * h] = remaining
            remaining = torch.zeros_like(value)


NAMED: dict[str, Callable[[Layer], None]] = {"torch": torch_uniform, "orthogonal": orthogonal, "chrono": chrono}


def check(name: str, how: object) -> None:
    if not callable(how) and how not in NAMED:
        raise ValueError(f"{name}: initialise must be one of {', '.join(NAMED)} or a function, got {how!r}")
