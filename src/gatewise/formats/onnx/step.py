"""One step of a cell as ONNX nodes, from its expression graph: any cell that can be written can be exported.

A step is parted in two: ``Before`` is what no state takes part in, which a sequence computes for all its steps at once;
``after`` is the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from itertools import count

import numpy as np

from gatewise.compiler.cell import Cell
from gatewise.compiler.definition import Use, depends_on_recurrence, weight_name
from gatewise.compiler.expression import Node, float_of, make, order, postorder
from gatewise.formats.onnx.builder import Builder, Value

OPERATORS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "softplus": "Softplus",
    "exp": "Exp",
    "log": "Log",
    "minimum": "Min",
    "maximum": "Max",
    "where": "Where",
}
"""By name of the operation: what means the same in ONNX. ``hard_sigmoid`` is written out."""
Affine = Callable[[Node], Value]
"""Gives the value of an affine map."""


def _hard_sigmoid(b: Builder, x: Value, slope: float, offset: float) -> Value:
    """As min and max, since ONNX Runtime's HardSigmoid knows float32 alone."""
    return b.op("Min", b.op("Max", b.op("Add", b.op("Mul", x, slope), offset), 0.0), 1.0)


class Maps:
    """The affine maps of a cell on given parameters, named as ``Cell.parameter_shapes``; biases may be absent.

    Args:
        parameters: arrays, or values of the graph. full: whether ``bias_hh`` has, as in torch, a block for every gate
            with a recurrent matrix; a fused use then adds both biases.
    """

    def __init__(self, cell: Cell, parameters: Mapping[str, Value], hidden_size: int, full: bool) -> None:
        self.cell, self.parameters, self.hidden_size = cell, parameters, hidden_size
        self.uses = {use.node: use for use in cell.uses}
        self._bias_hh = cell.rows("weight_hh") if full else cell.rows("bias_hh")
        numbers = count()
        self._diagonal_rows = {use.node: [next(numbers) for _ in use.diagonals] for use in cell.uses}

    def block(self, b: Builder, parameter: str, gate: str) -> Value | None:
        """The rows of a gate; None where it has none."""
        rows = self._bias_hh if parameter == "bias_hh" else self.cell.rows(parameter)
        if parameter not in self.parameters or gate not in rows:
            return None
        k = rows.index(gate)
        return b.rows(self.parameters[parameter], k * self.hidden_size, (k + 1) * self.hidden_size)

    def diagonal(self, b: Builder, row: int) -> Value:
        """A row of the element-wise weights, (1, hidden_size)."""
        return b.rows(self.parameters["weight_diagonal"], row, row + 1)

    def half(self, b: Builder, use: Use, values: Mapping[Node, Value]) -> Value | None:
        """What no state takes part in of a use: biases and products of inputs."""
        total: Value | None = None
        for owner, operand in use.inputs:
            weight = self.block(b, weight_name(owner), use.gate)
            total = _plus(b, total, b.op("MatMul", values[operand], b.transposed(weight)))
        second = use.state is not None or not use.has_input_half
        for parameter, owned in (("bias_ih", use.has_input_half), ("bias_hh", second)):
            bias = self.block(b, parameter, use.gate) if owned else None
            total = total if bias is None else _plus(b, total, bias)
        return total

    def whole(self, b: Builder, use: Use, values: Mapping[Node, Value], half: Value | None) -> Value:
        total = half
        if use.state is not None:
            weight = self.block(b, "weight_hh", use.gate)
            total = _plus(b, total, b.op("MatMul", values[use.state], b.transposed(weight)))
        for operand, row in zip(use.diagonals, self._diagonal_rows[use.node], strict=True):
            total = _plus(b, total, b.op("Mul", values[operand], self.diagonal(b, row)))
        return total

    def parts(self, node: Node) -> list[Node]:
        """What a node is computed from; of an affine map what ``whole`` reads."""
        if node.op != "affine":
            return list(node.args)
        use = self.uses[node]
        return [*use.diagonals, *([] if use.state is None else [use.state])]


def _plus(b: Builder, total: Value | None, term: Value) -> Value:
    if total is None:
        return term
    if isinstance(total, np.ndarray) and isinstance(term, np.ndarray):
        return total + term
    return b.op("Add", total, term)


def compute(b: Builder, maps: Maps, roots: Sequence[Node], values: dict[Node, Value], affine: Affine) -> None:
    """Fill ``values``, which holds what is known, with those of the roots and of what they need."""
    for node in order(roots, values, maps.parts):
        if node.op == "const":
            values[node] = float_of(node)
        elif node.op == "affine":
            values[node] = affine(node)
        elif node.op == "hard_sigmoid":
            values[node] = _hard_sigmoid(b, values[node.args[0]], *_numbers(node))
        else:
            values[node] = b.op(OPERATORS[node.op], *(values[arg] for arg in node.args))


def _numbers(node: Node) -> tuple[float, float]:
    slope, offset = node.attr if isinstance(node.attr, tuple) else ()
    return float(slope), float(offset)


class Before:
    """What of a step no state takes part in: halves of the uses, and terms that are used element-wise.

    Args:
        leaves: the values of inputs and vectors, and of expressions that are known already, with any number of axes
            in front. still: those of them that are the same at every step, and have no such axes.
    """

    def __init__(self, b: Builder, maps: Maps, leaves: Mapping[Node, Value], still: Container[Node] = ()) -> None:
        self._maps, self._leaves, self._still = maps, leaves, still
        frontier = _frontier(maps)
        operands = {use.node: [operand for _, operand in use.inputs] for use in maps.cell.uses}
        values = dict(leaves)
        compute(b, maps, [*frontier, *(node for own in operands.values() for node in own)], values, _refused)
        terms = {("term", node): values[node] for node in frontier}
        halves = {("half", use.node): maps.half(b, use, values) for use in maps.cell.uses}
        self.values: dict[tuple[str, Node], Value | None] = {**terms, **halves}
        """By what they are."""
        needs = {("term", node): [node] for node in frontier} | {("half", n): own for n, own in operands.items()}
        self.moving = [key for key, nodes in needs.items() if self._moves(nodes)]
        """Which of them differ from step to step."""

    def _moves(self, nodes: Sequence[Node]) -> bool:
        used = postorder(nodes, self._leaves)
        return any(node in self._leaves and node not in self._still for node in used)


def _frontier(maps: Maps) -> list[Node]:
    """The expressions without a state that the rest of a step takes; numbers are left out."""
    inner = [node for node in order(maps.cell.outputs, parts=maps.parts) if depends_on_recurrence(node)]
    edge = dict.fromkeys(part for node in inner for part in maps.parts(node))
    edge |= dict.fromkeys(maps.cell.outputs)
    return [node for node in edge if node.op != "const" and not depends_on_recurrence(node)]


def _refused(node: Node) -> Value:
    raise AssertionError(f"{node} stands before the first state and has none")


def after(
    b: Builder, maps: Maps, states: Sequence[Value], before: Mapping[tuple[str, Node], Value | None]
) -> list[Value]:
    """The new states, from the old ones and the values of ``Before`` at this step."""
    values = {node: value for (kind, node), value in before.items() if kind == "term"}
    for name, value in zip(maps.cell.states, states, strict=True):
        values[make("state", (), name, "hidden")] = value

    def affine(node: Node) -> Value:
        return maps.whole(b, maps.uses[node], values, before["half", node])

    compute(b, maps, maps.cell.outputs, values, affine)
    return [values[output] for output in maps.cell.outputs]
