"""The reference: interprets a cell in torch operations, one step after another, on any device and in any dtype.

Slow and plain. It is the oracle that every kernel is tested against, what second derivatives go through, and what
``gatewise.backend("eager")`` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.backends.autocast import linear
from gatewise.compiler import functions
from gatewise.compiler.cell import Cell, vector_name
from gatewise.compiler.definition import weight_name
from gatewise.compiler.expression import Node, order, postorder


def hard_sigmoid(x: Tensor, slope: float = 1 / 6, offset: float = 0.5) -> Tensor:
    line = slope * x + offset
    return torch.where(line <= 0, 0.0, torch.where(line >= 1, 1.0, line))


def _tensor_pair(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Any], Tensor]:
    def apply(a: Any, b: Any) -> Tensor:
        like = a if isinstance(a, Tensor) else b
        return function(*(v if isinstance(v, Tensor) else torch.as_tensor(v, dtype=like.dtype) for v in (a, b)))

    return apply


TENSOR_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": F.softplus,
    "exp": torch.exp,
    "log": torch.log,
    "hard_sigmoid": hard_sigmoid,
    "minimum": _tensor_pair(torch.minimum),
    "maximum": _tensor_pair(torch.maximum),
    "where": torch.where,
}
OPERATORS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
functions.register(Tensor, TENSOR_FUNCTIONS)


def evaluate(roots: Sequence[Node], values: dict[Node, Any], affine: Callable[[Node], Any] | None = None) -> list[Any]:
    """The values of expressions. ``values`` holds what is known and is filled with what is computed."""
    compute(order(roots, values), values, affine)
    return [values[r] for r in roots]


def compute(nodes: Sequence[Node], values: dict[Node, Any], affine: Callable[[Node], Any] | None = None) -> None:
    """Fill ``values`` with those of ``nodes``, which come in the order of ``order``."""
    for node in nodes:
        if node.op == "const":
            values[node] = node.attr
        elif node.op == "affine" and affine is not None:
            values[node] = affine(node)
        elif node.op != "diagonal":
            function = OPERATORS.get(node.op) or TENSOR_FUNCTIONS[node.op]
            args = [values[a] for a in node.args]
            if node.op == "where" and not any(isinstance(a, Tensor) for a in args[1:]):
                # torch gives a choice between two numbers its default dtype, not that of the cell's values.
                like = next(v for v in (values[a] for a in node.args[0].args) if isinstance(v, Tensor))
                args[1] = like.new_tensor(args[1])
            values[node] = function(*args, *(node.attr if isinstance(node.attr, tuple) else ()))


Product = Callable[[Tensor, Tensor], Tensor]
"""x, (..., columns), times the rows of a weight, (rows, columns)."""


class Affine:
    """The affine maps of a cell on given parameters (named as ``Cell.parameter_shapes``; biases may be absent).

    ``bias_hh`` has either the rows of ``Cell.rows("bias_hh")`` or, as in torch, one block for every row block of
    ``weight_hh``; a fused use then adds both biases.
    """

    def __init__(
        self, cell: Cell, parameters: Mapping[str, Tensor], hidden_size: int, product: Product | None = None
    ) -> None:
        self.cell, self.parameters, self.hidden_size = cell, parameters, hidden_size
        self.product = product or linear
        self.uses = {use.node: use for use in cell.uses}
        bias = parameters.get("bias_hh")
        # For units of no width both look alike; then there is nothing to add, but a gradient to give.
        full = bias is not None and (hidden_size == 0 or bias.shape[0] != len(cell.rows("bias_hh")) * hidden_size)
        self.bias_hh_rows = cell.rows("weight_hh") if full else cell.rows("bias_hh")
        rows = count()
        self.diagonal_rows = {use.node: [next(rows) for _ in use.diagonals] for use in cell.uses}

    def block(self, parameter: str, gate: str) -> Tensor | None:
        rows = self.bias_hh_rows if parameter == "bias_hh" else self.cell.rows(parameter)
        tensor = self.parameters.get(parameter)
        if tensor is None or gate not in rows:
            return None
        k = rows.index(gate)
        return tensor[k * self.hidden_size : (k + 1) * self.hidden_size]

    def input_half(self, node: Node, values: dict[Node, Any]) -> Any:
        """Bias and input products of a use, for one step or for all at once."""
        use = self.uses[node]
        total: Any = None
        for name, operand in use.inputs:
            weight = self.block(weight_name(name), use.gate)
            assert weight is not None
            product = self.product(evaluate([operand], values)[0], weight)
            total = product if total is None else total + product
        halves = use.state is not None or not use.has_input_half
        for parameter, owned in (("bias_ih", use.has_input_half), ("bias_hh", halves)):
            bias = self.block(parameter, use.gate) if owned else None
            if bias is not None:
                total = bias if total is None else total + bias
        return total

    def __call__(self, node: Node, values: dict[Node, Any], input_half: Any) -> Tensor:
        use = self.uses[node]
        total = input_half
        if use.state is not None:
            weight = self.block("weight_hh", use.gate)
            assert weight is not None
            product = self.product(values[use.state], weight)
            total = product if total is None else total + product
        for operand, row in zip(use.diagonals, self.diagonal_rows[node], strict=True):
            term = values[operand] * self.parameters["weight_diagonal"][row]
            total = term if total is None else total + term
        assert isinstance(total, Tensor)
        return total


def vectors_over_time(cell: Cell, parameters: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """The vectors of a cell by their names in the equations, laid out as inputs are, (T, B, width), without memory."""
    return {name: parameters[vector_name(name)].expand(*x.shape[:2], -1) for name, _ in cell.vectors}


def sequence(
    cell: Cell,
    x: Tensor,
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    *,
    reverse: bool = False,
    seen: Sequence[tuple[Node, Tensor]] = (),
    product: Product | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run a cell over a sequence.

    Args:
        x: (T, B, input_size). ``inputs`` are the keyword inputs, (T, B, width). ``states``: (B, hidden_size) each.
        reverse: from the last step to the first; outputs keep their place in time.
        seen: nodes whose values are wanted, and the memory that takes them, (T, B, hidden_size) each.
        product: how operands are multiplied with weights; ``linear`` without.

    Returns:
        The first state at every step, (T, B, hidden_size), and the final states.
    """
    leaves: dict[str, Tensor] = {"x": x, **inputs, **vectors_over_time(cell, parameters, x)}
    nodes = list(dict.fromkeys(node for use in cell.uses for _, node in use.inputs))
    values = {n: leaves[str(n.attr)] for n in postorder(nodes) if n.op in ("input", "vector")}
    operands = dict(zip(nodes, evaluate(nodes, values), strict=True))
    return interpret(
        cell, operands, leaves, states, parameters, steps=x.shape[0], reverse=reverse, seen=seen, product=product
    )


def interpret(
    cell: Cell,
    operands: Mapping[Node, Tensor],
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    *,
    steps: int,
    reverse: bool = False,
    seen: Sequence[tuple[Node, Tensor]] = (),
    product: Product | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """As ``sequence``, with the input-like operands of the affine maps already computed for all steps, and vectors that
    stand elsewhere among the inputs."""
    hidden_size = states[0].shape[-1]
    affine = Affine(cell, parameters, hidden_size, product)
    whole: dict[Node, Any] = dict(operands)
    for node in postorder(cell.outputs):
        if node.op in ("input", "vector") and str(node.attr) in inputs:
            whole[node] = inputs[str(node.attr)]
    halves = {use.node: affine.input_half(use.node, whole) for use in cell.uses}
    # unbind, not indexing: the backward of gx[t] allocates the whole of gx at every step, quadratic in T.
    over_time = {n: v.unbind(0) if v is not None and v.dim() == 3 else None for n, v in halves.items()}
    per_step = {n: v.unbind(0) for n, v in whole.items()}
    state_nodes = [n for n in postorder(cell.outputs) if n.op == "state"]
    todo = order(cell.outputs, {*per_step, *state_nodes})
    current, outputs = list(states), []
    for s in range(steps):
        t = steps - 1 - s if reverse else s
        values: dict[Node, Any] = {n: v[t] for n, v in per_step.items()}
        values |= {n: current[cell.states.index(str(n.attr))] for n in state_nodes}

        def use(node: Node, values: dict[Node, Any] = values, t: int = t) -> Tensor:
            hoisted = over_time[node]
            return affine(node, values, halves[node] if hoisted is None else hoisted[t])

        compute(todo, values, use)
        for node, memory in seen:
            memory[t] = values[node]
        current = [values[output] for output in cell.outputs]
        outputs.append(current[0])
    if reverse:
        outputs.reverse()
    y = torch.stack(outputs) if outputs else states[0].new_empty((0, *states[0].shape))
    return y, current
