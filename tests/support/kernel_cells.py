"""Cells for the kernels: those of the zoo, and a few that take a way of the data that no other cell takes."""

from cells_zoo import ZOO

from gatewise import cell, cells, diagonal, sigmoid, tanh, where


@cell
def delayed(gate, x, h, last):
    """The second state is the first of the step before: known before any product, and multiplied by a matrix."""
    return tanh(gate.n(x, h) + gate.m(last)), h


@cell
def crossed(gate, x, h, c):
    """A linear gate into the second state: on the way back a matrix multiplies the arriving gradient as it is."""
    return tanh(c), gate.n(x, h)


@cell
def switched(gate, x, h, *, present=1, kind=2):
    """A keyword input that only decides, and one that only a gate takes: neither has an element-wise gradient."""
    return where(present > 0.2, tanh(gate.n(x, kind, h)), h)


@cell
def driven(gate, x, h, c, *, drive="hidden", rate=1, code=3):
    """Keyword inputs of every width, each in a gate and element-wise; diagonals of a keyword input and of a state."""
    z = sigmoid(gate.z(x, rate, code, drive, h))
    c = z * c + (1 - z) * tanh(gate.n(code, drive, diagonal(c), diagonal(drive), z * h) + 0.3 * drive) * sigmoid(rate)
    return c * sigmoid(gate.o(drive, c)), c


@cell
def closed(gate, x, h):
    """No input reaches the state."""
    return tanh(gate.n(h))


OWN = {c.name: c for c in (delayed, crossed, switched, driven, closed)}
BUILT_IN = {name: cells.get(name) for name in cells.names()}
ALL = {**BUILT_IN, **ZOO, **OWN}
