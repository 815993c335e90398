"""Faults in what a gate is given: its operands, their widths, how often it is used."""

from faults import Faults, check

from gatewise import diagonal, exp, minimum, sigmoid, tanh, vector

FAULTS = Faults()


@FAULTS("gate n", "affine map of nothing")
def affine_map_of_nothing(gate, x, h):
    return h * tanh(gate.n())


@FAULTS("gate n takes x, states and keyword inputs", "0.5")
def affine_map_of_a_number(gate, x, h):
    return h * tanh(gate.n(0.5))


@FAULTS("gate n takes x, states and keyword inputs")
def affine_map_of_a_computed_number(gate, x, h):
    return h * tanh(gate.n(x, exp(minimum(1.0, 2.0))))


@FAULTS("gate n takes x, states and keyword inputs", "'h'")
def affine_map_of_a_string(gate, x, h):
    return h * tanh(gate.n(x, "h"))


@FAULTS("gate n", "not in arithmetic")
def affine_map_of_a_comparison(gate, x, h):
    return tanh(gate.n(x, h > 0))


@FAULTS("gate n takes its operands by position", "state=")
def operands_by_name(gate, x, h):
    return tanh(gate.n(x, state=h))


@FAULTS("gates and numbers", "z without its operands")
def a_gate_that_is_not_called(gate, x, h):
    return sigmoid(gate.z) * tanh(gate.n(x, h))


@FAULTS("gate n was given 2 full-matrix states", "diagonal(s)")
def two_matrices(gate, x, h, c):
    c = tanh(gate.n(x, h, c))
    return tanh(c), c


@FAULTS("gate n was given input x twice")
def one_input_twice(gate, x, h):
    return tanh(gate.n(x, h, x))


@FAULTS("gate n is used 2 times", "inputs and inputs")
def input_half_twice(gate, x, h, *, m: "input"):
    return tanh(gate.n(x) + gate.n(m)) * h


@FAULTS("gate n is used 2 times", "states and states")
def state_half_twice(gate, x, h, c):
    c = tanh(gate.n(h) + gate.n(c))
    return tanh(c), c


@FAULTS("gate n is used 2 times", "both and states")
def whole_and_half(gate, x, h):
    return tanh(gate.n(x, h) + h * gate.n(0.5 * h))


@FAULTS("gate n is used 3 times")
def three_parts(gate, x, h):
    return tanh(gate.n(x) + h * gate.n(h) + gate.n(0.5 * h))


@FAULTS("gate n is applied twice to the same operands")
def applied_twice(gate, x, h):
    return tanh(gate.n(x, h)) + sigmoid(gate.n(x, h))


@FAULTS("gate z is computed but no new state depends on it")
def unused_gate(gate, x, h):
    sigmoid(gate.z(x, h))
    return tanh(gate.n(x, h))


@FAULTS("one width", "'hidden' and 'input'")
def width_of_x(gate, x, h):
    return tanh(gate.n(x, h)) + x


@FAULTS("one width", "3")
def width_of_a_keyword(gate, x, h, *, m: 3):
    return tanh(gate.n(x, h)) * m


@FAULTS("one width", "'input'", "'hidden'")
def width_of_an_operand(gate, x, h):
    return tanh(gate.n(x * h))


@FAULTS("gate n: diagonal needs the width 'hidden'", "'input'")
def diagonal_of_x(gate, x, h):
    return tanh(gate.n(h, diagonal(x)))


@FAULTS("diagonal takes a state or an input", "2")
def diagonal_of_a_number(gate, x, h):
    return tanh(gate.n(x, h, diagonal(2)))


@FAULTS("'_n' cannot name a gate")
def private_gate(gate, x, h):
    return tanh(gate._n(x, h))


@FAULTS("gate n takes x, states and keyword inputs, but was given vectors alone")
def product_of_vectors(gate, x, h, *, u=vector("input")):
    return tanh(gate.n(u, h))


@FAULTS("gate n was given a value as wide as a vector, but made of no input of that width")
def product_with_a_wider_vector(gate, x, h, *, dt=1, u=vector("input")):
    return tanh(gate.n(u * dt, h))


@FAULTS("widths 'hidden' and 'input'")
def vector_of_another_width(gate, x, h, *, u=vector("input")):
    return tanh(gate.n(x, h)) + u


@FAULTS("gate n: diagonal needs the width 'hidden'", "declare rate=vector('input') and write rate * m")
def diagonal_of_an_input(gate, x, h, *, m="input"):
    return tanh(gate.n(x, h, diagonal(m)))


@FAULTS.each
def test_a_fault_gets_a_sentence_that_names_the_cell(function, words) -> None:
    check(function, words)
