"""Cells with lengths and resets: what they compute, that they keep the parameters, and that kernels agree."""

import pytest
import torch
from cells_zoo import ZOO
from comparing import Case, compare, evaluate, problem, same_bits
from kernel_cells import ALL
from tensor_gate import make_inputs, make_parameters
from torch import Tensor

from gatewise import Cell, CellError, cell, cells
from gatewise.backends import eager
from gatewise.compiler import parse
from gatewise.compiler.masking import RESET, VALID, initial, with_lengths, with_reset

INPUT, HIDDEN, STEPS, BATCH = 3, 4, 5, 2
EVERY = {**{name: cells.get(name) for name in cells.names()}, **ZOO}
# One state, two phases; two states; peepholes on the new state; keyword inputs; a prologue; three phases.
NAMES = ("gru", "lstm", "peephole_lstm", "keywords", "masked", "gate_on_gate", "delayed", "closed")
some = pytest.mark.parametrize("made", [ALL[n] for n in NAMES], ids=NAMES)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def variants(made: Cell) -> list[Cell]:
    return [with_lengths(made), with_reset(made), with_reset(made, True), with_lengths(with_reset(made))]


@pytest.mark.parametrize("made", EVERY.values(), ids=EVERY.keys())
def test_text_and_parameters(made: Cell) -> None:
    for changed in variants(made):
        assert parse(changed.text) == changed
        assert parse(changed.text).outputs == changed.outputs
        assert changed.parameter_shapes(3, 4) == made.parameter_shapes(3, 4)
        assert changed.gates == made.gates
        for name in made.parameter_shapes(3, 4):
            if name != "weight_diagonal":
                assert changed.rows(name) == made.rows(name)
    assert with_lengths(made) is with_lengths(made)


def steps(made: Cell, x: Tensor, inputs: dict, states: list[Tensor], parameters: dict) -> list[list[Tensor]]:
    """The cell itself, one step after another, without sequence code."""
    results = [states]
    for t in range(len(x)):
        here = {n: v[t : t + 1] for n, v in inputs.items()}
        results.append(eager.sequence(made, x[t : t + 1], here, results[-1], parameters)[1])
    return results


@some
def test_lengths_keep_the_states(made: Cell) -> None:
    x, inputs, states = make_inputs(made, STEPS, BATCH, INPUT, HIDDEN, torch.float64)
    parameters = make_parameters(made, INPUT, HIDDEN, torch.float64)
    past = steps(made, x, inputs, states, parameters)
    valid = torch.tensor([[1.0, 1], [1, 1], [1, 0], [0, 0], [0, 0]], dtype=torch.float64)
    y, finals = eager.sequence(with_lengths(made), x, {**inputs, VALID: valid[..., None]}, states, parameters)
    for k, final in enumerate(finals):
        close(final[0], past[3][k][0])
        close(final[1], past[2][k][1])
    close(y[:2], torch.stack([past[1][0], past[2][0]]))


@some
@pytest.mark.parametrize("learned", [False, True])
def test_reset_starts_anew(made: Cell, learned: bool) -> None:
    x, inputs, states = make_inputs(made, STEPS, BATCH, INPUT, HIDDEN, torch.float64)
    parameters = make_parameters(made, INPUT, HIDDEN, torch.float64)
    start = [torch.full_like(s, 0.3 if learned else 0.0) for s in states]
    first = steps(made, x[:2], {n: v[:2] for n, v in inputs.items()}, states, parameters)
    then = steps(made, x[2:], {n: v[2:] for n, v in inputs.items()}, start, parameters)
    reset = torch.tensor([0.0, 0, 1, 0, 0], dtype=torch.float64)[:, None, None].expand(-1, BATCH, 1)
    given = {**inputs, RESET: reset}
    if learned:
        given |= {initial(s): v.expand(STEPS, -1, -1) for s, v in zip(made.states, start, strict=True)}
    y, finals = eager.sequence(with_reset(made, learned), x, given, states, parameters)
    expected = torch.stack([s[0] for s in [*first[1:], *then[1:]]])
    close(y, expected)
    for final, value in zip(finals, then[-1], strict=True):
        close(final, value)


@some
@pytest.mark.parametrize("reverse", [False, True])
def test_kernels_agree_with_eager(made: Cell, reverse: bool) -> None:
    for changed in (with_lengths(made), with_lengths(with_reset(made, True))):
        compare(Case(changed, reverse=reverse, dtype=torch.float64, hidden=9))


def test_inputs_that_do_not_step_through_memory() -> None:
    """Element-wise inputs of stride 0 in time and batch, as a learned initial state has, give the bits of a copy."""
    made = with_reset(cells.lstm, True)
    p = problem(Case(made, hidden=9, wanted=("x", "state.h", "weight_hh")))
    for s in made.states:
        p.tensors[f"in.{initial(s)}"] = p.tensors[f"in.{initial(s)}"][:1, :1].expand(p.case.steps, 3, -1)
    expanded = evaluate(p, "cpu")
    for s in made.states:
        p.tensors[f"in.{initial(s)}"] = p.tensors[f"in.{initial(s)}"].contiguous()
    same_bits(expanded, evaluate(p, "cpu"))


@pytest.mark.parametrize("name", [VALID, RESET, initial("h")])
def test_the_names_are_not_for_users(name: str) -> None:
    scope: dict = {}
    exec(f"def mine(gate, x, h, *, {name}: 1):\n    return gate.n(x, h) * {name}", scope)
    with pytest.raises(CellError, match="final _ are Gatewise's"):
        cell(scope["mine"])
