"""A layer that runs from the last step to the first goes out as one, or is refused: never as one that runs forwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from formats.samples import filled
from torch import nn

import gatewise as gw
from gatewise.errors import InputError


def reversed_lstm(num_layers: int = 1) -> Any:
    return gw.formats.Reversed(filled(gw.LSTM(3, 4, num_layers))).eval()


@pytest.mark.parametrize(
    ("to", "file", "sentence"),
    [
        ("torch", "out.pt", "torch.nn.LSTM has no layer that runs from the last step to the first alone"),
        ("gatewise", "out.safetensors", "Gatewise has no layer that runs from the last step to the first alone"),
        ("linen", "out.npz", "flax.linen LSTMCell has no layer that runs from the last step to the first alone"),
        ("flax", "out.npz", "flax.nnx LSTMCell has no layer that runs from the last step to the first alone"),
        ("equinox", "out.npz", "equinox LSTMCell has no layer that runs from the last step to the first alone"),
    ],
)
def test_a_format_without_it_refuses(to: str, file: str, sentence: str, tmp_path: Path) -> None:
    for source in (reversed_lstm(), nn.ModuleDict({"back": reversed_lstm(), "head": nn.Linear(4, 2)})):
        with pytest.raises(InputError, match=sentence):
            gw.formats.convert(source, to, tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_keras_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    pytest.importorskip("keras", exc_type=ImportError)
    with pytest.raises(InputError, match="gives the steps in the other order than this layer"):
        gw.formats.convert(reversed_lstm(), "keras", tmp_path / "out.keras")


@pytest.mark.parametrize("num_layers", [1, 2])
def test_onnx_has_it(num_layers: int, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", exc_type=ImportError)
    own = reversed_lstm(num_layers)
    gw.formats.convert(nn.ModuleDict({"back": own}), "onnx", tmp_path / "out.onnx")
    session = runtime.InferenceSession(tmp_path / "out.onnx")
    x = torch.randn(6, 2, 3)
    zeros = np.zeros((num_layers, 2, 4), np.float32)
    (y,) = session.run(["back.y"], {"back.x": x.numpy(), "back.h_0": zeros, "back.c_0": zeros})
    np.testing.assert_allclose(y, own(x)[0].detach().numpy(), atol=1e-5)
    assert gw.formats.to_onnx(own).graph.node


def test_the_layer_inside_is_found_where_it_also_stands_by_itself() -> None:
    back = reversed_lstm()
    model = nn.ModuleDict({"back": back, "forth": back.layer})
    assert {one.name: str(one.stack) for one in gw.formats.find(model)} == {
        "back": "lstm(3, 4, reverse)",
        "forth": "lstm(3, 4)",
    }


def test_two_directions_are_left() -> None:
    (left,) = gw.formats.find(gw.formats.Reversed(gw.GRU(3, 4, bidirectional=True)))
    assert isinstance(left, gw.formats.Left)
    assert "a Reversed layer of two directions" in left.reason
