"""Faults in a definition: one sentence each, which names the cell and the fault. And definitions that are right."""

import functools
import math

import numpy as np
import pytest
import torch

from gatewise import CellError, cell, diagonal, exp, maximum, minimum, sigmoid, tanh, vector, where
from gatewise.compiler import Cell

FAULTS = []


def fault(*words):
    """Register a definition whose error must contain all the words."""

    def register(function):
        FAULTS.append(pytest.param(function, words, id=function.__name__))
        return function

    return register


@fault("returned 2 states", "takes 1 (h)")
def too_many_states(gate, x, h):
    return tanh(gate.n(x, h)), h


@fault("returned 1 states", "takes 2 (h, c)")
def too_few_states(gate, x, h, c):
    return tanh(gate.n(x, h)) * c


@fault("returned nothing", "h, c")
def no_return(gate, x, h, c):
    tanh(gate.n(x, h))


@fault("new value of state c is 'c'")
def returns_a_string(gate, x, h, c):
    return tanh(gate.n(x, h)), "c"


@fault("new value of state h is 0.0")
def returns_a_number(gate, x, h):
    return 0.0


@fault("new value of state h is no number", "comparison")
def returns_a_comparison(gate, x, h):
    return tanh(gate.n(x, h)) < h


@fault("new value of state h is no number", "diagonal")
def returns_a_diagonal(gate, x, h):
    return diagonal(h)


@fault("new value of state h has width 'input'", "'hidden'")
def returns_x(gate, x, h):
    return x


@fault("state c is never updated")
def never_updated(gate, x, h, c):
    return tanh(gate.n(x, h, diagonal(c))), c


@fault("Python `if`", "where(condition, a, b)")
def python_if(gate, x, h):
    return h + 1 if h > 0 else tanh(gate.n(x, h))


@fault("Python `if`", "`and`")
def python_and(gate, x, h):
    return where(h > 0 and h < 1, h, tanh(gate.n(x, h)))


@fault("Python `if`", "where")
def python_not(gate, x, h):
    return where(not h, h, tanh(gate.n(x, h)))


@fault("where")
def python_max(gate, x, h):
    return max(h, tanh(gate.n(x, h)))


@fault("where")
def chained_comparison(gate, x, h):
    return where(0 < h < 1, h, tanh(gate.n(x, h)))


@fault("==", "where")
def equality(gate, x, h):
    return where(h == 0, h, tanh(gate.n(x, h)))


@fault("!=", "where")
def inequality(gate, x, h):
    return where(h != 0.5, h, tanh(gate.n(x, h)))


@fault("first argument of where must be a comparison")
def where_of_a_value(gate, x, h):
    return where(h, h, tanh(gate.n(x, h)))


@fault("comparison", "not in arithmetic")
def arithmetic_with_a_comparison(gate, x, h):
    return (h > 0) * tanh(gate.n(x, h))


@fault("diagonal(s)", "operand of a gate")
def arithmetic_with_a_diagonal(gate, x, h):
    return diagonal(h) * tanh(gate.n(x, h))


@fault("gate n", "affine map of nothing")
def affine_map_of_nothing(gate, x, h):
    return h * tanh(gate.n())


@fault("gate n takes x, states and keyword inputs", "0.5")
def affine_map_of_a_number(gate, x, h):
    return h * tanh(gate.n(0.5))


@fault("gate n takes x, states and keyword inputs")
def affine_map_of_a_computed_number(gate, x, h):
    return h * tanh(gate.n(x, exp(minimum(1.0, 2.0))))


@fault("gate n takes x, states and keyword inputs", "'h'")
def affine_map_of_a_string(gate, x, h):
    return h * tanh(gate.n(x, "h"))


@fault("gate n", "not in arithmetic")
def affine_map_of_a_comparison(gate, x, h):
    return tanh(gate.n(x, h > 0))


@fault("gate n takes its operands by position", "state=")
def operands_by_name(gate, x, h):
    return tanh(gate.n(x, state=h))


@fault("gates and numbers", "z without its operands")
def a_gate_that_is_not_called(gate, x, h):
    return sigmoid(gate.z) * tanh(gate.n(x, h))


@fault("gate n was given 2 full-matrix states", "diagonal(s)")
def two_matrices(gate, x, h, c):
    c = tanh(gate.n(x, h, c))
    return tanh(c), c


@fault("gate n was given input x twice")
def one_input_twice(gate, x, h):
    return tanh(gate.n(x, h, x))


@fault("gate n is used 2 times", "inputs and inputs")
def input_half_twice(gate, x, h, *, m: "input"):
    return tanh(gate.n(x) + gate.n(m)) * h


@fault("gate n is used 2 times", "states and states")
def state_half_twice(gate, x, h, c):
    c = tanh(gate.n(h) + gate.n(c))
    return tanh(c), c


@fault("gate n is used 2 times", "both and states")
def whole_and_half(gate, x, h):
    return tanh(gate.n(x, h) + h * gate.n(0.5 * h))


@fault("gate n is used 3 times")
def three_parts(gate, x, h):
    return tanh(gate.n(x) + h * gate.n(h) + gate.n(0.5 * h))


@fault("gate n is applied twice to the same operands")
def applied_twice(gate, x, h):
    return tanh(gate.n(x, h)) + sigmoid(gate.n(x, h))


@fault("gate z is computed but no new state depends on it")
def unused_gate(gate, x, h):
    sigmoid(gate.z(x, h))
    return tanh(gate.n(x, h))


@fault("one width", "'hidden' and 'input'")
def width_of_x(gate, x, h):
    return tanh(gate.n(x, h)) + x


@fault("one width", "3")
def width_of_a_keyword(gate, x, h, *, m: 3):
    return tanh(gate.n(x, h)) * m


@fault("one width", "'input'", "'hidden'")
def width_of_an_operand(gate, x, h):
    return tanh(gate.n(x * h))


@fault("gate n: diagonal needs the width 'hidden'", "'input'")
def diagonal_of_x(gate, x, h):
    return tanh(gate.n(h, diagonal(x)))


@fault("diagonal takes a state or an input", "2")
def diagonal_of_a_number(gate, x, h):
    return tanh(gate.n(x, h, diagonal(2)))


@fault("must list its states", "*args")
def star_args(gate, x, h, *args):
    return tanh(gate.n(x, h))


@fault("must list its states", "**kwargs")
def star_kwargs(gate, x, h, **kwargs):
    return tanh(gate.n(x, h))


@fault("must take (gate, x, state, ...)", "(gate, x)")
def no_state(gate, x):
    return tanh(gate.n(x))


@fault("must take (gate, x, state, ...)", "(gate, h, x)")
def wrong_order(gate, h, x):
    return tanh(gate.n(x, h))


@fault("state m has a default", "after a *")
def forgotten_star(gate, x, h, m=1):
    return tanh(gate.n(x, h)) * m


@fault("keyword input m must declare its width", "None")
def undeclared_width(gate, x, h, *, m):
    return tanh(gate.n(x, h)) * m


@fault("keyword input m must declare its width", "0")
def width_zero(gate, x, h, *, m=0):
    return tanh(gate.n(x, h)) * m


@fault("keyword input m must declare its width", "True")
def width_true(gate, x, h, *, m=True):
    return tanh(gate.n(x, h)) * m


@fault("keyword input m must declare its width", "'wide'")
def width_wide(gate, x, h, *, m="wide"):
    return tanh(gate.n(x, h)) * m


@fault("keyword input m must declare its width", "1.5")
def width_fraction(gate, x, h, *, m=1.5):
    return tanh(gate.n(x, h)) * m


@fault("no new state depends on the keyword input m")
def unused_keyword(gate, x, h, *, m: 1):
    return tanh(gate.n(x, h))


@fault("'diagonal' cannot name a state or an input")
def reserved_name(gate, x, h, *, diagonal: 1):
    return tanh(gate.n(x, h)) * diagonal


@fault("'_h' cannot name a state or an input")
def private_name(gate, x, _h):
    return tanh(gate.n(x, _h))


@fault("not a number", "gatewise.tanh, not math.tanh")
def math_function(gate, x, h):
    return h * math.tanh(gate.n(x, h))


@fault("torch's tanh", "gatewise's functions")
def torch_function(gate, x, h):
    return torch.tanh(gate.n(x, h))


@fault("numbers", "Tensor")
def torch_tensor(gate, x, h):
    return torch.ones(3) * tanh(gate.n(x, h))


@fault("numbers", "Tensor")
def torch_tensor_on_the_right(gate, x, h):
    return tanh(gate.n(x, h)) * torch.ones(3)


@fault("ufunc")
def numpy_function(gate, x, h):
    return np.tanh(gate.n(x, h))


@fault("numbers", "ndarray")
def numpy_array(gate, x, h):
    return tanh(gate.n(x, h)) * np.ones(3)


@fault("no power", "h * h")
def power(gate, x, h):
    return tanh(gate.n(x, h)) ** 2


@fault("no power")
def power_of_a_number(gate, x, h):
    return 2 ** tanh(gate.n(x, h))


@fault("no abs", "maximum(h, -h)")
def absolute(gate, x, h):
    return abs(tanh(gate.n(x, h)))


@fault("product with @")
def matrix_product(gate, x, h):
    return tanh(h @ x)


@fault("cannot be indexed")
def indexing(gate, x, h):
    return tanh(gate.n(x, h))[0]


@fault("cannot be unpacked")
def unpacking(gate, x, h):
    a, b = gate.n(x, h)
    return a * b


@fault("no attribute 'tanh'", "tanh(h)")
def method(gate, x, h):
    return gate.n(x, h).tanh()


@fault("numbers", "str")
def arithmetic_with_a_string(gate, x, h):
    return tanh(gate.n(x, h)) + "1"


@fault("numbers", "NoneType")
def function_of_none(gate, x, h):
    return tanh(None) * gate.n(x, h)


@fault("must be finite", "inf")
def infinite_constant(gate, x, h):
    return maximum(-math.inf, tanh(gate.n(x, h)))


@fault("'_n' cannot name a gate")
def private_gate(gate, x, h):
    return tanh(gate._n(x, h))


@fault("no new state depends on the vector u")
def unused_vector(gate, x, h, *, u=vector("hidden")):
    return tanh(gate.n(x, h))


@fault("vector u must have the width 'input', 'hidden' or a number of columns, but has 'wide'")
def vector_of_no_width(gate, x, h, *, u=vector("wide")):
    return tanh(gate.n(x, h)) + u


@fault("gate n takes x, states and keyword inputs, but was given vectors alone")
def product_of_vectors(gate, x, h, *, u=vector("input")):
    return tanh(gate.n(u, h))


@fault("gate n was given a value as wide as a vector, but made of no input of that width")
def product_with_a_wider_vector(gate, x, h, *, dt=1, u=vector("input")):
    return tanh(gate.n(u * dt, h))


@fault("widths 'hidden' and 'input'")
def vector_of_another_width(gate, x, h, *, u=vector("input")):
    return tanh(gate.n(x, h)) + u


@fault("gate n: diagonal needs the width 'hidden'", "declare rate=vector('input') and write rate * m")
def diagonal_of_an_input(gate, x, h, *, m="input"):
    return tanh(gate.n(x, h, diagonal(m)))


@fault("'u_' cannot name a state or an input")
def vector_with_our_name(gate, x, h, *, u_=vector("hidden")):
    return tanh(gate.n(x, h)) + u_


@fault("division by zero")
def division_by_zero(gate, x, h):
    return tanh(gate.n(x, h)) + exp(0.0) / 0


@pytest.mark.parametrize(("function", "words"), FAULTS)
def test_a_fault_gets_a_sentence_that_names_the_cell(function, words) -> None:
    with pytest.raises(CellError) as caught:
        cell(function)
    message = str(caught.value)
    assert message.startswith(f"cell {function.__name__}: ")
    for word in words:
        assert word in message
    assert "\n" not in message


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
