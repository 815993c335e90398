"""What tracing makes of a definition that is right; and the errors that are not about a cell's equations."""

import functools

import pytest
import torch

from gatewise import CellError, cell, diagonal, sigmoid, tanh
from gatewise.compiler import Cell


def power(gate, x, h):
    return tanh(gate.n(x, h)) ** 2


def test_the_cause_shows_the_line() -> None:
    with pytest.raises(CellError) as caught:
        cell(power)
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_error_of_the_function_itself_passes() -> None:
    def misspelt(gate, x, h):
        return tanh(gate.n(x, hidden))  # noqa: F821

    with pytest.raises(NameError, match="hidden"):
        cell(misspelt)


@pytest.mark.parametrize("value", [3, "gru", None, tanh.__class__, functools.partial(max), len])
def test_only_functions_define_cells(value) -> None:
    with pytest.raises(CellError, match="defined by a function"):
        cell(value)


def test_a_lambda_has_no_name() -> None:
    with pytest.raises(CellError, match="needs a name"):
        cell(lambda gate, x, h: tanh(gate.n(x, h)))


def test_a_cell_is_no_layer() -> None:
    made = cell(function=_good)
    with pytest.raises(TypeError, match=r"gatewise\.Recurrent\(_good, input_size, hidden_size\)"):
        made(torch.zeros(1))
    assert made.function is _good


def _good(gate, x, h):
    """A docstring.

    With an indented second paragraph.
    """
    return tanh(gate.n(x, h))


def test_the_source_is_the_docstring() -> None:
    assert cell(_good).source == "A docstring.\n\nWith an indented second paragraph."


def widths_of(made: Cell) -> dict[str, object]:
    return made.input_widths


def test_widths_may_be_annotations_or_defaults() -> None:
    def annotated(gate, x, h, *, a: 1, b: "hidden", c: "input", d: 7):  # noqa: F821
        return tanh(gate.n(x, h, c, d)) * a + b

    def quoted(gate, x, h, *, a: "1", b: "'hidden'", c: '"input"', d: "7"):  # noqa: F821
        return tanh(gate.n(x, h, c, d)) * a + b

    def defaults(gate, x, h, *, a=1, b="hidden", c="input", d=7):
        return tanh(gate.n(x, h, c, d)) * a + b

    expected = {"x": "input", "a": 1, "b": "hidden", "c": "input", "d": 7}
    assert [widths_of(cell(f)) for f in (annotated, quoted, defaults)] == [expected] * 3


def test_rows_and_shapes_follow_the_first_use() -> None:
    @cell
    def ordered(gate, x, h, c, *, m: 3):
        f = sigmoid(gate.f(x, h, diagonal(c)))
        a = gate.a(m)
        n = tanh(gate.n(x, m) + f * gate.n(h))
        c = f * c + a * n
        return tanh(gate.o(c, diagonal(h))) * h, c

    assert ordered.gates == ("f", "a", "n", "o")
    assert ordered.rows("weight_ih") == ("f", "n")
    assert ordered.rows("weight_hh") == ("f", "n", "o")
    assert ordered.rows("weight_m") == ("a", "n")
    assert ordered.rows("bias_ih") == ("f", "a", "n")
    assert ordered.rows("bias_hh") == ("n", "o")
    shapes = {"weight_ih": (8, 5), "weight_hh": (12, 4), "bias_ih": (12,), "bias_hh": (8,)}
    shapes |= {"weight_m": (8, 3), "weight_diagonal": (2, 4)}
    assert ordered.parameter_shapes(5, 4) == shapes
    assert ordered.parameter_count(5, 4) == 40 + 48 + 12 + 8 + 24 + 8
    assert [i for i, _ in ordered.diagonals] == [0, 4]


def test_returning_a_list_is_returning_the_states() -> None:
    def listed(gate, x, h, c):
        return [tanh(gate.n(x, h)) * c, h]

    assert cell(listed).states == ("h", "c")
