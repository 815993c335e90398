"""Cells that are not built in: between them they use everything that the language of cells can express.

``ZOO`` maps names to cells. Every cell keeps its Python function as ``cell.function``.
"""

from gatewise import (
    Cell,
    cell,
    diagonal,
    exp,
    hard_sigmoid,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    softplus,
    tanh,
    vector,
    where,
)


@cell
def light(gate, x, h):
    """Two gates, one phase, relu."""
    z = sigmoid(gate.z(x, h))
    return z * h + (1 - z) * relu(gate.n(x, h))


@cell
def two_speeds(gate, x, h, slow):
    """Two states that read each other, three gates, one of them without a function."""
    a = sigmoid(gate.a(x, h))
    b = sigmoid(gate.b(x, slow))
    new = gate.n(x, h)
    slow = b * slow + (1 - b) * tanh(new)
    return a * tanh(slow) + (1 - a) * h, slow


@cell
def peephole_lstm(gate, x, h, c):
    """Gers et al. 2002: element-wise weights on the old and on the new cell state; a gate named as the state."""
    i = sigmoid(gate.i(x, h, diagonal(c)))
    f = sigmoid(gate.f(x, h, diagonal(c)))
    c = f * c + i * tanh(gate.c(x, h))
    o = sigmoid(gate.o(x, h, diagonal(c)))
    return o * tanh(c), c


@cell
def gate_on_gate(gate, x, h):
    """Three phases: each gate's state operand needs the gates before it."""
    r = sigmoid(gate.r(x, h))
    q = sigmoid(gate.q(x, r * h))
    n = tanh(gate.n(x, q * h + r))
    return q * h + (1 - q) * n


@cell
def ungated(gate, x, h, *, m="hidden"):
    """No gate and no weight: a leaky average of its input."""
    return 0.9 * h + 0.1 * tanh(m)


@cell
def fading(gate, x, h):
    """No gate and no input at all."""
    return 0.5 * h


@cell
def keywords(gate, x, h, *, dt: 1, drive="hidden", code=3, mask: "input"):
    """Keyword inputs of every kind of width, element-wise and inside gates."""
    z = sigmoid(gate.z(x, h, mask))
    n = tanh(gate.n(x, code, z * h) + drive)
    k = gate.k(dt, drive, h)
    return (1 - dt) * h + dt * (z * n + 0.1 * sigmoid(k) * drive)


@cell
def piecewise(gate, x, h, c):
    """The functions that are not sigmoid or tanh, with thresholds, choices, logarithms and quotients."""
    u = hard_sigmoid(gate.u(x, h))
    v = hard_sigmoid(gate.v(x, c), slope=0.2, offset=0.4)
    s = softplus(gate.s(x, h))
    e = exp(-s)
    low, high = minimum(u, e), maximum(v, 0.5)
    n = where(low < high, tanh(gate.n(x, u * h)), relu(c) / (1 + s))
    c = where(u >= v, n, log(1 + s) - c / 2)
    return maximum(minimum(c, 2), -2) * high, n - 0.5 * c


@cell
def decaying(gate, x, h, *, delta: "input"):
    """A state that decays before the step: a gate of a keyword input only, before all others."""
    decay = exp(-relu(gate.d(delta)))
    h = decay * h
    r = sigmoid(gate.r(x, h))
    z = sigmoid(gate.z(x, h))
    n = tanh(gate.n(x, r * h))
    return z * h + (1 - z) * n


@cell
def vectors(gate, x, h, c, *, m: "input", d=1, a=vector("input"), s=vector(1), u=vector("hidden"), v=vector("hidden")):
    """Vectors of every width: before a product, on states before one, in diagonals and in the new states."""
    f = sigmoid(gate.f(sigmoid(a * x) * m, h))
    n = tanh(gate.n(x + softplus(s * a - m), tanh(u) * h, diagonal(v * c)))
    c = f * (v + c) + (1 - f * d) * n + s
    return tanh(u * c) + maximum(v, 0.1), c


@cell
def ugrnn(gate, x, h):
    """Collins et al. 2017 (arXiv 1611.09913), and a shared subexpression."""
    g = sigmoid(gate.g(x, h))
    keep = 1 - g
    return g * h + keep * tanh(gate.c(x, h)) - 0.01 * (keep * keep)


@cell
def masked(gate, x, h, *, m: "input", w: 1):
    """Input-like operands with a prologue: expressions of inputs before the product."""
    r = sigmoid(gate.r(x * m, h))
    z = sigmoid(gate.z(x * exp(-relu(w)), h, 1 - m))
    n = tanh(gate.n(x * m, r * h))
    return z * h + (1 - z) * n


@cell
def halves(gate, x, h):
    """Gates in two halves, of a state only, of a diagonal only, in two halves without a common function, and with two
    diagonals of one value, as pinning can leave."""
    a = sigmoid(gate.a(h))
    b = tanh(gate.b(diagonal(h)))
    n = gate.n(x) + a * gate.n(b * h)
    return a * h + (1 - a) * tanh(n) + 0.1 * b * tanh(gate.m(x, diagonal(b), diagonal(h), diagonal(b)))


@cell
def branches(gate, x, h):
    """A pre-activation that is used twice, raw and through functions, and a shared operand of several gates."""
    u = gate.u(x, h)
    half = 0.5 * h
    return tanh(u) * half + sigmoid(u) * tanh(gate.v(half) + gate.w(x, half)) - tanh(-half)


ZOO: dict[str, Cell] = {name: value for name, value in globals().items() if isinstance(value, Cell)}
