"""Makes the golden files beside it with the real frameworks: ``python tests/formats/make_golden.py``.

Needs the extra ``formats``. Each ``.safetensors`` has, for each layer, the arrays as the framework holds them, an
input, initial states, and what the framework computed; it is read where no framework is installed. The other files are
what the frameworks' own functions saved.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import equinox
import flax.linen
import flax.serialization
import jax
import keras
import numpy as np
import onnx
import onnxruntime
from flax import nnx
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "golden"
INPUT, HIDDEN, ROWS, STEPS = 2, 3, 2, 4
Entries = dict[str, np.ndarray]
random = np.random.default_rng(20)


def numbers(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def entry(layout: str, weights: list[Entries], states: int, run: Any) -> Entries:
    """The arrays of a layer, a problem, and its results."""
    x = numbers(ROWS, STEPS, INPUT)
    initial = [numbers(len(weights), ROWS, HIDDEN) for _ in range(states)]
    y, final = run(x, initial)
    found = {f"{layout}|{k}|{name}": value for k, own in enumerate(weights) for name, value in own.items()}
    found |= {f"{layout}|x": x, f"{layout}|y": np.asarray(y)}
    for k in range(states):
        found |= {f"{layout}|initial{k}": initial[k], f"{layout}|final{k}": np.asarray(final[k])}
    return found


def write(name: str, found: Entries) -> None:
    save_file({key: np.ascontiguousarray(value) for key, value in found.items()}, FOLDER / f"{name}.safetensors")


def of_keras() -> None:
    layers = keras.layers
    kinds = {
        "keras GRU": layers.GRU(HIDDEN, return_sequences=True, return_state=True),
        "keras GRU reset_after=False": layers.GRU(HIDDEN, reset_after=False, return_sequences=True, return_state=True),
        "keras LSTM": layers.LSTM(HIDDEN, return_sequences=True, return_state=True),
        "keras SimpleRNN": layers.SimpleRNN(HIDDEN, return_sequences=True, return_state=True),
    }
    kinds |= {
        f"{name} both": layers.Bidirectional(type(one).from_config(one.get_config())) for name, one in kinds.items()
    }
    found: Entries = {}
    for name, layer in kinds.items():
        layer.build((None, None, INPUT))
        layer.set_weights([numbers(*w.shape) for w in layer.get_weights()])
        halves = [layer.forward_layer, layer.backward_layer] if name.endswith("both") else [layer]
        weights = [dict(zip(("kernel", "recurrent_kernel", "bias"), h.get_weights(), strict=True)) for h in halves]
        count = 2 if "LSTM" in name else 1

        def run(x: np.ndarray, initial: list[np.ndarray], layer: Any = layer, count: int = count) -> Any:
            flat = [keras.ops.convert_to_tensor(s[k]) for k in range(len(initial[0])) for s in initial]
            y, *final = (keras.ops.convert_to_numpy(v) for v in layer(x, initial_state=flat))
            return y, [np.stack(final[n::count]) for n in range(count)]

        found |= entry(name, weights, count, run)
    write("keras", found)
    model = keras.Sequential(
        [
            keras.Input((None, INPUT)),
            layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=True), name="encoder"),
            layers.LSTM(HIDDEN, activation="relu", name="top"),
        ]
    )
    model.set_weights([numbers(*w.shape) for w in model.get_weights()])
    model.save(FOLDER / "model.keras")


def sequence(step: Any, x: np.ndarray, states: tuple[Any, ...]) -> tuple[np.ndarray, tuple[Any, ...]]:
    outputs = []
    for t in range(x.shape[1]):
        states = step(x[:, t], states)
        outputs.append(np.asarray(states[0]))
    return np.stack(outputs, 1), states


def carried(states: tuple[Any, ...]) -> Any:
    return states[0] if len(states) == 1 else (states[1], states[0])


def uncarried(carry: Any) -> tuple[Any, ...]:
    return (carry[1], carry[0]) if isinstance(carry, tuple) else (carry,)


def named(tree: Any) -> Entries:
    return {".".join(str(k.key) for k in path): np.asarray(v) for path, v in jax.tree_util.tree_leaves_with_path(tree)}


def filled(tree: Any) -> Any:
    return jax.tree_util.tree_map(lambda value: jax.numpy.asarray(numbers(*value.shape)), tree)


def of_flax() -> None:
    found: Entries = {}
    saved = {}
    for kind in ("GRUCell", "LSTMCell", "SimpleCell"):
        cell = getattr(flax.linen, kind)(HIDDEN)
        count = 2 if kind == "LSTMCell" else 1
        start = carried(tuple(np.zeros((ROWS, HIDDEN), np.float32) for _ in range(count)))
        tree = filled(cell.init(jax.random.key(0), start, numbers(ROWS, INPUT))["params"])
        saved[kind] = tree

        def run(x: np.ndarray, initial: list[np.ndarray], cell: Any = cell, tree: Any = tree) -> Any:
            def step(now: Any, states: Any) -> Any:
                return uncarried(cell.apply({"params": tree}, carried(states), now)[0])

            y, final = sequence(step, x, tuple(s[0] for s in initial))
            return y, [np.asarray(f)[None] for f in final]

        found |= entry(f"flax.linen {kind}", [named(tree)], count, run)
    for kind in ("GRUCell", "LSTMCell", "OptimizedLSTMCell", "SimpleCell"):
        module = getattr(nnx, kind)(INPUT, HIDDEN, rngs=nnx.Rngs(0))
        tree = filled(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
        nnx.update(module, tree)
        saved[f"nnx_{kind}"] = tree

        def run_nnx(x: np.ndarray, initial: list[np.ndarray], module: Any = module) -> Any:
            y, final = sequence(lambda now, s: uncarried(module(carried(s), now)[0]), x, tuple(s[0] for s in initial))
            return y, [np.asarray(f)[None] for f in final]

        found |= entry(f"flax.nnx {kind}", [named(tree)], 2 if "LSTM" in kind else 1, run_nnx)
    write("flax", found)
    (FOLDER / "params.msgpack").write_bytes(flax.serialization.to_bytes(saved))


def of_equinox() -> None:
    found: Entries = {}
    for kind, names in {"GRUCell": ("bias", "bias_n"), "LSTMCell": ("bias",)}.items():
        cell = getattr(equinox.nn, kind)(INPUT, HIDDEN, key=jax.random.key(1))
        weights = {n: numbers(*getattr(cell, n).shape) for n in ("weight_ih", "weight_hh", *names)}

        def pick(c: Any, weights: Entries = weights) -> Any:
            return [getattr(c, n) for n in weights]

        cell = equinox.tree_at(pick, cell, [jax.numpy.asarray(v) for v in weights.values()])

        def run(x: np.ndarray, initial: list[np.ndarray], cell: Any = cell) -> Any:
            def step(now: Any, states: Any) -> Any:
                new = jax.vmap(cell)(now, states if len(states) > 1 else states[0])
                return new if isinstance(new, tuple) else (new,)

            y, final = sequence(step, x, tuple(s[0] for s in initial))
            return y, [np.asarray(f)[None] for f in final]

        found |= entry(f"equinox {kind}", [weights], 2 if kind == "LSTMCell" else 1, run)
    write("equinox", found)


NODES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "onnx GRU": ("GRU", 3, {}),
    "onnx GRU linear_before_reset=1": ("GRU", 3, {"linear_before_reset": 1}),
    "onnx LSTM": ("LSTM", 4, {}),
    "onnx LSTM P": ("LSTM", 4, {}),
    "onnx LSTM input_forget=1": ("LSTM", 4, {"input_forget": 1}),
    "onnx LSTM P input_forget=1": ("LSTM", 4, {"input_forget": 1}),
    "onnx RNN": ("RNN", 1, {}),
}


def onnx_model(name: str, weights: Entries, both: bool) -> Any:
    op, _, attributes = NODES[name]
    states = ["initial_h", "initial_c"][: 2 if op == "LSTM" else 1]
    inputs = ["X", "W", "R", "B", "", *states, *(["P"] if "P" in weights else [])]
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    direction = "bidirectional" if both else "forward"
    node = onnx.helper.make_node(op, inputs, outputs, "node", hidden_size=HIDDEN, direction=direction, **attributes)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "golden",
        [info(n, onnx.TensorProto.FLOAT, None) for n in ("X", *states)],
        [info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
        [onnx.numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)


def of_onnx() -> None:
    found: Entries = {}
    for name, (op, gates, _) in NODES.items():
        for both in (False, True):
            count = 2 if both else 1
            weights = {"W": numbers(count, gates * HIDDEN, INPUT), "R": numbers(count, gates * HIDDEN, HIDDEN)}
            weights["B"] = numbers(count, 2 * gates * HIDDEN)
            if " P" in name:
                weights["P"] = numbers(count, 3 * HIDDEN)
            model = onnx_model(name, weights, both)
            if name == "onnx LSTM P" and both:
                onnx.save(model, FOLDER / "model.onnx")
            session = onnxruntime.InferenceSession(model.SerializeToString())

            def run(x: np.ndarray, initial: list[np.ndarray], session: Any = session, count: int = count) -> Any:
                feeds = dict(zip(("initial_h", "initial_c"), initial, strict=False))
                y, *final = session.run(None, {"X": x.swapaxes(0, 1), **feeds})
                return y.transpose(2, 0, 1, 3).reshape(ROWS, STEPS, count * HIDDEN), final

            own = [{n: v[k] for n, v in weights.items()} for k in range(count)]
            found |= entry(name + " both" * both, own, 2 if op == "LSTM" else 1, run)
    write("onnx", found)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for make in (of_keras, of_flax, of_equinox, of_onnx):
        make()
