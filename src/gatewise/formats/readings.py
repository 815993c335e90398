"""One step of every format in numpy, from its own arrays, as its documentation writes it: slow and independent.

It knows nothing of ``layouts``, so that a wrong order there shows. It stands in where a framework is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gatewise.formats.compare import Array, Problem, Reference, Results
from gatewise.formats.formulas import Activation, Activations

Weights = Mapping[str, Array]
States = tuple[Array, ...]
Step = Callable[..., States]

FUNCTIONS: dict[str, Callable[..., Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "softplus": lambda x: np.logaddexp(x, 0),
    "hard_sigmoid": lambda x, slope=1 / 6, offset=0.5: np.clip(slope * x + offset, 0, 1),
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "leaky_relu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "thresholded_relu": lambda x, alpha: np.where(x > alpha, x, 0),
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "elu": lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "softsign": lambda x: x / (1 + np.abs(x)),
}


def function_of(activation: Activation) -> Callable[[Array], Array]:
    return lambda x: FUNCTIONS[activation.name](x, *activation.numbers)


def _keras_gru(w: Weights, x: Array, h: Array, *, f: Any, g: Any) -> States:
    bias = w.get("bias", np.zeros((2, w["kernel"].shape[1])))
    x_z, x_r, x_h = np.split(x @ w["kernel"] + bias[0], 3, -1)
    recurrent_z, recurrent_r, recurrent_h = np.split(h @ w["recurrent_kernel"] + bias[1], 3, -1)
    z, r = f(x_z + recurrent_z), f(x_r + recurrent_r)
    hh = g(x_h + r * recurrent_h)
    return (z * h + (1 - z) * hh,)


def _keras_gru_before(w: Weights, x: Array, h: Array, *, f: Any, g: Any) -> States:
    units, u = h.shape[-1], w["recurrent_kernel"]
    x_z, x_r, x_h = np.split(x @ w["kernel"] + w.get("bias", 0.0), 3, -1)
    z, r = f(x_z + h @ u[:, :units]), f(x_r + h @ u[:, units : 2 * units])
    hh = g(x_h + (r * h) @ u[:, 2 * units :])
    return (z * h + (1 - z) * hh,)


def _keras_lstm(w: Weights, x: Array, h: Array, c: Array, *, f: Any, g: Any, h_of: Any) -> States:
    z0, z1, z2, z3 = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"] + w.get("bias", 0.0), 4, -1)
    i, forget = f(z0), f(z1)
    c = forget * c + i * g(z2)
    return f(z3) * h_of(c), c


def _keras_rnn(w: Weights, x: Array, h: Array, *, f: Any) -> States:
    return (f(x @ w["kernel"] + w.get("bias", 0.0) + h @ w["recurrent_kernel"]),)


def _nnx_gru(w: Weights, x: Array, h: Array, *, f: Any, g: Any) -> States:
    xi_r, xi_z, xi_n = np.split(x @ w["dense_i.kernel"] + w["dense_i.bias"], 3, -1)
    hh_r, hh_z, hh_n = np.split(h @ w["dense_h.kernel"], 3, -1)
    r, z = f(xi_r + hh_r), f(xi_z + hh_z)
    n = g(xi_n + r * hh_n)
    return ((1 - z) * n + z * h,)


def _linen_gru(w: Weights, x: Array, h: Array, *, f: Any, g: Any) -> States:
    r = f(x @ w["ir.kernel"] + w["ir.bias"] + h @ w["hr.kernel"])
    z = f(x @ w["iz.kernel"] + w["iz.bias"] + h @ w["hz.kernel"])
    n = g(x @ w["in.kernel"] + w["in.bias"] + r * (h @ w["hn.kernel"] + w["hn.bias"]))
    return ((1 - z) * n + z * h,)


def _flax_lstm(w: Weights, x: Array, h: Array, c: Array, *, f: Any, g: Any, h_of: Any) -> States:
    forget_name = "if_" if "if_.kernel" in w else "if"
    i = f(x @ w["ii.kernel"] + h @ w["hi.kernel"] + w["hi.bias"])
    forget = f(x @ w[f"{forget_name}.kernel"] + h @ w["hf.kernel"] + w["hf.bias"])
    new = g(x @ w["ig.kernel"] + h @ w["hg.kernel"] + w["hg.bias"])
    o = f(x @ w["io.kernel"] + h @ w["ho.kernel"] + w["ho.bias"])
    c = forget * c + i * new
    return o * h_of(c), c


def _nnx_optimized_lstm(w: Weights, x: Array, h: Array, c: Array, *, f: Any, g: Any, h_of: Any) -> States:
    i, forget, new, o = np.split(x @ w["dense_i.kernel"] + h @ w["dense_h.kernel"] + w["dense_h.bias"], 4, -1)
    c = f(forget) * c + f(i) * g(new)
    return f(o) * h_of(c), c


def _nnx_rnn(w: Weights, x: Array, h: Array, *, f: Any) -> States:
    return (f(x @ w["dense_i.kernel"] + w["dense_i.bias"] + h @ w["dense_h.kernel"]),)


def _linen_rnn(w: Weights, x: Array, h: Array, *, f: Any) -> States:
    return (f(x @ w["i.kernel"] + w["i.bias"] + h @ w["h.kernel"]),)


def _equinox_gru(w: Weights, x: Array, h: Array, *, f: Any, g: Any) -> States:
    igates = np.split(x @ w["weight_ih"].T + w.get("bias", 0.0), 3, -1)
    hgates = np.split(h @ w["weight_hh"].T, 3, -1)
    reset, inp = f(igates[0] + hgates[0]), f(igates[1] + hgates[1])
    new = g(igates[2] + reset * (hgates[2] + w.get("bias_n", 0.0)))
    return (new + inp * (h - new),)


def _equinox_lstm(w: Weights, x: Array, h: Array, c: Array, *, f: Any, g: Any, h_of: Any) -> States:
    i, forget, new, o = np.split(x @ w["weight_ih"].T + h @ w["weight_hh"].T + w.get("bias", 0.0), 4, -1)
    c = f(forget) * c + f(i) * g(new)
    return f(o) * h_of(c), c


def _onnx_biases(w: Weights, gates: int) -> list[Array]:
    units = w["R"].shape[-1]
    return np.split(w.get("B", np.zeros(2 * gates * units)), 2 * gates)


def _onnx_gru(after: bool) -> Step:
    def step(w: Weights, x: Array, h: Array, *, f: Any, g: Any) -> States:
        (wz, wr, wh), (rz, rr, rh) = np.split(w["W"], 3), np.split(w["R"], 3)
        wbz, wbr, wbh, rbz, rbr, rbh = _onnx_biases(w, 3)
        z = f(x @ wz.T + h @ rz.T + wbz + rbz)
        r = f(x @ wr.T + h @ rr.T + wbr + rbr)
        n = g(x @ wh.T + r * (h @ rh.T + rbh) + wbh) if after else g(x @ wh.T + (r * h) @ rh.T + rbh + wbh)
        return ((1 - z) * n + z * h,)

    return step


def _onnx_lstm(coupled: bool) -> Step:
    def step(w: Weights, x: Array, h: Array, c: Array, *, f: Any, g: Any, h_of: Any) -> States:
        (wi, wo, wf, wc), (ri, ro, rf, rc) = np.split(w["W"], 4), np.split(w["R"], 4)
        wbi, wbo, wbf, wbc, rbi, rbo, rbf, rbc = _onnx_biases(w, 4)
        pi, po, pf = np.split(w["P"], 3) if "P" in w else (0.0, 0.0, 0.0)
        i = f(x @ wi.T + h @ ri.T + pi * c + wbi + rbi)
        forget = 1 - i if coupled else f(x @ wf.T + h @ rf.T + pf * c + wbf + rbf)
        new = g(x @ wc.T + h @ rc.T + wbc + rbc)
        c = forget * c + i * new
        o = f(x @ wo.T + h @ ro.T + po * c + wbo + rbo)
        return o * h_of(c), c

    return step


def _onnx_rnn(w: Weights, x: Array, h: Array, *, f: Any) -> States:
    wb, rb = _onnx_biases(w, 1)
    return (f(x @ w["W"].T + h @ w["R"].T + wb + rb),)


def _tensorflow1_gru(w: Weights, x: Array, h: Array, *, f: Any, g: Any) -> States:
    r, u = np.split(f(np.concatenate([x, h], -1) @ w["gates.kernel"] + w["gates.bias"]), 2, -1)
    c = g(np.concatenate([x, r * h], -1) @ w["candidate.kernel"] + w["candidate.bias"])
    return (u * h + (1 - u) * c,)


def _textbook_gru(renews: bool, x_first: bool) -> Step:
    def step(w: Weights, x: Array, h: Array, *, f: Any, g: Any) -> States:
        def gate(name: str, state: Array) -> Array:
            both = np.concatenate([x, state] if x_first else [state, x], -1)
            total: Array = both @ w[f"W_{name}"].T + w.get(f"b_{name}", 0.0)
            return total

        r, z = f(gate("r", h)), f(gate("z", h))
        n = g(gate("n", r * h))
        return ((1 - z) * h + z * n,) if renews else (z * h + (1 - z) * n,)

    return step


def _textbook_lstm(x_first: bool) -> Step:
    def step(w: Weights, x: Array, h: Array, c: Array, *, f: Any, g: Any, h_of: Any) -> States:
        both = np.concatenate([x, h] if x_first else [h, x], -1)
        i, forget, new, o = (both @ w[f"W_{k}"].T + w.get(f"b_{k}", 0.0) for k in "ifgo")
        c = f(forget) * c + f(i) * g(new)
        return f(o) * h_of(c), c

    return step


def _textbook_rnn(x_first: bool) -> Step:
    def step(w: Weights, x: Array, h: Array, *, f: Any) -> States:
        both = np.concatenate([x, h] if x_first else [h, x], -1)
        return (f(both @ w["W_n"].T + w.get("b_n", 0.0)),)

    return step


STEPS: dict[str, Step] = {
    "keras GRU": _keras_gru,
    "keras GRU reset_after=False": _keras_gru_before,
    "keras LSTM": _keras_lstm,
    "keras SimpleRNN": _keras_rnn,
    "flax.nnx GRUCell": _nnx_gru,
    "flax.nnx LSTMCell": _flax_lstm,
    "flax.nnx OptimizedLSTMCell": _nnx_optimized_lstm,
    "flax.nnx SimpleCell": _nnx_rnn,
    "flax.linen GRUCell": _linen_gru,
    "flax.linen LSTMCell": _flax_lstm,
    "flax.linen SimpleCell": _linen_rnn,
    "equinox GRUCell": _equinox_gru,
    "equinox LSTMCell": _equinox_lstm,
    "onnx GRU": _onnx_gru(after=False),
    "onnx GRU linear_before_reset=1": _onnx_gru(after=True),
    "onnx LSTM": _onnx_lstm(coupled=False),
    "onnx LSTM P": _onnx_lstm(coupled=False),
    "onnx LSTM input_forget=1": _onnx_lstm(coupled=True),
    "onnx LSTM P input_forget=1": _onnx_lstm(coupled=True),
    "onnx RNN": _onnx_rnn,
    "tensorflow1 GRUCell": _tensorflow1_gru,
    "textbook GRU": _textbook_gru(renews=False, x_first=False),
    "textbook GRU z renews": _textbook_gru(renews=True, x_first=False),
    "textbook LSTM": _textbook_lstm(x_first=False),
    "textbook RNN": _textbook_rnn(x_first=False),
    "textbook GRU [x, h]": _textbook_gru(renews=False, x_first=True),
    "textbook GRU [x, h] z renews": _textbook_gru(renews=True, x_first=True),
    "textbook LSTM [x, h]": _textbook_lstm(x_first=True),
    "textbook RNN [x, h]": _textbook_rnn(x_first=True),
}


def reading(
    layout: str,
    directions: Sequence[Weights],
    activations: Activations,
    bidirectional: bool = False,
    reverse: bool = False,
) -> Reference:
    """A format's formula on its own arrays.

    Args:
        layout: its name. directions: the arrays of every layer's directions. activations, bidirectional, reverse: as in
            ``Stack``.
    """
    names = ("f",) if len(activations) == 1 else ("f", "g", "h_of")
    functions = {n: function_of(a) for n, a in zip(names, activations, strict=False)}
    weights = [{n: np.asarray(v, np.float64) for n, v in own.items()} for own in directions]

    def run(given: Problem) -> Results:
        x, finals = given.x, []
        per_layer = 2 if bidirectional else 1
        for layer in range(0, len(weights), per_layer):
            outputs = []
            for k in range(layer, layer + per_layer):
                backwards = reverse or k > layer
                states = tuple(s[k] for s in given.initial)
                y, states = _sequence(STEPS[layout], weights[k], x, states, functions, backwards)
                outputs.append(y)
                finals.append(states)
            x = np.concatenate(outputs, -1)
        return Results(x, tuple(np.stack(own) for own in zip(*finals, strict=True)))

    return Reference(f"a numpy reading of the formula of {layout}", run)


def _sequence(
    step: Step, weights: Weights, x: Array, states: States, functions: Mapping[str, Any], backwards: bool
) -> tuple[Array, States]:
    outputs = []
    for t in range(x.shape[1] - 1, -1, -1) if backwards else range(x.shape[1]):
        states = step(weights, x[:, t], *states, **functions)
        outputs.append(states[0])
    return np.stack(outputs[::-1] if backwards else outputs, 1), states
