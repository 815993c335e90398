"""The equations: every built-in cell as the lines its paper prints.

z near 1 keeps the state except in ``gru_renew``, ``mgu``, ``gru_d`` and where a docstring says otherwise.
"""

from __future__ import annotations

from typing import Any

from gatewise.compiler.cell import Cell
from gatewise.compiler.functions import diagonal, exp, relu, sigmoid, tanh, vector
from gatewise.compiler.trace import cell


@cell
def gru(gate: Any, x: Any, h: Any) -> Any:
    """Cho et al. 2014 (arXiv 1406.1078v3), eq. 5-8: the reset gate acts before the recurrent product."""
    r = sigmoid(gate.r(x, h))
    z = sigmoid(gate.z(x, h))
    n = tanh(gate.n(x, r * h))
    return z * h + (1 - z) * n


@cell
def gru_renew(gate: Any, x: Any, h: Any) -> Any:
    """Chung et al. 2014 (arXiv 1412.3555), eq. 4-7: as gru, but z near 1 renews the state."""
    r = sigmoid(gate.r(x, h))
    z = sigmoid(gate.z(x, h))
    n = tanh(gate.n(x, r * h))
    return (1 - z) * h + z * n


@cell
def gru_reset_after(gate: Any, x: Any, h: Any) -> Any:
    """Cho et al. 2014 (arXiv 1406.1078v1); torch.nn.GRU, cuDNN, Keras' default: the reset acts after the product."""
    r = sigmoid(gate.r(x, h))
    z = sigmoid(gate.z(x, h))
    n = tanh(gate.n(x) + r * gate.n(h))
    return z * h + (1 - z) * n


@cell
def lstm(gate: Any, x: Any, h: Any, c: Any) -> Any:
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; torch.nn.LSTM."""
    i = sigmoid(gate.i(x, h))
    f = sigmoid(gate.f(x, h))
    g = tanh(gate.g(x, h))
    o = sigmoid(gate.o(x, h))
    c = f * c + i * g
    return o * tanh(c), c


@cell
def lstm_coupled(gate: Any, x: Any, h: Any, c: Any) -> Any:
    """Greff et al. 2017 (arXiv 1503.04069), variant CIFG without peepholes: the input gate is 1 - f."""
    f = sigmoid(gate.f(x, h))
    g = tanh(gate.g(x, h))
    o = sigmoid(gate.o(x, h))
    c = f * c + (1 - f) * g
    return o * tanh(c), c


@cell
def lstm_peephole(gate: Any, x: Any, h: Any, c: Any) -> Any:
    """Gers & Schmidhuber 2000, "Recurrent nets that time and count", with tanh as in Greff et al. 2017
    (arXiv 1503.04069), sec. II: i and f see the old cell state, o the new one, through element-wise weights."""
    i = sigmoid(gate.i(x, h, diagonal(c)))
    f = sigmoid(gate.f(x, h, diagonal(c)))
    g = tanh(gate.g(x, h))
    c = f * c + i * g
    o = sigmoid(gate.o(x, h, diagonal(c)))
    return o * tanh(c), c


@cell
def rnn(gate: Any, x: Any, h: Any) -> Any:
    """Elman 1990 with tanh; torch.nn.RNN."""
    return tanh(gate.n(x, h))


@cell
def rnn_relu(gate: Any, x: Any, h: Any) -> Any:
    """Le et al. 2015 (arXiv 1504.00941) without its initialisation; torch.nn.RNN(nonlinearity="relu")."""
    return relu(gate.n(x, h))


@cell
def mgu(gate: Any, x: Any, h: Any) -> Any:
    """Zhou et al. 2016 (arXiv 1603.09420), eq. 6-8: one gate resets and renews."""
    f = sigmoid(gate.f(x, h))
    n = tanh(gate.n(x, f * h))
    return (1 - f) * h + f * n


@cell
def light_gru(gate: Any, x: Any, h: Any) -> Any:
    """Ravanelli et al. 2018 (arXiv 1803.10225), eq. 5-7 without batch normalisation: no reset gate, relu candidate."""
    z = sigmoid(gate.z(x, h))
    n = relu(gate.n(x, h))
    return z * h + (1 - z) * n


@cell
def augru(gate: Any, x: Any, h: Any, *, attention: Any = 1) -> Any:
    """Zhou et al. 2018, DIEN (arXiv 1809.03672), the GRU with attentional update gate: the score of attention scales
    the update gate, and z near 1 renews. The candidate's recurrent half has its own bias, as in gru_reset_after."""
    r = sigmoid(gate.r(x, h))
    z = attention * sigmoid(gate.z(x, h))
    n = tanh(gate.n(x) + r * gate.n(h))
    return (1 - z) * h + z * n


@cell
def gru_d(
    gate: Any,
    x: Any,
    h: Any,
    *,
    mask: Any = "input",
    gap: Any = "input",
    last: Any = "input",
    rate: Any = vector("input"),
    offset: Any = vector("input"),
    mean: Any = vector("input"),
) -> Any:
    """Che et al. 2016 (arXiv 1606.01865), GRU-D, for series with gaps: mask is 1 where x was observed, gap the time
    since the observation before, last its value. What is missing decays from its last value to its mean, the state to
    zero; each gate also sees the mask. z near 1 renews."""
    keep = exp(-relu(rate * gap + offset))
    x = mask * x + (1 - mask) * (keep * last + (1 - keep) * mean)
    h = exp(-relu(gate.d(gap))) * h
    r = sigmoid(gate.r(x, mask, h))
    z = sigmoid(gate.z(x, mask, h))
    n = tanh(gate.n(x, mask, r * h))
    return (1 - z) * h + z * n


def names() -> list[str]:
    """The names of the built-in cells, in the order of this file."""
    return [name for name, value in globals().items() if isinstance(value, Cell)]


def get(name: str) -> Cell:
    """The built-in cell of that name.

    Raises:
        ValueError: for a name that is none; the sentence lists the names.
    """
    value = globals().get(name) if isinstance(name, str) else None
    if not isinstance(value, Cell):
        raise ValueError(f"cell must be one of {', '.join(names())}, got {name!r}")
    return value
