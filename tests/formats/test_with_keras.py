"""Keras itself: live layers and files, in and out."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from formats.samples import LAYERS, layer

import gatewise as gw
from gatewise.errors import InputError

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", exc_type=ImportError)
pytest.importorskip("h5py", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

L = keras.layers
ONE: dict[str, Any] = {
    "GRU": lambda **more: L.GRU(4, return_sequences=True, **more),
    "GRU reset_after=False": lambda **more: L.GRU(4, reset_after=False, return_sequences=True, **more),
    "GRU without biases": lambda **more: L.GRU(4, use_bias=False, return_sequences=True, **more),
    "GRU hard": lambda **more: L.GRU(
        4, activation="softsign", recurrent_activation="hard_sigmoid", return_sequences=True, **more
    ),
    "LSTM": lambda **more: L.LSTM(4, return_sequences=True, **more),
    "LSTM relu": lambda **more: L.LSTM(4, activation="relu", return_sequences=True, **more),
    "SimpleRNN": lambda **more: L.SimpleRNN(4, activation="elu", return_sequences=True, **more),
    "RNN(GRUCell)": lambda **more: L.RNN(L.GRUCell(4), return_sequences=True, **more),
}


def built(made: Any, seed: int = 3) -> Any:
    """With different numbers everywhere."""
    random = np.random.default_rng(seed)
    if not made.built:
        made.build((None, None, 3))
    made.set_weights([random.normal(size=w.shape) / 2 for w in made.get_weights()])
    return made


def same(theirs: Any, ours: Any) -> None:
    x = np.random.default_rng(1).normal(size=(3, 6, 3)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(theirs(x))
    with torch.no_grad():
        y = ours(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(y, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("both", [False, True], ids=["one direction", "bidirectional"])
@pytest.mark.parametrize("name", ONE)
def test_live_layers(name: str, both: bool) -> None:
    theirs = ONE[name]()
    theirs = built(L.Bidirectional(theirs) if both else theirs)
    same(theirs, gw.formats.layer(theirs))


def test_backwards() -> None:
    theirs = built(L.LSTM(4, return_sequences=True, go_backwards=True))
    ours = gw.formats.layer(theirs)
    assert isinstance(ours, gw.formats.Reversed)
    x = torch.randn(3, 6, 3)
    expected = keras.ops.convert_to_numpy(theirs(x))[:, ::-1]  # Keras gives the steps in the order it took them
    with torch.no_grad():
        np.testing.assert_allclose(ours(x)[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_out_and_in_again(name: str, tmp_path: Path) -> None:
    own = layer(name)
    refused = {"lstm proj_size": "no projection", "lstm_peephole": "no peepholes", "mgu": "Gatewise alone"}
    if name in refused:
        with pytest.raises(InputError, match=refused[name]):
            gw.formats.to_keras(own)
        return
    theirs = gw.formats.to_keras(own)
    if isinstance(own, gw.Recurrent) and own.weight_hh_l0.dtype == torch.float32:
        own.batch_first = True
        same(theirs, own)
    report = gw.formats.convert(own, "keras", tmp_path / "out.keras")
    assert report.rows[0].written_difference < (0.1 if name == "lstm in bfloat16" else 1e-5)
    assert report.rows[0].written_against.startswith("keras ")
    theirs = keras.saving.load_model(tmp_path / "out.keras")
    assert len(gw.formats.layers(theirs)) == getattr(own, "num_layers", 1)


@pytest.mark.parametrize("fault", ["gates", "bias", "directions"])
def test_a_planted_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gatewise.formats import keras_out

    write, parts = keras_out.write, keras_out.parts

    def wrong(layout: Any, blocks: Any) -> Any:
        arrays = write(layout, blocks)
        if fault == "gates":
            arrays["recurrent_kernel"] = arrays["recurrent_kernel"].roll(4, 1)
        if fault == "bias":
            arrays["bias"] = torch.zeros_like(arrays["bias"])
        return arrays

    def turned(stack: Any) -> Any:
        return [dataclasses.replace(p, directions=p.directions[::-1]) for p in parts(stack)]

    monkeypatch.setattr(keras_out, "write", wrong)
    if fault == "directions":
        monkeypatch.setattr(keras_out, "parts", turned)
    own = gw.GRU(3, 4, bidirectional=True, reset_after=True)
    with pytest.raises(InputError, match=r"differ by .* so nothing was written"):
        gw.formats.convert(own, "keras", tmp_path / "out.keras")
    assert not list(tmp_path.iterdir())


def nested_model() -> Any:
    inner = keras.Sequential([keras.Input((None, 5)), L.GRU(4, name="deep", return_sequences=True)])
    x = keras.Input((None, 3))
    first = L.Bidirectional(L.LSTM(5, return_sequences=True), name="both", merge_mode="concat")(x)
    y = inner(L.Dense(5)(first))
    y = L.GRU(4, reset_after=False, name="last")(L.TimeDistributed(L.Dense(2))(y))
    return built(keras.Model(x, y))


def test_a_model_with_models_in_it(tmp_path: Path) -> None:
    model = nested_model()
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    expected = {
        "both": "lstm(3, 5, bidirectional)",
        "deep": "gru_reset_after(5, 4)",
        "last": "gru(2, 4)",
    }
    for source in (model, tmp_path / "model.keras", tmp_path / "model.weights.h5"):
        assert {f.name: str(f.stack) for f in gw.formats.find(source)} == expected
        for name, one in gw.formats.layers(source).items():
            live = gw.formats.layers(model)[name].layer.state_dict()
            assert all(torch.equal(v, live[n]) for n, v in one.layer.state_dict().items())


def test_what_gatewise_does_not_compute_is_left_with_the_reason(tmp_path: Path) -> None:
    x = keras.Input((None, 3))
    outputs = [
        L.Bidirectional(L.GRU(4), merge_mode="sum", name="sum")(x),
        L.GRU(4, activation="selu", name="selu")(x),
        L.RNN([L.LSTMCell(2), L.LSTMCell(2)], name="cells")(x),
        L.LSTM(2, name="fine")(x),
    ]
    keras.Model(x, outputs).save(tmp_path / "model.keras")
    found = gw.formats.find(tmp_path / "model.keras")
    left = {one.name: one.reason for one in found if isinstance(one, gw.formats.Left)}
    assert "merge_mode must be 'concat'" in left["sum"]
    assert "activation must be one of" in left["selu"]
    assert "StackedRNNCells" in left["lstm_cell"]
    assert [one.name for one in found if isinstance(one, gw.formats.Found)] == ["fine"]
    with pytest.raises(InputError, match=r"activation must be one of .* got 'selu'"):
        gw.formats.layers(tmp_path / "model.keras", ["selu"])
    assert list(gw.formats.layers(tmp_path / "model.keras", ["fine"])) == ["fine"]


def test_what_weights_alone_do_not_say(tmp_path: Path) -> None:
    x = keras.Input((None, 3))
    outputs = [L.Bidirectional(L.GRU(4), name="both")(x), L.LSTM(2, go_backwards=True, name="back")(x)]
    keras.Model(x, outputs).save_weights(tmp_path / "model.weights.h5")
    both, back = gw.formats.find(tmp_path / "model.weights.h5")
    assert both.notes == (*back.notes, "a .weights.h5 does not store merge_mode: 'concat' is taken")
    assert "does not store go_backwards: False is taken" in back.notes[1]
    with pytest.warns(UserWarning, match="layer both: a .weights.h5 does not store") as caught:
        gw.formats.layer(tmp_path / "model.weights.h5", "both")
    assert len([w for w in caught if "does not store" in str(w.message)]) == 3


def test_two_directions_of_different_activations() -> None:
    back = L.GRU(4, activation="relu", go_backwards=True, return_sequences=True)
    theirs = built(L.Bidirectional(L.GRU(4, return_sequences=True), backward_layer=back))
    with pytest.raises(InputError, match="got GRU with sigmoid, tanh and GRU with sigmoid, relu"):
        gw.formats.layer(theirs)


def changed(path: Path, out: Path, change: Any) -> Path:
    """A ``.keras`` file with another configuration, or other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out


def configured(change: Any) -> Any:
    def spoil(entries: dict[str, bytes]) -> None:
        config = json.loads(entries["config.json"])
        change(config["config"]["layers"][1]["config"])
        entries["config.json"] = json.dumps(config).encode()

    return spoil


BAD: dict[str, tuple[Any, str]] = {
    "an entry outside": (lambda e: e.update({"../evil.h5": b"x"}), "has an entry that points outside it"),
    "no configuration": (lambda e: e.pop("config.json"), "must hold config.json and model.weights.h5"),
    "no weights": (lambda e: e.pop("model.weights.h5"), "must hold config.json and model.weights.h5"),
    "broken configuration": (lambda e: e.update({"config.json": b"{"}), "is damaged or no .keras file"),
    "a list as configuration": (lambda e: e.update({"config.json": b"[]"}), "its config.json is no object"),
    "broken weights": (lambda e: e.update({"model.weights.h5": e["model.weights.h5"][:3000]}), "is damaged or no file"),
    "no hdf5": (lambda e: e.update({"model.weights.h5": b"hello"}), "is damaged or no file of Keras 3"),
    "another formula": (
        configured(lambda c: c.update(reset_after=False)),
        r"bias must have shape \(12,\), got \(2, ",
    ),
    "other units": (configured(lambda c: c.update(units=9)), "has units=9, its weights units=4"),
    "other biases": (configured(lambda c: c.update(use_bias=False)), "has use_bias=False, its weights use_bias=True"),
    "an activation of one's own": (configured(lambda c: c.update(activation="mine")), "got 'mine'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str, tmp_path: Path) -> None:
    built(keras.Sequential([keras.Input((None, 3)), L.GRU(4, name="gru")])).save(tmp_path / "good.keras")
    change, sentence = BAD[case]
    with pytest.raises(InputError, match=sentence):
        gw.formats.layers(changed(tmp_path / "good.keras", tmp_path / "bad.keras", change))


def test_a_layer_without_weights_and_what_is_no_layer() -> None:
    with pytest.raises(InputError, match="has no weights yet"):
        gw.formats.layer(L.GRU(4))
    with pytest.raises(InputError, match="must be a recurrent layer or a model of Keras, got Dense"):
        gw.formats.layer(L.Dense(4))
