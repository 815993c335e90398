"""Layers and single steps as graphs: inputs and states in, outputs and states out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from gatewise.compiler.cell import Cell, vector_name
from gatewise.compiler.expression import Node, make
from gatewise.compiler.masking import RESET, initial, with_reset
from gatewise.formats.onnx.builder import Builder, Value, graph, typed
from gatewise.formats.onnx.sequence import Direction, scan, step
from gatewise.formats.onnx.standard import run, standard
from gatewise.formats.onnx.step import Maps
from gatewise.nn.layer import Layer
from gatewise.nn.single_step import SingleStep

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Options:
    """What goes along with x: ``lengths`` of rows, and ``reset`` within them."""

    lengths: bool = False
    reset: bool = False


def leaf(name: str, cell: Cell, kind: str = "input") -> Node:
    """The node of an input or a vector."""
    return make(kind, (), name, cell.leaf_widths[name])


def widths(module: Layer | SingleStep) -> dict[str, int]:
    """Columns of the keyword inputs."""
    columns = {"input": module.input_size, "hidden": module.hidden_size}
    return {name: columns.get(str(width)) or int(width) for name, width in module.cell.inputs}


def single_step(module: SingleStep) -> ir.Graph:
    """(B, input_size) and the states in, the states out."""
    cell, dtype = module.cell, dtype_of(module)
    b = Builder(dtype)
    x = typed("input", dtype, ["batch", module.input_size])
    old = [typed(f"{name}_0", dtype, ["batch", module.hidden_size]) for name in cell.states]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # a parametrised one is an attribute and no parameter
    given = _arrays({name: getattr(module, name) for name in names if getattr(module, name) is not None})
    one = Direction(_maps(cell, given, module.hidden_size), [module.hidden_size] * len(old))
    new = step(b, one, {leaf("x", cell): x}, old)
    outputs = [_named(b, value, f"{name}_n") for name, value in zip(cell.states, new, strict=True)]
    for made, state in zip(outputs, old, strict=True):
        made.type, made.shape = state.type, state.shape
    return graph([x, *old], outputs, b.nodes, cell.name)


def layer(module: Layer, options: Options) -> ir.Graph:
    """A sequence and the states before it in, outputs and the states behind it out, laid out as the layer's call."""
    return _LayerGraph(module, options).graph()


class _LayerGraph:
    def __init__(self, module: Layer, options: Options) -> None:
        self.module, self.options, self.dtype = module, options, dtype_of(module)
        self.b = Builder(self.dtype)
        self.lead: list[int | str | None] = ["batch", "time"] if module.batch_first else ["time", "batch"]
        self.inputs: list[ir.Value] = []
        self.standard = None if options.reset else standard(module.cell, self.dtype)
        if len(set(module.state_sizes)) > 1:
            self.standard = None  # ONNX projects no state

    def graph(self) -> ir.Graph:
        m, b = self.module, self.b
        rows = m.num_layers * m.num_directions
        x = self._input("input", [*self.lead, m.input_size])
        whole = [typed(f"{n}_0", self.dtype, [rows, "batch", w]) for n, w in self._states()]
        self.inputs += whole
        self.lengths = typed("lengths", np.int32, ["batch"])
        self.valid = self._valid(x) if self.options.lengths else None
        reset = self._input("reset", self.lead, bool) if self.options.reset else None
        self.reset = None if reset is None else b.op("Unsqueeze", reset, b.integers(2))
        self.beside = {n: self._blank(self._input(n, [*self.lead, w])) for n, w in widths(m).items()}
        y, finals = self._blank(x), []
        for k in range(m.num_layers):
            first = k * m.num_directions
            own = [s if m.num_layers == 1 else b.rows(s, first, first + m.num_directions) for s in whole]
            y, final = self._layer(first, y, own)
            finals.append(final)
        if m.batch_first:
            y = b.op("Transpose", y, perm=[1, 0, 2])
        states = [b.concat(parts) for parts in zip(*finals, strict=True)]
        width = m.state_sizes[0] * m.num_directions
        outputs = [_named(b, y, "output", typed("", self.dtype, [*self.lead, width]))]
        for (name, _), value, given in zip(self._states(), states, whole, strict=True):
            outputs.append(_named(b, value, f"{name}_n", given))
        return graph(self.inputs, outputs, b.nodes, m.cell.name)

    def _states(self) -> list[tuple[str, int]]:
        return list(zip(self.module.cell.states, self.module.state_sizes, strict=True))

    def _input(self, name: str, shape: Sequence[int | str | None], dtype: Any = None) -> Value:
        """An input of the graph, time first."""
        given = typed(name, dtype or self.dtype, shape)
        self.inputs.append(given)
        if not self.module.batch_first:
            return given
        return self.b.op("Transpose", given, perm=[1, 0, *range(2, len(shape))])

    def _valid(self, x: Value) -> Value:
        """(T, B, 1): which steps lie before the end of their row."""
        b = self.b
        self.inputs.append(self.lengths)
        steps = b.op("Squeeze", b.op("Shape", x, start=0, end=1))
        zero, one = (b.value(np.array(n, np.int64)) for n in (0, 1))
        times = b.op("Unsqueeze", b.op("Range", zero, steps, one), b.integers(1, 2))
        ends = b.op("Unsqueeze", b.op("Cast", self.lengths, to=ir.DataType.INT64), b.integers(0, 2))
        return b.op("Less", times, ends)

    def _blank(self, value: Value) -> Value:
        """Zeros past the ends: whatever lay there reaches nothing."""
        return value if self.valid is None else self.b.op("Where", self.valid, value, 0.0)

    def _layer(self, first: int, x: Value, states: list[Value]) -> tuple[Value, list[Value]]:
        """Output and final states, (directions, B, width) each, of the directions from the one of this number on."""
        count = self.module.num_directions
        if self.standard is not None:
            ways = [self._direction(first + d, self.module.cell) for d in range(count)]
            lengths = self.lengths if self.options.lengths else None
            return run(self.b, self.standard, ways, x, states, lengths)
        outputs, finals = [], []
        for d in range(count):
            own = [self._row(state, d) for state in states]
            y, final = self._scanned(first + d, x, own)
            outputs.append(y)
            finals.append(final)
        return self.b.concat(outputs, 2), [self.b.stacked(parts) for parts in zip(*finals, strict=True)]

    def _row(self, state: Value, k: int) -> Value:
        b = self.b
        row = state if self.module.num_directions == 1 else b.rows(state, k, k + 1)
        return b.op("Squeeze", row, b.integers(0))

    def _direction(self, k: int, cell: Cell) -> Direction:
        m = self.module
        given = _arrays(m._weights(k, for_calls=False))
        reverse = m.bidirectional and k % 2 == 1
        return Direction(_maps(cell, given, m.hidden_size), m.state_sizes, given.get("weight_hr"), reverse)

    def _scanned(self, k: int, x: Value, states: list[Value]) -> tuple[Value, list[Value]]:
        m, b = self.module, self.b
        starts = m._starts(k)
        cell = m.cell if self.reset is None else with_reset(m.cell, starts is not None)
        one = self._direction(k, cell)
        moving = {leaf("x", cell): x} | {leaf(name, cell): value for name, value in self.beside.items()}
        still: dict[Node, Value] = {}
        for name, _ in cell.vectors:
            still[leaf(name, cell, "vector")] = one.maps.parameters[vector_name(name)]
        first = None
        if self.reset is not None:
            cuts, first = self._cuts(one.reverse)
            moving[leaf(RESET, cell)] = b.op("Cast", cuts, to=ir.DataType.from_numpy(self.dtype))
            for name, start in zip(m.cell.states if starts else (), starts or (), strict=True):
                still[leaf(initial(name), cell)] = array(start)
        y, finals = scan(b, one, {**moving, **still}, frozenset(still), states, x, self.valid)
        if first is not None:
            beginning = [0.0] * len(finals) if starts is None else [array(s) for s in starts]
            finals = [b.op("Where", first, s, f) for s, f in zip(beginning, finals, strict=True)]
        return y, finals

    def _cuts(self, reverse: bool) -> tuple[Value, Value | None]:
        """Before which steps of a direction the past ends, and on the way back in which rows no state leaves; see
        ``StepInputs.cuts`` and ``left``."""
        b = self.b
        if not reverse:
            return self.reset, None
        inside = self.reset if self.valid is None else b.op("And", self.reset, self.valid)
        first = b.rows(inside, 0, 1)
        none = b.op("And", first, b.op("Not", first))
        rest = b.rows(inside, 1, np.iinfo(np.int64).max)
        return b.op("Concat", rest, none, axis=0), b.op("Squeeze", first, b.integers(0))


def dtype_of(module: torch.nn.Module) -> np.dtype[Any]:
    weight = next(module.parameters(), torch.empty(0))
    return np.dtype(str(weight.dtype).removeprefix("torch."))


def _arrays(parameters: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: array(value) for name, value in parameters.items()}


def array(value: Tensor) -> Array:
    return value.detach().cpu().numpy()


def _maps(cell: Cell, parameters: Mapping[str, Array], hidden_size: int) -> Maps:
    bias = parameters.get("bias_hh")
    full = bias is not None and len(bias) != len(cell.rows("bias_hh")) * hidden_size
    return Maps(cell, parameters, hidden_size, full)


def _named(b: Builder, value: Value, name: str, like: ir.Value | None = None) -> ir.Value:
    """A value under the name of an output of the graph."""
    made: ir.Value = b.op("Identity", value)
    made.name = name
    if like is not None:
        made.type, made.shape = like.type, like.shape
    return made
