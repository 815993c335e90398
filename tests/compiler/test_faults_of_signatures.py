"""Faults in what a cell's function takes: states, keyword inputs and vectors, their names and widths."""

from faults import Faults, check

from gatewise import tanh, vector

FAULTS = Faults()


@FAULTS("must list its states", "*args")
def star_args(gate, x, h, *args):
    return tanh(gate.n(x, h))


@FAULTS("must list its states", "**kwargs")
def star_kwargs(gate, x, h, **kwargs):
    return tanh(gate.n(x, h))


@FAULTS("must take (gate, x, state, ...)", "(gate, x)")
def no_state(gate, x):
    return tanh(gate.n(x))


@FAULTS("must take (gate, x, state, ...)", "(gate, h, x)")
def wrong_order(gate, h, x):
    return tanh(gate.n(x, h))


@FAULTS("state m has a default", "after a *")
def forgotten_star(gate, x, h, m=1):
    return tanh(gate.n(x, h)) * m


@FAULTS("keyword input m must declare its width", "None")
def undeclared_width(gate, x, h, *, m):
    return tanh(gate.n(x, h)) * m


@FAULTS("keyword input m must declare its width", "0")
def width_zero(gate, x, h, *, m=0):
    return tanh(gate.n(x, h)) * m


@FAULTS("keyword input m must declare its width", "True")
def width_true(gate, x, h, *, m=True):
    return tanh(gate.n(x, h)) * m


@FAULTS("keyword input m must declare its width", "'wide'")
def width_wide(gate, x, h, *, m="wide"):
    return tanh(gate.n(x, h)) * m


@FAULTS("keyword input m must declare its width", "1.5")
def width_fraction(gate, x, h, *, m=1.5):
    return tanh(gate.n(x, h)) * m


@FAULTS("no new state depends on the keyword input m")
def unused_keyword(gate, x, h, *, m: 1):
    return tanh(gate.n(x, h))


@FAULTS("'diagonal' cannot name a state or an input")
def reserved_name(gate, x, h, *, diagonal: 1):
    return tanh(gate.n(x, h)) * diagonal


@FAULTS("'_h' cannot name a state or an input")
def private_name(gate, x, _h):
    return tanh(gate.n(x, _h))


@FAULTS("no new state depends on the vector u")
def unused_vector(gate, x, h, *, u=vector("hidden")):
    return tanh(gate.n(x, h))


@FAULTS("vector u must have the width 'input', 'hidden' or a number of columns, but has 'wide'")
def vector_of_no_width(gate, x, h, *, u=vector("wide")):
    return tanh(gate.n(x, h)) + u


@FAULTS("'u_' cannot name a state or an input")
def vector_with_our_name(gate, x, h, *, u_=vector("hidden")):
    return tanh(gate.n(x, h)) + u_


@FAULTS.each
def test_a_fault_gets_a_sentence_that_names_the_cell(function, words) -> None:
    check(function, words)
