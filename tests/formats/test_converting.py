"""From one format into another without any framework but torch: exact, checked, and refused where it is not exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from formats.samples import LAYERS, Model, filled, layer
from torch import Tensor, nn

import gatewise as gw
from gatewise.errors import InputError
from gatewise.formats import blocks
from gatewise.formats.layouts import Array
from gatewise.formats.targets import TARGETS

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")

REFUSED = {
    ("torch", "gru"): "no weights make the two the same",
    ("torch", "gru_renew"): "no weights make the two the same",
    ("torch", "lstm_peephole"): "torch.nn.LSTM has no peepholes",
    ("equinox", "gru"): "no weights make the two the same",
    ("equinox", "gru_renew"): "no weights make the two the same",
    ("equinox", "lstm_peephole"): "has no peepholes",
    ("equinox", "lstm proj_size"): "equinox LSTMCell has no place for the projection",
    ("equinox", "rnn"): "Equinox has no cell of the formula rnn",
    ("equinox", "rnn relu"): "Equinox has no cell of the formula rnn",
    ("flax", "gru"): "no weights make the two the same",
    ("flax", "gru_renew"): "no weights make the two the same",
    ("flax", "gru_reset_after"): "flax.nnx GRUCell has no place for the second bias of gate n",
    ("flax", "GRUCell"): "flax.nnx GRUCell has no place for the second bias of gate n",
    ("flax", "lstm_peephole"): "has no peepholes",
    ("flax", "lstm proj_size"): "has no place for the projection",
    ("linen", "gru"): "no weights make the two the same",
    ("linen", "gru_renew"): "no weights make the two the same",
    ("linen", "lstm_peephole"): "has no peepholes",
    ("linen", "lstm proj_size"): "has no place for the projection",
}


@pytest.mark.parametrize("to", ["torch", "gatewise", "equinox", "flax", "linen"])
@pytest.mark.parametrize("name", LAYERS)
def test_out_and_in_again(name: str, to: str, tmp_path: Path) -> None:
    """Bit by bit where nothing was added up, or the reason of the refusal."""
    own = layer(name)
    file = tmp_path / "out.safetensors"
    sentence = REFUSED.get((to, name), "belongs to Gatewise alone" if name == "mgu" else None)
    if sentence is not None:
        with pytest.raises(InputError, match=sentence):
            gw.formats.convert(own, to, file)
        assert not list(tmp_path.iterdir())
        return
    report = gw.formats.convert(own, to, file)
    assert report.rows[0].written_difference < (0.1 if name == "lstm in bfloat16" else 1e-6)
    back = gw.formats.layers(file)
    turned = name in ("lstm_coupled", "gru_renew")  # into an LSTM, and into a gru whose z keeps
    if to in ("torch", "gatewise") and not turned:
        (one,) = back.values()
        assert same(one.layer.state_dict(), own.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[n]) for n, v in one.items())


@pytest.mark.parametrize("suffix", TARGETS["torch"].suffixes)
def test_torch_itself_loads_what_was_written(suffix: str, tmp_path: Path) -> None:
    own = layer("gru_reset_after")
    gw.formats.convert(own, "torch", tmp_path / f"out{suffix}")
    theirs = nn.GRU(3, 4, 2, bidirectional=True)
    if suffix == ".pt":
        theirs.load_state_dict(torch.load(tmp_path / "out.pt", weights_only=True))
    else:
        import safetensors.torch

        theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "out.safetensors"))
    x = torch.randn(5, 2, 3)
    assert torch.allclose(theirs(x)[0], own(x)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["gru_reset_after", "lstm", "lstm proj_size", "lstm_coupled", "rnn relu", "GRUCell"])
def test_to_torch(name: str) -> None:
    own = layer(name)
    theirs = gw.formats.to_torch(own)
    x = torch.randn(2, 3) if isinstance(theirs, nn.RNNCellBase) else torch.randn(5, 2, 3)
    ours, result = own(x), theirs(x)
    pair = (ours, result) if isinstance(ours, Tensor) else (ours[0], result[0])
    assert torch.allclose(*pair, atol=1e-5)


def test_several_layers_keep_their_names(tmp_path: Path) -> None:
    model = filled(Model())
    names = ("encoder.rnn", "projected", "steps.1")
    report = gw.formats.convert(model, "torch", tmp_path / "out.pt", names)
    assert [row.name for row in report.rows] == list(names)
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    own = model.state_dict()
    assert same(state, {n: own[n] for n in state})
    with pytest.raises(InputError, match=r"name one of them: encoder.rnn, projected"):
        gw.formats.layer(tmp_path / "out.pt")
    with pytest.raises(InputError, match=r"layer must be one of .* got 'decoder'"):
        gw.formats.layer(tmp_path / "out.pt", "decoder")


def test_a_gatewise_file_keeps_formula_and_activations(tmp_path: Path) -> None:
    from gatewise.formats.formulas import Activation, cell_of

    cell = cell_of("gru", (Activation("hard_sigmoid", (0.2, 0.5)), Activation("softsign")))
    own = filled(gw.Recurrent(cell, 3, 4, bidirectional=True))
    gw.formats.convert(own, "gatewise", tmp_path / "out.safetensors")
    cell_of.cache_clear()
    back = gw.formats.layer(tmp_path / "out.safetensors")
    assert back.cell == cell
    with pytest.raises(InputError, match=r"layer must be|no weights make|usual activations"):
        gw.formats.convert(own, "torch", tmp_path / "other.pt")


def planted(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """``write`` with a fault in it."""
    right = blocks.write

    def wrong(layout: Any, given: Any) -> Any:
        return change(right(layout, given))

    for place in ("gatewise.formats.stack", "gatewise.formats.targets", "gatewise.formats.arrays"):
        monkeypatch.setattr(f"{place}.write", wrong)


def gates_swapped(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: v.roll(4, 0) if n == "weight_hh" else v for n, v in arrays.items()}


def bias_dropped(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: torch.zeros_like(v) if n == "bias_hh" else v for n, v in arrays.items()}


def small_bias_dropped(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: v.where(v.abs() > v.abs().min(), 0) if n == "bias_hh" else v for n, v in arrays.items()}


def transposed(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: torch.cat([m.T for m in v.split(4)]) if n == "weight_hh" else v for n, v in arrays.items()}


FAULTS = (gates_swapped, bias_dropped, small_bias_dropped, transposed)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["gru_reset_after", "lstm", "lstm in bfloat16"])
def test_a_planted_fault_is_caught_on_the_way_in(name: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {n: v.clone() for n, v in gw.formats.to_torch(layer(name)).state_dict().items()}
    planted(monkeypatch, fault)
    with pytest.raises(InputError, match=r"torch .* and Gatewise differ by .* so nothing was written"):
        gw.formats.layers(state)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["gru_reset_after", "lstm", "lstm in bfloat16"])
def test_a_planted_fault_is_caught_on_the_way_out(
    name: str, fault: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = layer(name)
    right = blocks.write
    monkeypatch.setattr("gatewise.formats.targets.write", lambda layout, given: fault(right(layout, given)))
    with pytest.raises(InputError, match="differ by"):
        gw.formats.convert(own, "torch", tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())


def test_directions_the_wrong_way_round_are_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gatewise.formats import targets

    right = targets.torch_state
    turned = {"_l0": "_l0_reverse", "_l0_reverse": "_l0"}

    def wrong(stack: Any) -> Any:
        state = right(stack)
        return {n.partition("_l0")[0] + turned["_l0" + n.partition("_l0")[2]]: v for n, v in state.items()}

    monkeypatch.setattr(targets, "torch_state", wrong)
    with pytest.raises(InputError, match="differ by"):
        gw.formats.convert(layer("lstm in float64"), "torch", tmp_path / "out.pt")
    assert not list(tmp_path.iterdir())


def test_a_wrong_table_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order in the table itself that is not the framework's."""
    from gatewise.formats.layouts import LAYOUTS, Layout

    own = LAYOUTS["keras GRU"]
    arrays = tuple(Array(a.name, a.parts, ("r", "z", "n"), a.transposed, a.rows) for a in own.arrays)
    (given,) = gw.formats.to_arrays(filled(gw.GRU(3, 4, reset_after=True)), "keras GRU")
    monkeypatch.setitem(LAYOUTS, "keras GRU", Layout("keras", "GRU", own.formula, arrays, own.source))
    with pytest.raises(InputError, match="differ by"):
        gw.formats.from_arrays("keras GRU", given)


def test_outputs_that_are_refused(tmp_path: Path) -> None:
    own, place = layer("lstm"), tmp_path / "out.pt"
    place.write_bytes(b"mine")
    cases = [
        ("theano", "a.pt", "to must be one of torch, gatewise, keras, .* got 'theano'"),
        ("torch", "a.onnx", r"output file of torch must end in .safetensors or .pt, got"),
        ("torch", ".pt", r"output file of torch must end in"),
        ("torch", "out.pt", r"out.pt exists; choose another name, or write over it with --force"),
        ("torch", "nowhere/a.pt", "lies in .*nowhere, which is no directory"),
    ]
    for to, name, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            gw.formats.convert(own, to, tmp_path / name)
    assert [f.name for f in tmp_path.iterdir()] == ["out.pt"]
    assert place.read_bytes() == b"mine"
    gw.formats.convert(own, "torch", place, force=True)
    assert len(torch.load(place, weights_only=True)) == 8
    assert [f.name for f in tmp_path.iterdir()] == ["out.pt"]


def test_names_that_would_be_one_in_the_file(tmp_path: Path) -> None:
    model = filled(nn.ModuleDict({"a": nn.LSTM(3, 4, 2)}))
    model.add_module("a_", nn.ModuleDict({"l0": nn.LSTM(3, 4)}))
    gw.formats.convert(model, "linen", tmp_path / "fine.safetensors")
    twice = nn.ModuleDict({"a": model["a"]})
    layers = gw.formats.layers(twice) | {"a.l0": gw.formats.layers(model)["a_.l0"]}
    from gatewise.formats.written import checked_content

    with pytest.raises(InputError, match=r"layers a and a.l0 would both be called a.l0 in the file"):
        checked_content("linen", layers, ".safetensors")


def test_textbooks_matrices() -> None:
    """σ(W·[h, x] + b), as Colah writes it: z near 1 renews; the same matrices with z turned round are Cho's."""
    own = filled(gw.Recurrent(gw.cells.gru_renew, 3, 4))
    (arrays,) = gw.formats.to_arrays(own, "textbook GRU z renews")
    assert arrays["W_z"].shape == (4, 7)
    assert torch.equal(arrays["W_z"], torch.cat([own.weight_hh_l0[4:8], own.weight_ih_l0[4:8]], 1))
    (kept,) = gw.formats.to_arrays(own, "textbook GRU")
    assert torch.equal(kept["W_z"], -arrays["W_z"])
    back = gw.formats.from_arrays("textbook GRU z renews", arrays).layer
    x = torch.randn(2, 5, 3)
    assert torch.allclose(back(x)[0], own(x.transpose(0, 1))[0].transpose(0, 1), atol=1e-6)
    for name in ("W_r", "W_n"):
        with pytest.raises(InputError, match=f"textbook GRU: {name} must be 3 wide for the input, got 1"):
            gw.formats.from_arrays("textbook GRU", {**kept, name: torch.zeros(4, 5)})
        with pytest.raises(InputError, match=rf"{name} must have 1 gates of 4 units, got shape \(5, 7\)"):
            gw.formats.from_arrays("textbook GRU", {**kept, name: torch.zeros(5, 7)})
    with pytest.raises(InputError, match="textbook GRU has no array 'W_q', expected W_r, b_r"):
        gw.formats.from_arrays("textbook GRU", {"W_q": torch.zeros(1)})
