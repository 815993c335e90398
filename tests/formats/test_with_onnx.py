"""ONNX in and out, beside ONNX Runtime: random weights, every attribute, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from formats.samples import LAYERS, layer

import gatewise as gw
from gatewise.errors import InputError

onnx = pytest.importorskip("onnx", exc_type=ImportError)
runtime = pytest.importorskip("onnxruntime", exc_type=ImportError)

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
INPUT, HIDDEN, ROWS, STEPS = 3, 4, 3, 6


def model(op: str, direction: str = "forward", peepholes: bool = False, roles: str = "", **attributes: Any) -> Any:
    """A graph of one node with random weights; roles: the further inputs it takes."""
    random = np.random.default_rng(len(op) + len(direction))
    count = 2 if direction == "bidirectional" else 1
    rows = GATES[op] * HIDDEN
    shapes = {"W": (count, rows, INPUT), "R": (count, rows, HIDDEN), "B": (count, 2 * rows)}
    shapes |= {"P": (count, 3 * HIDDEN)} if peepholes else {}
    weights = {n: (random.normal(size=s) / 2).astype(np.float32) for n, s in shapes.items()}
    given = roles.split()
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", *(["initial_c", "P"] if op == "LSTM" else [])]
    inputs = [role if role in ("X", *weights, *given) else "" for role in order]
    outputs = ["Y", "Y_h", *(["Y_c"] if op == "LSTM" else [])]
    node = onnx.helper.make_node(op, inputs, outputs, "node", hidden_size=HIDDEN, direction=direction, **attributes)
    info, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    types = {"sequence_lens": kinds.INT32}
    graph = onnx.helper.make_graph(
        [node],
        "test",
        [info(n, types.get(n, kinds.FLOAT), None) for n in ("X", *given)],
        [info(n, kinds.FLOAT, None) for n in outputs],
        [onnx.numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "GRU": ("GRU", {}),
    "GRU linear_before_reset": ("GRU", {"linear_before_reset": 1}),
    "GRU activations": (
        "GRU",
        {"activations": ["HardSigmoid", "ScaledTanh"], "activation_alpha": [0.3, 1.2], "activation_beta": [0.4, 0.7]},
    ),
    "GRU softsign": ("GRU", {"activations": ["Sigmoid", "Softsign"], "linear_before_reset": 1}),
    "LSTM": ("LSTM", {}),
    "LSTM peepholes": ("LSTM", {"peepholes": True}),
    "LSTM input_forget": ("LSTM", {"input_forget": 1}),
    "LSTM input_forget peepholes": ("LSTM", {"input_forget": 1, "peepholes": True}),
    "LSTM activations": (
        "LSTM",
        {
            "activations": ["HardSigmoid", "LeakyRelu", "Affine"],
            "activation_alpha": [0.25, 0.1, 0.5],
            "activation_beta": [0.5, 0.2],
        },
    ),
    "RNN": ("RNN", {}),
    "RNN relu": ("RNN", {"activations": ["Relu"]}),
    "RNN elu": ("RNN", {"activations": ["Elu"], "activation_alpha": [0.7]}),
    "RNN thresholded": ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}),
    "RNN softplus": ("RNN", {"activations": ["Softplus"]}),
}


def both_ways(attributes: dict[str, Any]) -> dict[str, Any]:
    """Activations of a bidirectional node are named twice."""
    lists = ("activations", "activation_alpha", "activation_beta")
    return {n: v * 2 if n in lists else v for n, v in attributes.items()}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", VARIANTS)
def test_random_weights_beside_onnx_runtime(name: str, direction: str) -> None:
    op, attributes = VARIANTS[name]
    attributes = both_ways(attributes) if direction == "bidirectional" else attributes
    roles = "sequence_lens initial_h" + (" initial_c" if op == "LSTM" else "")
    made = model(op, direction, roles=roles, **attributes)
    random, count = np.random.default_rng(5), 2 if direction == "bidirectional" else 1
    feeds = {"X": random.normal(size=(STEPS, ROWS, INPUT)).astype(np.float32)}
    feeds["sequence_lens"] = np.array([6, 2, 4], np.int32)
    for role in roles.split()[1:]:
        feeds[role] = random.normal(size=(count, ROWS, HIDDEN)).astype(np.float32)
    expected = runtime.InferenceSession(made.SerializeToString()).run(None, feeds)
    (module,) = gw.formats.onnx_modules(made).values()
    with torch.no_grad():
        results = module(**{role: torch.from_numpy(value) for role, value in feeds.items()})
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-6, rtol=2e-5)


def test_a_constant_initial_state_is_learned() -> None:
    start = np.tile(np.arange(HIDDEN, dtype=np.float32) / 10, (1, ROWS, 1))
    made = model("GRU", roles="initial_h")
    del made.graph.input[1:]
    made.graph.initializer.append(onnx.numpy_helper.from_array(start, "initial_h"))
    ours = gw.formats.layer(made)
    assert torch.equal(ours.h_0_l0[0], torch.from_numpy(start[0, 0]))
    x = np.random.default_rng(5).normal(size=(STEPS, ROWS, INPUT)).astype(np.float32)
    expected = runtime.InferenceSession(made.SerializeToString()).run(None, {"X": x})[0]
    with torch.no_grad():
        y, _ = ours(torch.from_numpy(x))
    np.testing.assert_allclose(y.numpy(), expected[:, 0], atol=2e-6)
    start[0, 1] = 7
    made.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(start, "initial_h"))
    with pytest.raises(InputError, match="initial_h is another constant for each row"):
        gw.formats.layer(made)


def test_weights_that_are_computed_of_constants() -> None:
    """As exporters write them: transposed, in parts."""
    made = model("GRU", linear_before_reset=1)
    (w,) = (t for t in made.graph.initializer if t.name == "W")
    value = onnx.numpy_helper.to_array(w).copy()
    w.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value[0].T), "W_t"))
    axes = onnx.numpy_helper.from_array(np.array([0], np.int64), "axes")
    made.graph.initializer.append(axes)
    made.graph.node.insert(0, onnx.helper.make_node("Transpose", ["W_t"], ["W_2"], perm=[1, 0]))
    made.graph.node.insert(1, onnx.helper.make_node("Unsqueeze", ["W_2", "axes"], ["W"]))
    assert torch.equal(gw.formats.layer(made).weight_ih_l0[:HIDDEN], torch.from_numpy(value[0, HIDDEN : 2 * HIDDEN]))


def test_what_torch_exports(tmp_path: Path) -> None:
    """Its weights are transposed and joined in the graph."""
    pytest.importorskip("onnxscript", exc_type=ImportError)
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LSTM(5, 4, 2, bidirectional=True)).eval()
    torch.onnx.export(theirs, (torch.randn(6, 2, 3),), tmp_path / "model.onnx", dynamo=True, verbose=False)
    first, second = gw.formats.layers(tmp_path / "model.onnx").values()
    assert torch.equal(first.layer.weight_ih_l0, theirs[1].weight_ih_l0)
    assert torch.equal(second.layer.weight_hh_l0_reverse, theirs[1].weight_hh_l1_reverse)


@pytest.mark.parametrize(
    ("op", "attributes", "sentence"),
    [
        ("GRU", {"clip": 3.0}, "node node: the attribute clip of GRU is 3.0, which Gatewise does not have"),
        ("LSTM", {"linear_before_reset": 1}, "the attribute linear_before_reset of LSTM is 1"),
        ("RNN", {"activations": ["Sign"]}, "activations must be of Sigmoid, Tanh, .* got 'Sign'"),
        (
            "GRU",
            {"activations": ["Sigmoid", "ThresholdedRelu"]},
            "node node: ThresholdedRelu has no activation_alpha, for",
        ),
        ("RNN", {"activations": ["Affine"]}, "Affine has no activation_alpha"),
        (
            "LSTM",
            {"activations": ["Sigmoid", "ScaledTanh", "Tanh"], "activation_alpha": [0.5]},
            "ScaledTanh has no activation_beta",
        ),
        ("GRU", {"activations": ["Sigmoid"]}, "activations must name 2 functions, got Sigmoid"),
        ("GRU", {"direction": "sideways"}, "direction must be one of forward, reverse, bidirectional, got 'sideways'"),
        ("LSTM", {"input_forget": 1, "activations": ["Tanh"] * 3}, "input_forget=1 is exact where"),
        ("LSTM", {"input_forget": 2}, "input_forget must be 0 or 1, got 2"),
        (
            "RNN",
            {"direction": "bidirectional", "activations": ["Tanh", "Relu"]},
            "activations must be the same in both directions, got Tanh, Relu",
        ),
    ],
)
def test_what_gatewise_does_not_have_is_named(op: str, attributes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        gw.formats.layers(model(op, **attributes))


def spoiled(name: str, change: Any) -> Any:
    made = model("GRU")
    tensor = next(t for t in made.graph.initializer if t.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), name))
    return made


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("W", lambda v: v[:, :-1], r"W must have shape \(1, 12, 'input_size'\), got \(1, 11, 3\)"),
        ("R", lambda v: v[:, :, :-1], r"R must have shape \(1, 12, 4\), got \(1, 12, 3\)"),
        ("B", lambda v: v[:, :12], r"B must have shape \(1, 24\), got \(1, 12\)"),
        ("B", lambda v: v * np.float32("nan"), "must be finite, got a number that is not"),
    ],
)
def test_weights_that_contradict_the_node(name: str, change: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        gw.formats.layers(spoiled(name, change))


def test_bad_files(tmp_path: Path) -> None:
    good = model("GRU").SerializeToString()
    cases = {
        "truncated": (good[: len(good) // 2], "is damaged or no ONNX file"),
        "text": (b"hello", "is damaged or no ONNX file"),
        "empty": (b"", "is empty"),
    }
    for content, sentence in cases.values():
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(InputError, match=sentence):
            gw.formats.layers(tmp_path / "bad.onnx")
    outside = model("GRU")
    weights = outside.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    place = weights.external_data.add(key="location")
    for place.value, sentence in (
        (
            "../../secret.bin",
            r"keeps weights in '\.\./\.\./secret\.bin', which lies outside its folder and is not read",
        ),
        ("missing.bin", "keeps weights in 'missing.bin', which is missing"),
    ):
        (tmp_path / "bad.onnx").write_bytes(outside.SerializeToString())
        with pytest.raises(InputError, match=sentence):
            gw.formats.layers(tmp_path / "bad.onnx")


@pytest.mark.parametrize("fault", ["gates", "bias", "directions", "linear_before_reset"])
def test_a_planted_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gatewise.formats import onnx_out

    write, parts = onnx_out.write, onnx_out.parts

    def wrong(layout: Any, blocks: Any) -> Any:
        arrays = write(layout, blocks)
        if fault == "gates":
            arrays["R"] = arrays["R"].roll(4, 0)
        if fault == "bias":
            arrays["B"] = torch.zeros_like(arrays["B"])
        return arrays

    def turned(stack: Any) -> Any:
        return [dataclasses.replace(p, directions=p.directions[::-1]) for p in parts(stack)]

    monkeypatch.setattr(onnx_out, "write", wrong)
    if fault == "directions":
        monkeypatch.setattr(onnx_out, "parts", turned)
    if fault == "linear_before_reset":
        op, table, _ = onnx_out.NODES["gru_reset_after"]
        monkeypatch.setitem(onnx_out.NODES, "gru_reset_after", (op, table, {}))
    with pytest.raises(InputError, match=r"differ by .* so nothing was written"):
        gw.formats.convert(layer("gru_reset_after"), "onnx", tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


REFUSED = {"lstm proj_size": "no projection of the state", "mgu": "Gatewise alone"}


@pytest.mark.parametrize("name", LAYERS)
def test_out_and_in_again(name: str, tmp_path: Path) -> None:
    own = layer(name)
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            gw.formats.to_onnx(own)
        return
    report = gw.formats.convert(own, "onnx", tmp_path / "out.onnx")
    (row,) = report.rows
    assert row.written_against.startswith("ONNX Runtime ")
    assert row.written_difference < (0.1 if name == "lstm in bfloat16" else 1e-5)
    layers = gw.formats.layers(tmp_path / "out.onnx")
    assert len(layers) == getattr(own, "num_layers", 1)
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)
