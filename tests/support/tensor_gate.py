"""Runs a cell's own Python function on tensors: the definition of what the cell computes, free of the compiler.

Weights are made by name when the function first asks for them, and packed by the contract afterwards: gates in the
order of their first appearance, one bias for a fused use, its own for a separate half of the state.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.compiler.cell import Cell
from gatewise.compiler.functions import Diagonal


class Named(torch.Tensor):
    """A tensor that knows which arguments and gates it was computed from."""

    names: frozenset[str] = frozenset()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(out, Named):
            out.names = frozenset().union(*(a.names for a in args if isinstance(a, Named)))
        return out


def named(tensor: Tensor, *names: str) -> Named:
    out = tensor.as_subclass(Named)
    out.names = frozenset(names)
    return out


class TensorGate:
    """``gate`` for a run on tensors; ``weights`` maps (parameter, gate, row of a diagonal) to leaf tensors."""

    def __init__(self, inputs: Sequence[str], hidden_size: int, dtype: torch.dtype, seed: int) -> None:
        self.inputs, self.hidden_size, self.dtype = inputs, hidden_size, dtype
        self.random = torch.Generator().manual_seed(seed)
        self.weights: dict[tuple[str, str, int], Tensor] = {}

    def weight(self, parameter: str, gate: str, *shape: int, row: int = 0) -> Tensor:
        key = (parameter, gate, row)
        if key not in self.weights:
            value = torch.randn(self.hidden_size, *shape, generator=self.random, dtype=torch.float64)
            self.weights[key] = (value / (1 + sum(shape)) ** 0.5).to(self.dtype).requires_grad_()
        return self.weights[key]

    def __getattr__(self, gate: str) -> Any:
        def apply(*operands: Any) -> Named:
            total: Any = 0.0
            row, fused = 0, False
            for operand in operands:
                if isinstance(operand, Diagonal):
                    total = total + operand.value * self.weight("weight_diagonal", gate, row=row)
                    row += 1
                    continue
                owner = "hh"
                if operand.names <= set(self.inputs):
                    owner, fused = ("ih" if "x" in operand.names else next(iter(operand.names))), True
                total = total + F.linear(operand, self.weight(f"weight_{owner}", gate, operand.shape[-1]))
            total = total + self.weight("bias_ih" if fused else "bias_hh", gate)
            return named(total, gate + "()")

        return apply

    def vectors(self, cell: Cell, input_size: int) -> dict[str, Tensor]:
        """A leaf tensor for each vector of the cell, by its name in the equations."""
        columns = {"input": input_size, "hidden": self.hidden_size}
        for name, width in cell.vectors:
            if ("vector", name, 0) not in self.weights:
                value = torch.randn(columns.get(str(width), width), generator=self.random, dtype=torch.float64)
                self.weights["vector", name, 0] = value.to(self.dtype).requires_grad_()
        return {name: self.weights["vector", name, 0] for name, _ in cell.vectors}

    def packed(self) -> dict[str, Tensor]:
        found = {f"vector_{name}": value for (kind, name, _), value in self.weights.items() if kind == "vector"}
        gates = list(dict.fromkeys(gate for kind, gate, _ in self.weights if kind != "vector"))
        rows: dict[str, list[Tensor]] = {}
        for gate in gates:
            for (parameter, owner, _), value in self.weights.items():
                if owner == gate and parameter != "vector":
                    rows.setdefault(parameter, []).append(value)
        return found | {p: torch.stack(v) if p == "weight_diagonal" else torch.cat(v) for p, v in rows.items()}


def run_function(
    cell: Cell,
    gate: TensorGate,
    x: Tensor,
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    reverse: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """As ``gatewise.backends.eager.sequence``, by calling the cell's function step by step."""
    assert cell.function is not None
    current, outputs = list(states), []
    vectors = gate.vectors(cell, x.shape[-1])
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        given = [named(s, name) for s, name in zip(current, cell.states, strict=True)]
        result = cell.function(
            gate, named(x[t], "x"), *given, **{n: named(v[t], n) for n, v in inputs.items()}, **vectors
        )
        current = [v.as_subclass(Tensor) for v in (result if isinstance(result, tuple) else (result,))]
        outputs.append(current[0])
    return torch.stack(outputs[::-1] if reverse else outputs), current


def make_inputs(
    cell: Cell, steps: int, batch: int, input_size: int, hidden_size: int, dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """x, keyword inputs and initial states, random, all leaves that want gradients."""
    random = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype).requires_grad_()

    columns = {"input": input_size, "hidden": hidden_size}
    inputs = {n: leaf(steps, batch, columns.get(str(w), w)) for n, w in cell.inputs}
    return leaf(steps, batch, input_size), inputs, [leaf(batch, hidden_size) for _ in cell.states]


def make_parameters(
    cell: Cell, input_size: int, hidden_size: int, dtype: torch.dtype, seed: int = 0
) -> dict[str, Tensor]:
    """Random parameters of a cell, leaves that want gradients."""
    random = torch.Generator().manual_seed(seed + 1)
    return {
        name: (torch.randn(shape, generator=random, dtype=torch.float64) / (1 + shape[-1] * (len(shape) > 1)) ** 0.5)
        .to(dtype)
        .requires_grad_()
        for name, shape in cell.parameter_shapes(input_size, hidden_size).items()
    }
