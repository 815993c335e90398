"""How a layer's parameters start: as torch's, orthogonal, or with biases by which gates remember."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import permutations

import torch
from torch import nn

from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import make
from gatewise.nn.layer import Layer

Initialise = str | Mapping[str, float] | Callable[[Layer], None]
"""A name of ``NAMED``; biases by gate, ``{"f": 1.0}`` or ``"f=1"``; or a function of the layer."""


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
    if not longest > 2:
        raise ValueError(f"chrono: longest must be above 2 steps, got {longest!r}")
    signs = _signs(type(layer).__name__, "chrono", layer.cell, layer.bias)
    torch_uniform(layer)
    for names in layer._parameter_names:
        like = getattr(layer, next(iter(names.values())))
        spans = torch.empty(layer.hidden_size, dtype=like.dtype, device=like.device).uniform_(1.0, longest - 1.0)
        for gate, sign in signs.items():
            _set_bias(layer, names, gate, sign * spans.log())


def remember(layer: Layer) -> None:
    """Bias 1 for the gate that keeps the state, -1 for one that renews it: the forget gate's of Gers et al. 2000 and
    Jozefowicz et al. 2015, for any cell; the rest as ``torch_uniform``.

    Raises:
        ValueError: for a cell without such a gate, or a layer without biases.
    """
    gate_biases(layer, _signs(type(layer).__name__, "remember", layer.cell, layer.bias))


def gate_biases(layer: Layer, values: Mapping[str, float]) -> None:
    """Biases of gates by name; the rest as ``torch_uniform``."""
    torch_uniform(layer)
    for names in layer._parameter_names:
        like = getattr(layer, next(iter(names.values())))
        for gate, value in values.items():
            _set_bias(layer, names, gate, like.new_full((layer.hidden_size,), float(value)))


def _signs(name: str, how: str, cell: Cell, bias: bool) -> dict[str, float]:
    """The gates that keep the state, or a sentence why there are none to set."""
    if not bias:
        raise ValueError(f"{name}: {how} initialises biases, but bias is False")
    if not (signs := keepers(cell)):
        raise ValueError(f"{name}: {how} needs a gate that keeps the state, but cell {cell.name} has none")
    return signs


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


NAMED: dict[str, Callable[[Layer], None]] = {
    "torch": torch_uniform,
    "orthogonal": orthogonal,
    "chrono": chrono,
    "remember": remember,
}


def check(name: str, how: object, cell: Cell, bias: bool = True) -> None:
    """Raises ValueError for what is no way to start a layer of this cell; ``name`` says whose it is."""
    if callable(how) or how in ("torch", "orthogonal"):
        return
    if isinstance(how, str) and how in NAMED:
        _signs(name, how, cell, bias)
        return
    values = _values(name, how)
    for gate, value in values.items():
        if gate not in cell.rows("bias_ih"):
            known = ", ".join(cell.rows("bias_ih")) or "none"
            raise ValueError(
                f"{name}: initialise names a gate {gate!r}; those of cell {cell.name} with a bias: {known}"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name}: the bias of gate {gate!r} must be a finite number, got {value!r}")
    if not bias:
        raise ValueError(f"{name}: initialise sets biases, but bias is False")


def start(layer: Layer, how: Initialise) -> None:
    """Start the parameters of a layer so; what a function leaves alone starts as torch's."""
    if isinstance(how, str) and how in NAMED:
        NAMED[how](layer)
    elif callable(how):
        torch_uniform(layer)
        how(layer)
    else:
        gate_biases(layer, _values(type(layer).__name__, how))


def _values(name: str, how: object) -> Mapping[str, float]:
    """Biases by gate, from a mapping or a text such as ``f=1,i=-1``."""
    if isinstance(how, Mapping) and how:
        return how
    try:
        pairs = [part.split("=") for part in how.split(",")] if isinstance(how, str) else []
        found = {gate.strip(): float(value) for gate, value in pairs}
    except ValueError:
        found = {}
    if not found:
        known = ", ".join(NAMED)
        raise ValueError(f"{name}: initialise must be one of {known}, biases by gate (f=1) or a function, got {how!r}")
    return found
