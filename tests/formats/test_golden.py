"""What real frameworks computed, in files that they made (``make_golden.py``): no framework is needed to hold to it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats.golden_files import FOLDER, entries
from safetensors.numpy import load_file

import gatewise as gw
from gatewise.errors import InputError
from gatewise.formats.compare import Problem, Results, apart, run

ALL = [
    pytest.param(file, name, id=name)
    for file in ("keras", "flax", "equinox", "onnx")
    for name in entries(load_file(FOLDER / f"{file}.safetensors"))
]


def golden(file: str, name: str) -> tuple[list[dict[str, np.ndarray]], Problem, Results]:
    """The arrays of each direction, the problem, and what the framework computed."""
    whole = load_file(FOLDER / f"{file}.safetensors")
    own = {key.removeprefix(f"{name}|"): value for key, value in whole.items() if key.startswith(f"{name}|")}
    count = 2 if name.endswith(" both") else 1
    weights = [{n[2:]: v for n, v in own.items() if n.startswith(f"{k}|")} for k in range(count)]
    states = sum(key.startswith("initial") for key in own)
    initial = tuple(own[f"initial{k}"].astype(np.float64) for k in range(states))
    final = tuple(own[f"final{k}"] for k in range(states))
    return weights, Problem(own["x"].astype(np.float64), initial), Results(own["y"], final)


@pytest.mark.parametrize(("file", "name"), ALL)
def test_gatewise_computes_what_the_framework_computed(file: str, name: str) -> None:
    weights, given, expected = golden(file, name)
    converted = gw.formats.from_arrays(name.removesuffix(" both"), weights)
    assert apart(expected, run(converted.layer, given)) < 2e-6


@pytest.mark.parametrize(("file", "name"), [p for p in ALL if p.values[1].endswith(" both")])
def test_the_directions_are_not_each_others(file: str, name: str) -> None:
    weights, given, expected = golden(file, name)
    converted = gw.formats.from_arrays(name.removesuffix(" both"), weights[::-1])
    assert apart(expected, run(converted.layer, given)) > 1e-2


@pytest.mark.parametrize(("file", "name"), [p for p in ALL if not p.values[1].endswith(" both")])
def test_the_way_back_gives_the_same_arrays(file: str, name: str) -> None:
    """But for two biases of a gate that Gatewise's layer keeps as one."""
    (own,), _, _ = golden(file, name)
    layer: Any = gw.formats.from_arrays(name, own).layer
    (back,) = gw.formats.to_arrays(layer, name)
    for key, value in own.items():
        if key == "B":
            first, second = back[key].view(2, -1).numpy(), value.reshape(2, -1)
            assert np.allclose(first.sum(0)[: len(second[0])], second.sum(0), atol=1e-6) or "input_forget" in name
        elif "input_forget" not in name:
            assert np.array_equal(back[key].numpy(), value), key


def test_a_file_of_keras_without_keras(tmp_path: Path) -> None:
    pytest.importorskip("h5py", exc_type=ImportError)
    (encoder, top) = gw.formats.find(FOLDER / "model.keras")
    assert str(encoder.stack) == "gru_reset_after(2, 3, bidirectional)"
    assert str(top.stack) == "lstm(6, 3) with sigmoid, relu, relu"
    assert {name: one.difference < 1e-5 for name, one in gw.formats.layers(FOLDER / "model.keras").items()} == {
        "encoder": True,
        "top": True,
    }
    with zipfile.ZipFile(FOLDER / "model.keras") as archive:
        (tmp_path / "model.weights.h5").write_bytes(archive.read("model.weights.h5"))
    (encoder, top) = gw.formats.find(tmp_path / "model.weights.h5")
    assert (encoder.name, top.name, top.stack.usual_activations()) == ("encoder", "top", True)
    assert "does not store activations" in top.notes[0]


def test_a_file_of_flax() -> None:
    pytest.importorskip("flax", exc_type=ImportError)
    found = gw.formats.layers(FOLDER / "params.msgpack")
    assert {name: one.found.kind for name, one in found.items()} == {
        "nnx_GRUCell": "flax.nnx GRUCell",
        "nnx_LSTMCell": "flax.nnx LSTMCell",
        "nnx_OptimizedLSTMCell": "flax.nnx OptimizedLSTMCell",
        "nnx_SimpleCell": "flax.nnx SimpleCell",
        "GRUCell": "flax.linen GRUCell",
        "LSTMCell": "flax.linen LSTMCell",
        "SimpleCell": "flax.linen SimpleCell",
    }


def test_a_file_of_onnx() -> None:
    pytest.importorskip("onnx", exc_type=ImportError)
    (found,) = gw.formats.find(FOLDER / "model.onnx")
    assert str(found.stack) == "lstm_peephole(2, 3, bidirectional)"


def test_a_layout_that_is_none() -> None:
    with pytest.raises(InputError, match=r"layout must be one of .*keras GRU.* got 'theano'"):
        gw.formats.from_arrays("theano", {})
