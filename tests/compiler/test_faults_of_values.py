"""Faults in what a cell computes and returns: Python's branches, foreign functions, values that are no numbers."""

import math

import numpy as np
import torch
from faults import Faults, check

from gatewise import diagonal, exp, maximum, tanh, where

FAULTS = Faults()


@FAULTS("returned 2 states", "takes 1 (h)")
def too_many_states(gate, x, h):
    return tanh(gate.n(x, h)), h


@FAULTS("returned 1 states", "takes 2 (h, c)")
def too_few_states(gate, x, h, c):
    return tanh(gate.n(x, h)) * c


@FAULTS("returned nothing", "h, c")
def no_return(gate, x, h, c):
    tanh(gate.n(x, h))


@FAULTS("new value of state c is 'c'")
def returns_a_string(gate, x, h, c):
    return tanh(gate.n(x, h)), "c"


@FAULTS("new value of state h is 0.0")
def returns_a_number(gate, x, h):
    return 0.0


@FAULTS("new value of state h is no number", "comparison")
def returns_a_comparison(gate, x, h):
    return tanh(gate.n(x, h)) < h


@FAULTS("new value of state h is no number", "diagonal")
def returns_a_diagonal(gate, x, h):
    return diagonal(h)


@FAULTS("new value of state h has width 'input'", "'hidden'")
def returns_x(gate, x, h):
    return x


@FAULTS("state c is never updated")
def never_updated(gate, x, h, c):
    return tanh(gate.n(x, h, diagonal(c))), c


@FAULTS("Python `if`", "where(condition, a, b)")
def python_if(gate, x, h):
    return h + 1 if h > 0 else tanh(gate.n(x, h))


@FAULTS("Python `if`", "`and`")
def python_and(gate, x, h):
    return where(h > 0 and h < 1, h, tanh(gate.n(x, h)))


@FAULTS("Python `if`", "where")
def python_not(gate, x, h):
    return where(not h, h, tanh(gate.n(x, h)))


@FAULTS("where")
def python_max(gate, x, h):
    return max(h, tanh(gate.n(x, h)))


@FAULTS("where")
def chained_comparison(gate, x, h):
    return where(0 < h < 1, h, tanh(gate.n(x, h)))


@FAULTS("==", "where")
def equality(gate, x, h):
    return where(h == 0, h, tanh(gate.n(x, h)))


@FAULTS("!=", "where")
def inequality(gate, x, h):
    return where(h != 0.5, h, tanh(gate.n(x, h)))


@FAULTS("first argument of where must be a comparison")
def where_of_a_value(gate, x, h):
    return where(h, h, tanh(gate.n(x, h)))


@FAULTS("comparison", "not in arithmetic")
def arithmetic_with_a_comparison(gate, x, h):
    return (h > 0) * tanh(gate.n(x, h))


@FAULTS("diagonal(s)", "operand of a gate")
def arithmetic_with_a_diagonal(gate, x, h):
    return diagonal(h) * tanh(gate.n(x, h))


@FAULTS("not a number", "gatewise.tanh, not math.tanh")
def math_function(gate, x, h):
    return h * math.tanh(gate.n(x, h))


@FAULTS("torch's tanh", "gatewise's functions")
def torch_function(gate, x, h):
    return torch.tanh(gate.n(x, h))


@FAULTS("numbers", "Tensor")
def torch_tensor(gate, x, h):
    return torch.ones(3) * tanh(gate.n(x, h))


@FAULTS("numbers", "Tensor")
def torch_tensor_on_the_right(gate, x, h):
    return tanh(gate.n(x, h)) * torch.ones(3)


@FAULTS("ufunc")
def numpy_function(gate, x, h):
    return np.tanh(gate.n(x, h))


@FAULTS("numbers", "ndarray")
def numpy_array(gate, x, h):
    return tanh(gate.n(x, h)) * np.ones(3)


@FAULTS("no power", "h * h")
def power(gate, x, h):
    return tanh(gate.n(x, h)) ** 2


@FAULTS("no power")
def power_of_a_number(gate, x, h):
    return 2 ** tanh(gate.n(x, h))


@FAULTS("no abs", "maximum(h, -h)")
def absolute(gate, x, h):
    return abs(tanh(gate.n(x, h)))


@FAULTS("product with @")
def matrix_product(gate, x, h):
    return tanh(h @ x)


@FAULTS("cannot be indexed")
def indexing(gate, x, h):
    return tanh(gate.n(x, h))[0]


@FAULTS("cannot be unpacked")
def unpacking(gate, x, h):
    a, b = gate.n(x, h)
    return a * b


@FAULTS("no attribute 'tanh'", "tanh(h)")
def method(gate, x, h):
    return gate.n(x, h).tanh()


@FAULTS("numbers", "str")
def arithmetic_with_a_string(gate, x, h):
    return tanh(gate.n(x, h)) + "1"


@FAULTS("numbers", "NoneType")
def function_of_none(gate, x, h):
    return tanh(None) * gate.n(x, h)


@FAULTS("must be finite", "inf")
def infinite_constant(gate, x, h):
    return maximum(-math.inf, tanh(gate.n(x, h)))


@FAULTS("division by zero")
def division_by_zero(gate, x, h):
    return tanh(gate.n(x, h)) + exp(0.0) / 0


@FAULTS.each
def test_a_fault_gets_a_sentence_that_names_the_cell(function, words) -> None:
    check(function, words)
