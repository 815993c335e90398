"""Wrong numbers are seen, whoever computed them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benches.check import Reference, WrongNumbersError, checked_steps, verify
from benches.columns import COLUMNS, LOOP, Column, LoopGRU, torch_layer
from benches.problem import REFERENCES, Problem, Run
from benches.shapes import STEP_SHAPES, Shape

TINY = Shape(3, 4, 5, 7)
TINY_TRAIN = Shape(3, 4, 5, 7, "train")
TINY_STEP = Shape(1, 1, 5, 7, "step")
BY_NAME = {column.name: column for column in (*COLUMNS, LOOP)}


class Spoiled(nn.GRU):
    """A right layer whose result is changed before anyone sees it."""

    spoil: Callable[[Tensor, Tensor], Any]

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Any]:
        found: tuple[Tensor, Any] = self.spoil(*super().forward(x, hx))
        return found


def spoiled(spoil: Callable[[Tensor, Tensor], Any]) -> Column:
    def build(input_size: int, hidden_size: int) -> nn.Module:
        layer = Spoiled(input_size, hidden_size)
        layer.spoil = spoil
        return layer

    return Column("torch_gru", "torch.nn.GRU", "gru_after", torch_layer(build))


class Straight(torch.autograd.Function):
    """Right forward, gradient off by one part in a thousand."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 1.001 * gradient


def checked(shape: Shape, column: Column, steps: int | None = None) -> float:
    problem = Problem.of(shape, column.formula)
    error, run = verify(column, problem, Reference.of(problem, steps or shape.time))
    assert run.call() is not None
    return error


@pytest.mark.parametrize("shape", [TINY, TINY_TRAIN, TINY_STEP], ids=str)
@pytest.mark.parametrize("name", list(BY_NAME))
def test_right_numbers_pass(shape: Shape, name: str) -> None:
    if shape.kind in BY_NAME[name].kinds:
        assert 0 <= checked(shape, BY_NAME[name]) <= 1


def swapped_gates(column: Column) -> Column:
    """The recurrent weights of two gates exchanged."""

    def start(problem: Problem) -> Run:
        weight = problem.parameters["weight_hh_l0"]
        other = torch.cat([weight[7:14], weight[:7], weight[14:]])
        changed = {**problem.parameters, "weight_hh_l0": other}
        return column.start(Problem(problem.reference, changed, problem.x, problem.dy, problem.kind))

    return Column(column.name, column.title, column.formula, start)


@pytest.mark.parametrize("shape", [TINY, TINY_TRAIN, TINY_STEP], ids=str)
@pytest.mark.parametrize("name", ["torch_gru", "gru_after", "gru_before", "lstm"])
def test_two_gates_swapped_are_refused(shape: Shape, name: str) -> None:
    with pytest.raises(WrongNumbersError, match=r"y differs by .*, allowed 1.0e-05"):
        checked(shape, swapped_gates(BY_NAME[name]))


@pytest.mark.parametrize(
    ("shape", "spoil", "message"),
    [
        (TINY, lambda y, h: (y + 2e-5, h), "y differs"),
        (TINY, lambda y, h: (y, h + 2e-5), "final state 0 differs"),
        (TINY, lambda y, h: (y * float("nan"), h), "y differs by nan"),
        (TINY, lambda y, h: (y[:-1], h), "y has shape"),
        (TINY, lambda y, h: (y, (h, h)), "expected"),
        (TINY_TRAIN, lambda y, h: (Straight.apply(y), h), "gradient of x differs"),
        (TINY_STEP, lambda y, h: (y, h + 1e-3), "y differs"),
    ],
)
def test_planted_faults_are_refused(shape: Shape, spoil: Any, message: str) -> None:
    with pytest.raises(WrongNumbersError, match=message):
        checked(shape, spoiled(spoil))


def test_a_fault_past_the_reference_is_seen() -> None:
    """Only 2 of 4 steps have a reference."""

    def late(y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return (y if len(y) == 2 else y.index_fill(0, torch.tensor([3]), float("inf")), h)

    with pytest.raises(WrongNumbersError, match="y of the whole sequence is not finite"):
        checked(TINY, spoiled(late), steps=2)


def test_a_whole_sequence_starts_as_a_short_one() -> None:
    def turned(y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return (y if len(y) == 2 else y.flip(0), h)

    with pytest.raises(WrongNumbersError, match="y of the whole sequence differs"):
        checked(TINY, spoiled(turned), steps=2)


def test_how_much_is_checked() -> None:
    assert checked_steps(Shape(64, 50, 512, 1024), 1e12, 0.0) == 2
    assert checked_steps(Shape(64, 50, 512, 1024), 1e12, 1e15) == 50
    assert checked_steps(Shape(1, 1, 2, 3), 1e12, 0.0) == 1
    assert checked_steps(Shape(64, 50, 512, 1024), 1e12, 5e11) == 25


def test_a_step_is_checked_over_several() -> None:
    problem = Problem.of(STEP_SHAPES[0], "gru_before")
    assert problem.x.shape == (8, 1, 64)
    assert Reference.of(problem, 1).results["y"].shape == (8, 1, 96)


def test_the_loop_is_the_formula_written_by_hand() -> None:
    assert REFERENCES["gru_before"](2, 3).weight_hh_l0.shape == LoopGRU(2, 3).weight_hh_l0.shape
