"""The functions of the language on symbols, on tensors and on numbers."""

import math

import pytest
import torch
import torch.nn.functional as F

import gatewise as gw
from gatewise.compiler.expression import Node, make
from gatewise.compiler.functions import Diagonal

H = make("state", (), "h", "hidden")
VALUES = torch.tensor([-50.0, -3.0, -1.0, -0.0, 0.0, 0.5, 2.9, 3.0, 25.0, math.nan], dtype=torch.float64)
UNARY = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": F.softplus,
    "exp": torch.exp,
    "log": torch.log,
    "hard_sigmoid": F.hardsigmoid,
}


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions(name: str) -> None:
    function = getattr(gw, name)
    assert isinstance(function(H), Node)
    torch.testing.assert_close(function(VALUES), UNARY[name](VALUES), equal_nan=True, rtol=1e-7, atol=1e-9)
    number = function(0.5)
    assert isinstance(number, float)
    torch.testing.assert_close(number, UNARY[name](torch.tensor(0.5, dtype=torch.float64)).item(), rtol=1e-7, atol=0)


def test_choices_on_tensors_and_numbers() -> None:
    other = VALUES.flip(0)
    for name in ("minimum", "maximum"):
        choose, expected = getattr(gw, name), getattr(torch, name)
        torch.testing.assert_close(choose(VALUES, other), expected(VALUES, other), equal_nan=True)
        for found in (choose(VALUES, 0.1), choose(0.1, VALUES)):
            torch.testing.assert_close(found, expected(VALUES, torch.full_like(VALUES, 0.1)), equal_nan=True)
        assert choose(1.0, 2) == {"minimum": 1.0, "maximum": 2.0}[name]
    torch.testing.assert_close(gw.where(VALUES < 0, VALUES, 0.1), torch.where(VALUES < 0, VALUES, 0.1), equal_nan=True)


def test_hard_sigmoid_takes_slope_and_offset() -> None:
    expected = (0.2 * VALUES + 0.4).clamp(0, 1)
    torch.testing.assert_close(gw.hard_sigmoid(VALUES, slope=0.2, offset=0.4), expected, equal_nan=True)
    assert gw.hard_sigmoid(H, 0.2, 0.4).attr == (0.2, 0.4)
    assert gw.hard_sigmoid(1.0, 0.2, 0.4) == pytest.approx(0.6)


def test_diagonal_marks_tensors_and_symbols() -> None:
    assert gw.diagonal(H).op == "diagonal"
    marked = gw.diagonal(VALUES)
    assert isinstance(marked, Diagonal)
    assert marked.value is VALUES


@pytest.mark.parametrize("value", ["text", None, [1.0], True])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="a cell computes with its arguments, gates and numbers, but got"):
        gw.tanh(value)
