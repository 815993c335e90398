"""The backward of one step against torch's autograd of the forward, in float64."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from cells_zoo import ZOO
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cells import BUILT_IN
from strategies import cells as random_cells
from tensor_gate import make_inputs, make_parameters
from torch import Tensor

from gatewise import Cell, cell, hard_sigmoid, maximum, minimum, relu, softplus, where
from gatewise.backends import eager
from gatewise.compiler.expression import Node, order, postorder
from gatewise.compiler.gradient import Gradient, gradient

ALL = {**BUILT_IN, **ZOO}
INPUT, HIDDEN, BATCH = 5, 7, 3


def forward(
    made: Cell, parameters: dict[str, Tensor], inputs: dict[str, Tensor], states: Sequence[Tensor]
) -> tuple[list[Tensor], dict[Node, Any]]:
    """One step, with all intermediate values, those of affine maps keeping their gradients."""
    affine = eager.Affine(made, parameters, HIDDEN)
    vectors = {name: parameters[f"vector_{name}"].expand(BATCH, -1) for name, _ in made.vectors}
    leaves = {**inputs, **vectors, **dict(zip(made.states, states, strict=True))}
    kinds = ("input", "vector", "state")
    values: dict[Node, Any] = {n: leaves[str(n.attr)] for n in postorder(made.outputs) if n.op in kinds}

    def use(node: Node) -> Tensor:
        value = affine(node, values, affine.input_half(node, values)).expand(BATCH, HIDDEN)
        if not value.requires_grad:
            value = value.clone().requires_grad_()
        value.retain_grad()
        return value

    return eager.evaluate(made.outputs, values, use), values


def backward(
    made: Cell, result: Gradient, known: dict[Node, Any], parameters: dict[str, Tensor], adjoints: dict[str, Tensor]
) -> dict[Node, Any]:
    """Every expression of the gradient, given the values of the forward."""
    values = {n: v.detach() if isinstance(v, Tensor) else v for n, v in known.items()}
    roots = [*result.states, *result.affines, *(node for _, node in result.inputs)]
    affine = eager.Affine(made, parameters, HIDDEN)
    for node in order(roots, values):
        if node.op == "adjoint":
            values[node] = adjoints[str(node.attr)]
        elif node.op == "parameter":
            name, _, row = str(node.attr).partition(".")
            values[node] = parameters[name].detach()[int(row)]
        elif node.op == "transposed":
            blocks = [affine.block("weight_hh", made.uses[i].gate).detach() for i in node.attr]
            values[node] = sum(values[d] @ u for d, u in zip(node.args, blocks, strict=True))
        else:
            eager.compute([node], values)
    return values


def check(made: Cell, seed: int = 0, scale: float = 1.0) -> None:
    x, inputs, states = make_inputs(made, 1, BATCH, INPUT, HIDDEN, torch.float64, seed)
    inputs = {n: v[0].detach().mul(scale).requires_grad_() for n, v in {"x": x, **inputs}.items()}
    states = [s.detach().mul(scale).requires_grad_() for s in states]
    parameters = make_parameters(made, INPUT, HIDDEN, torch.float64, seed)
    outputs, known = forward(made, parameters, inputs, states)
    random = torch.Generator().manual_seed(seed)
    adjoints = {s: torch.randn(BATCH, HIDDEN, generator=random, dtype=torch.float64) for s in made.states}
    torch.autograd.backward(outputs, list(adjoints.values()))
    result = gradient(made)
    values = backward(made, result, known, parameters, adjoints)

    def value(node: Node) -> Tensor:
        found = values[node]
        return (found if isinstance(found, Tensor) else torch.tensor(found, dtype=torch.float64)).expand(BATCH, HIDDEN)

    def close(found: Tensor, expected: Tensor | None) -> None:
        expected = torch.zeros_like(found) if expected is None else expected
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)

    for node, state in zip(result.states, states, strict=True):
        close(value(node), state.grad)
    deltas = [value(node) for node in result.affines]
    for use, delta in zip(made.uses, deltas, strict=True):
        close(delta, known[use.node].grad)
    prologue = any(operand.op != "input" for use in made.uses for _, operand in use.inputs)
    if prologue:
        return
    affine = eager.Affine(made, parameters, HIDDEN)
    terms = dict(result.inputs)
    for name, leaf in inputs.items():
        total = torch.zeros_like(leaf)
        if name in terms:
            term = value(terms[name])
            total += term.sum(-1, keepdim=True) if leaf.shape[-1] == 1 else term
        for use, delta in zip(made.uses, deltas, strict=True):
            for owner, _ in use.inputs:
                if owner == name:
                    total += delta @ affine.block("weight_ih" if owner == "x" else f"weight_{owner}", use.gate)
        close(total, leaf.grad)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("made", ALL.values(), ids=ALL.keys())
def test_gradients_of_one_step(made: Cell, seed: int) -> None:
    check(made, seed)


@settings(max_examples=100, deadline=None)
@given(random_cells(), st.integers(0, 1000))
def test_gradients_of_random_cells(made: Cell, seed: int) -> None:
    check(made, seed)


@pytest.mark.parametrize("scale", [0.0, 30.0])
@pytest.mark.parametrize("name", ["lstm", "gru", "light_gru", "keywords"])
def test_gradients_at_zero_and_far_out(name: str, scale: float) -> None:
    check(ALL[name], scale=scale)


@cell
def relus(gate, x, h):
    return relu(h)


@cell
def clipped(gate, x, h):
    return hard_sigmoid(h)


@cell
def clipped_steeply(gate, x, h):
    return hard_sigmoid(h, slope=-0.5, offset=0.25)


@cell
def smaller(gate, x, h, c):
    return minimum(h, c), minimum(c, 0) + maximum(1, h)


@cell
def larger(gate, x, h, c):
    return maximum(h, c), maximum(h, h) + minimum(c, c)


@cell
def chosen(gate, x, h, c):
    return where(h < c, h * h, c), where(h <= 1, h, 2 * c) + where(c > h, h, c) - where(c >= 0, c, h)


@cell
def softly(gate, x, h):
    return softplus(h)


@pytest.mark.parametrize(
    "made", [relus, clipped, clipped_steeply, smaller, larger, chosen, softly], ids=lambda c: c.name
)
def test_gradients_at_kinks_are_torchs(made: Cell) -> None:
    points = torch.tensor([-20.0, -3.0, -1.5, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0, 20.0, 20.0001, 50.0], dtype=torch.float64)
    grid = torch.meshgrid(points, points, indexing="ij")
    states = [g.reshape(-1, 1).clone().requires_grad_() for g in grid[: len(made.states)]]
    known = {n: s for n in postorder(made.outputs) if n.op == "state" for s in [states[made.states.index(n.attr)]]}
    outputs = eager.evaluate(made.outputs, known)
    adjoints = {s: torch.randn(len(states[0]), 1, dtype=torch.float64) for s in made.states}
    torch.autograd.backward(outputs, list(adjoints.values()))
    result = gradient(made)
    values = backward(made, result, known, {}, adjoints)
    for node, state in zip(result.states, states, strict=True):
        torch.testing.assert_close(values[node], state.grad, rtol=1e-14, atol=0)
    if made is clipped:  # the same function in torch, which keeps 1/6 in single precision
        (expected,) = torch.autograd.grad(torch.nn.functional.hardsigmoid(states[0]), states, adjoints["h"])
        torch.testing.assert_close(values[result.states[0]], expected, rtol=1e-7, atol=0)
