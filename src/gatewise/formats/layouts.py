"""The orders, signs and bias rules of gates in every format that Gatewise reads or writes, once.

A ``Layout`` says how a format stores one direction of one layer: a list of arrays, each with the parts of the gates
that it holds and their order. ``blocks.read`` takes such arrays apart into blocks, one tensor for each part of each
gate; ``blocks.write`` puts them together for any other layout of the same formula. No other file knows an order:

>>> layer = gw.GRU(3, 4, reset_after=True)
>>> names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
>>> found = read(LAYOUTS["torch GRU"], {name: getattr(layer, f"{name}_l0") for name in names})
>>> arrays = write(LAYOUTS["onnx GRU linear_before_reset=1"], found)  # {"W": (12, 3), "R": (12, 4), "B": (24,)}

ONNX stacks the arrays of all directions along a new first axis; each is written by itself and stacked then. The
arrays of Gatewise's own layers have the layouts ``gatewise NAME OF CELL``, or torch's where they keep both biases.

Parts of a gate:

====  ==========================================================================================
x     weights of the input, (hidden_size, input_size): rows are units
h     weights of the state, (hidden_size, hidden_size)
bx    the bias, or the one beside the input of two, (hidden_size)
bh    the second bias, beside the state, (hidden_size)
p     the peephole, (hidden_size)
r     the projection of the state, (proj_size, hidden_size), which belongs to no gate
====  ==========================================================================================

Gates are called as in ``gatewise.cells``: r, z, n of the GRU, where z near 1 keeps the state; i, f, g, o of the LSTM; n
of the plain network. ``-z`` is a gate that a format means the other way round: σ(−a) = 1 − σ(a), so the signs of its
weights and biases change. ``_`` are rows that the format has and nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatewise.errors import InputError

BIASES = ("bx", "bh")


@dataclass(frozen=True)
class Array:
    """One stored array.

    Args:
        name: in the format. parts: which parts of each gate it holds. gates: in which order, from the first row on.
        transposed: rows are inputs and columns units. rows: into how many rows of a matrix vectors are laid; 0: they
            stand one behind the other. Matrices of several parts stand side by side.
    """

    name: str
    parts: tuple[str, ...]
    gates: tuple[str, ...]
    transposed: bool = False
    rows: int = 0

    @property
    def is_bias(self) -> bool:
        return set(self.parts) <= set(BIASES)

    @property
    def is_vector(self) -> bool:
        return self.is_bias or self.parts == ("p",)

    def holds(self, part: str, gate: str) -> bool:
        """Whether it has a place for this part of this gate."""
        return part in self.parts and gate in (g.lstrip("-") for g in self.gates)


@dataclass(frozen=True)
class Layout:
    """How a format stores one direction of one layer.

    Args:
        framework, layer: whose. formula: see ``formulas``. arrays: all of them. source: where that is written down.
        always_biases: the layer has no form without biases; zeros stand for those that are missing.
    """

    framework: str
    layer: str
    formula: str
    arrays: tuple[Array, ...]
    source: str
    always_biases: bool = False

    @property
    def name(self) -> str:
        return f"{self.framework} {self.layer}"

    def holds(self, part: str, gate: str) -> bool:
        """Whether some array has a place for this part of this gate."""
        return any(array.holds(part, gate) for array in self.arrays)


def _array(name: str, parts: str, gates: str, transposed: bool = False, rows: int = 0) -> Array:
    return Array(name, tuple(parts.split()), tuple(gates.split()), transposed, rows)


def _torch_like(gates: str, *more: Array, second: str | None = None) -> tuple[Array, ...]:
    """torch's names. second: the gates of ``bias_hh``."""
    biases = (_array("bias_ih", "bx", gates), _array("bias_hh", "bh", gates if second is None else second))
    return (
        _array("weight_ih", "x", gates),
        _array("weight_hh", "h", gates),
        *(b for b in biases if b.gates),
        *more,
    )


def _keras(gates: str, biases: str = "bx") -> tuple[Array, ...]:
    return (
        _array("kernel", "x", gates, transposed=True),
        _array("recurrent_kernel", "h", gates, transposed=True),
        _array("bias", biases, gates, rows=0 if biases == "bx" else 2),
    )


def _onnx(gates: str, peepholes: str = "") -> tuple[Array, ...]:
    more = (_array("P", "p", peepholes),) if peepholes else ()
    return (_array("W", "x", gates), _array("R", "h", gates), _array("B", "bx bh", gates), *more)


_Dense = dict[str, tuple[str, str, bool]]
"""Flax's dense layers by name: their part, their gates, whether they have a bias."""


def _flax(layer: str, formula: str, dense: _Dense) -> Layout:
    arrays = []
    for name, (part, gates, bias) in dense.items():
        arrays.append(_array(f"{name}.kernel", part, gates, transposed=True))
        if bias:
            arrays.append(_array(f"{name}.bias", f"b{part}", gates))
    kind, _, layer = layer.partition(" ")
    return Layout(f"flax.{kind}", layer, formula, tuple(arrays), _FLAX[kind], always_biases=True)


def _each(names: str, gates: str, part: str, biases: str) -> _Dense:
    """A dense layer for each gate."""
    return {name: (part, gate, gate in biases) for name, gate in zip(names.split(), gates, strict=True)}


def _textbook(gates: str, parts: str = "h x") -> tuple[Array, ...]:
    """One matrix and one bias for each gate; the matrix is multiplied with the state above the input, or below it."""
    each = [(_array(f"W_{g[-1]}", parts, g), _array(f"b_{g[-1]}", "bx", g)) for g in gates.split()]
    return tuple(array for pair in each for array in pair)


_TORCH = "https://docs.pytorch.org/docs/stable/generated/torch.nn.{}.html"
_KERAS = "https://github.com/keras-team/keras/blob/master/keras/src/layers/rnn/{}.py"
_FLAX = {
    "nnx": "https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html",
    "linen": "https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html",
}
_EQUINOX = "https://docs.kidger.site/equinox/api/nn/rnn/"
_ONNX = "https://onnx.ai/onnx/operators/onnx__{}.html"
_TF1 = "https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/python/ops/rnn_cell_impl.py"
_COLAH = "https://colah.github.io/posts/2015-08-Understanding-LSTMs/"
_CHO, _HERE = "Cho et al. 2014 (arXiv 1406.1078v3), eq. 5-8, with [h, x] above each other", "gatewise.cells.{}"

_ALL = (
    Layout("torch", "GRU", "gru_reset_after", _torch_like("r z n"), _TORCH.format("GRU")),
    Layout("torch", "LSTM", "lstm", _torch_like("i f g o"), _TORCH.format("LSTM")),
    Layout(
        "torch",
        "LSTM proj_size",
        "lstm",
        _torch_like("i f g o", Array("weight_hr", ("r",), ("",))),
        _TORCH.format("LSTM"),
    ),
    Layout("torch", "RNN", "rnn", _torch_like("n"), _TORCH.format("RNN")),
    Layout("keras", "GRU", "gru_reset_after", _keras("z r n", "bx bh"), _KERAS.format("gru")),
    Layout("keras", "GRU reset_after=False", "gru", _keras("z r n"), _KERAS.format("gru")),
    Layout("keras", "LSTM", "lstm", _keras("i f g o"), _KERAS.format("lstm")),
    Layout("keras", "SimpleRNN", "rnn", _keras("n"), _KERAS.format("simple_rnn")),
    _flax("nnx GRUCell", "gru_reset_after", {"dense_i": ("x", "r z n", True), "dense_h": ("h", "r z n", False)}),
    _flax(
        "nnx LSTMCell", "lstm", {**_each("ii if_ ig io", "ifgo", "x", ""), **_each("hi hf hg ho", "ifgo", "h", "ifgo")}
    ),
    _flax("nnx OptimizedLSTMCell", "lstm", {"dense_i": ("x", "i f g o", False), "dense_h": ("h", "i f g o", True)}),
    _flax("nnx SimpleCell", "rnn", {"dense_i": ("x", "n", True), "dense_h": ("h", "n", False)}),
    _flax(
        "linen GRUCell",
        "gru_reset_after",
        {**_each("ir iz in", "rzn", "x", "rzn"), **_each("hr hz hn", "rzn", "h", "n")},
    ),
    _flax(
        "linen LSTMCell", "lstm", {**_each("ii if ig io", "ifgo", "x", ""), **_each("hi hf hg ho", "ifgo", "h", "ifgo")}
    ),
    _flax("linen SimpleCell", "rnn", {"i": ("x", "n", True), "h": ("h", "n", False)}),
    Layout(
        "equinox",
        "GRUCell",
        "gru_reset_after",
        (
            _array("weight_ih", "x", "r z n"),
            _array("weight_hh", "h", "r z n"),
            _array("bias", "bx", "r z n"),
            _array("bias_n", "bh", "n"),
        ),
        _EQUINOX,
    ),
    Layout(
        "equinox",
        "LSTMCell",
        "lstm",
        (_array("weight_ih", "x", "i f g o"), _array("weight_hh", "h", "i f g o"), _array("bias", "bx", "i f g o")),
        _EQUINOX,
    ),
    Layout("onnx", "GRU", "gru", _onnx("z r n"), _ONNX.format("GRU")),
    Layout("onnx", "GRU linear_before_reset=1", "gru_reset_after", _onnx("z r n"), _ONNX.format("GRU")),
    Layout("onnx", "LSTM", "lstm", _onnx("i o f g"), _ONNX.format("LSTM")),
    Layout("onnx", "LSTM P", "lstm_peephole", _onnx("i o f g", "i o f"), _ONNX.format("LSTM")),
    Layout("onnx", "LSTM input_forget=1", "lstm_coupled", _onnx("-f o _ g"), _ONNX.format("LSTM")),
    Layout("onnx", "LSTM P input_forget=1", "lstm_coupled_peephole", _onnx("-f o _ g", "-f o _"), _ONNX.format("LSTM")),
    Layout("onnx", "RNN", "rnn", _onnx("n"), _ONNX.format("RNN")),
    Layout(
        "tensorflow1",
        "GRUCell",
        "gru",
        (
            _array("gates.kernel", "x h", "r z", transposed=True),
            _array("gates.bias", "bx", "r z"),
            _array("candidate.kernel", "x h", "n", transposed=True),
            _array("candidate.bias", "bx", "n"),
        ),
        _TF1,
        always_biases=True,
    ),
    Layout("textbook", "GRU", "gru", _textbook("r z n"), _CHO),
    Layout("textbook", "GRU z renews", "gru", _textbook("r -z n"), _COLAH),
    Layout("textbook", "LSTM", "lstm", _textbook("i f g o"), _COLAH),
    Layout("textbook", "RNN", "rnn", _textbook("n"), _COLAH),
    Layout("textbook", "GRU [x, h]", "gru", _textbook("r z n", "x h"), _CHO),
    Layout("textbook", "GRU [x, h] z renews", "gru", _textbook("r -z n", "x h"), _COLAH),
    Layout("textbook", "LSTM [x, h]", "lstm", _textbook("i f g o", "x h"), _COLAH),
    Layout("textbook", "RNN [x, h]", "rnn", _textbook("n", "x h"), _COLAH),
    Layout("gatewise", "gru", "gru", _torch_like("r z n", second=""), _HERE.format("gru")),
    Layout("gatewise", "gru_renew", "gru", _torch_like("r -z n", second=""), _HERE.format("gru_renew")),
    Layout(
        "gatewise",
        "gru_reset_after",
        "gru_reset_after",
        _torch_like("r z n", second="n"),
        _HERE.format("gru_reset_after"),
    ),
    Layout("gatewise", "lstm", "lstm", _torch_like("i f g o", second=""), _HERE.format("lstm")),
    Layout(
        "gatewise",
        "lstm_peephole",
        "lstm_peephole",
        _torch_like("i f g o", _array("weight_diagonal", "p", "i f o", rows=3), second=""),
        _HERE.format("lstm_peephole"),
    ),
    Layout("gatewise", "lstm_coupled", "lstm_coupled", _torch_like("f g o", second=""), _HERE.format("lstm_coupled")),
    Layout(
        "gatewise",
        "lstm_coupled_peephole",
        "lstm_coupled_peephole",
        _torch_like("f g o", _array("weight_diagonal", "p", "f o", rows=2), second=""),
        "gatewise.formats.formulas",
    ),
    Layout("gatewise", "rnn", "rnn", _torch_like("n", second=""), _HERE.format("rnn")),
)

LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in _ALL}
"""By name, such as ``keras GRU reset_after=False``."""


def layout_named(name: str) -> Layout:
    """The layout of that name.

    Raises:
        InputError: for a name that is none.
    """
    if name not in LAYOUTS:
        raise InputError(f"layout must be one of {', '.join(LAYOUTS)}, got {name!r}")
    return LAYOUTS[name]
