"""Files of tensors by name, under any prefix: what is found in them, and what bad ones are told."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from formats.samples import Model, filled
from torch import nn

import gatewise as gw
from gatewise.errors import InputError
from gatewise.formats import Found, Left

FOUND = {
    "encoder.rnn": ("torch.nn.GRU", "gru_reset_after(3, 4, num_layers=2, bidirectional)"),
    "projected": ("torch.nn.LSTM", "lstm(3, 5, num_layers=2, bidirectional, proj_size=2)"),
    "plain": ("torch.nn.RNN", "rnn(2, 3, bias=False)"),
    "steps.0": ("torch.nn.GRUCell", "gru_reset_after(3, 3, single step)"),
    "steps.1": ("torch.nn.LSTMCell", "lstm(2, 3, single step)"),
    "before": ("gatewise gru", "gru(3, 4, num_layers=2, initial state)"),
    "peephole": ("gatewise lstm_peephole", "lstm_peephole(3, 4, bidirectional)"),
}


@pytest.fixture(scope="module")
def model() -> Model:
    return filled(Model())


def write(model: nn.Module, path: Path) -> Path:
    state = model.state_dict()
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save({"epoch": 3, "model": state}, path)
    return path


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m.ckpt", "m.npz"])
def test_layers_are_found_under_their_prefixes(model: Model, name: str, tmp_path: Path) -> None:
    found = gw.formats.find(write(model, tmp_path / name))
    lead = "model." if name in ("m.pt", "m.ckpt") else ""
    assert {f.name.removeprefix(lead): (f.kind, str(f.stack)) for f in found if isinstance(f, Found)} == FOUND
    assert len(found) == len(FOUND)


def test_each_is_a_checked_layer_with_the_same_numbers(model: Model, tmp_path: Path) -> None:
    layers = gw.formats.layers(write(model, tmp_path / "m.safetensors"))
    assert all(one.difference < 1e-12 for one in layers.values())
    for name, one in layers.items():
        own = model.get_submodule(name).state_dict()
        assert {n: v.tolist() for n, v in one.layer.state_dict().items()} == {n: v.tolist() for n, v in own.items()}
    layer = gw.formats.layer(tmp_path / "m.safetensors", "encoder.rnn")
    x = torch.randn(5, 2, 3)
    assert torch.allclose(layer(x)[0], model.encoder["rnn"](x)[0], atol=1e-6)


def test_a_live_model_and_a_state_dict(model: Model) -> None:
    assert {f.name: str(f.stack) for f in gw.formats.find(model)} == {n: stack for n, (_, stack) in FOUND.items()}
    assert {f.name: str(f.stack) for f in gw.formats.find(model.state_dict())} == {n: s for n, (_, s) in FOUND.items()}


@pytest.mark.parametrize("batch_first", [False, True])
def test_batch_first_of_a_live_layer_is_kept_and_of_a_file_noted(batch_first: bool) -> None:
    theirs = filled(nn.GRU(3, 4, batch_first=batch_first))
    ours = gw.formats.layer(theirs)
    x = torch.randn(5, 2, 3)
    assert ours.batch_first == batch_first
    assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)
    assert gw.formats.to_torch(ours).batch_first == batch_first
    for state in (theirs.state_dict(), gw.GRU(3, 4, batch_first=True).state_dict()):
        (found,) = gw.formats.find(state)
        assert found.notes == ("batch_first is not stored: False is taken",)
    assert gw.formats.find(nn.GRUCell(3, 4).state_dict())[0].notes == ()


def test_half_precision_is_widened_exactly(tmp_path: Path) -> None:
    for dtype, kept in ((torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)):
        module = filled(nn.LSTM(3, 4)).to(dtype)
        layer = gw.formats.layer(write(module, tmp_path / f"{kept}.safetensors"))
        assert layer.weight_ih_l0.dtype == kept
        assert torch.equal(layer.weight_ih_l0.double(), module.weight_ih_l0.double())


def test_the_nonlinearity_is_asked_for(tmp_path: Path) -> None:
    path = write(filled(nn.RNN(3, 4, nonlinearity="relu")), tmp_path / "r.pt")
    (found,) = gw.formats.find(path)
    assert found.notes == (
        "the nonlinearity is not stored: tanh is taken",
        "batch_first is not stored: False is taken",
    )
    with pytest.warns(UserWarning, match="layer model: the nonlinearity is not stored: tanh is taken"):
        assert gw.formats.layer(path).nonlinearity == "tanh"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gw.formats.layer(path, nonlinearity="relu").nonlinearity == "relu"
    with pytest.raises(InputError, match="nonlinearity must be tanh or relu, got 'gelu'"):
        gw.formats.find(path, nonlinearity="gelu")


def test_what_was_found_is_shown_without_its_weights(model: Model) -> None:
    found = gw.formats.find(model)
    assert repr(found[0]) == (
        "Found(name='encoder.rnn', kind='torch.nn.GRU', stack=gru_reset_after(3, 4, num_layers=2, bidirectional), "
        "notes=())"
    )
    assert len(repr(found)) < 150 * len(found)
    assert "tensor" not in repr(gw.formats.layers(model))


def test_weights_with_which_no_comparison_can_say_anything() -> None:
    state = {name: torch.full_like(value, 1e30) for name, value in nn.GRU(3, 4).state_dict().items()}
    (one,) = gw.formats.layers(state).values()
    assert "the output is the same for every input" in one.found.notes[-1]


def test_what_torch_computes_otherwise_is_left_with_the_reason() -> None:
    class Own(nn.GRU):
        pass

    normed = nn.utils.parametrizations.weight_norm(nn.LSTM(2, 3), "weight_hh_l0")
    model = nn.ModuleDict({"own": Own(2, 3), "normed": normed, "mgu": gw.Recurrent(gw.cells.mgu, 2, 3)})
    left = {one.name: one.reason for one in gw.formats.find(model) if isinstance(one, Left)}
    assert "subclass of torch's layer" in left["own"]
    assert "parametrised" in left["normed"]
    assert "belongs to Gatewise alone" in left["mgu"]
    with pytest.raises(InputError, match="subclass"):
        gw.formats.layers(model)


def test_a_directory_of_a_model(tmp_path: Path, model: Model) -> None:
    write(model, tmp_path / "model.safetensors")
    assert len(gw.formats.find(tmp_path)) == len(FOUND)
    with pytest.raises(InputError, match=r"model.safetensors is missing"):
        gw.formats.find(Path(__file__).parent)


class Attack:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def spoiled(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], Path]:
    """A state_dict with something wrong in it."""

    def make(folder: Path) -> Path:
        state = dict(filled(nn.GRU(3, 4, 2, bidirectional=True)).state_dict())
        change(state)
        torch.save(state, folder / "bad.pt")
        return folder / "bad.pt"

    return make


def file(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def pickled(folder: Path) -> Path:
    torch.save({"rnn": nn.GRU(2, 3).state_dict(), "attack": Attack(folder / "attacked")}, folder / "bad.pt")
    return folder / "bad.pt"


def pickled_raw(folder: Path) -> Path:
    (folder / "bad.pt").write_bytes(pickle.dumps(Attack(folder / "attacked")))
    return folder / "bad.pt"


def pickled_array(folder: Path) -> Path:
    np.savez(folder / "bad.npz", weight_ih=np.array([Attack(folder / "attacked")], dtype=object))
    return folder / "bad.npz"


def truncated(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(filled(nn.GRU(3, 4)), folder / f"bad{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return make


def outside(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(filled(nn.GRU(3, 4)), folder / name)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("../../outside.npy", b"x")
        return path

    return make


def nan(state: dict[str, torch.Tensor]) -> None:
    state["bias_hh_l1_reverse"][2] = torch.nan


def infinite(state: dict[str, torch.Tensor]) -> None:
    state["weight_hh_l0"][2, 1] = torch.inf


def integers(state: dict[str, torch.Tensor]) -> None:
    for name in state:
        state[name] = state[name].long()


def learned(state: dict[str, torch.Tensor], start: torch.Tensor) -> None:
    """A layer of Gatewise's with a learned initial state instead."""
    state.clear()
    state.update(gw.GRU(3, 4, learn_initial_state=True).state_dict())
    state["h_0_l0"] = start


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda folder: folder / "absent.pt", "absent.pt cannot be read: No such file"),
    "empty": (file("bad.pt", b""), "bad.pt is empty"),
    "another kind": (file("bad.txt", b"hello"), r"bad.txt must end in one of \.keras"),
    "no torch file": (file("bad.pt", b"hello, this is text"), "bad.pt is damaged, or torch did not write it"),
    "no safetensors": (file("bad.safetensors", b"hello, this is text"), "damaged or no safetensors file"),
    "no npz": (file("bad.npz", b"PK hello"), "bad.npz is damaged or no archive"),
    "truncated pt": (truncated(".pt"), "bad.pt is damaged"),
    "truncated safetensors": (truncated(".safetensors"), "bad.safetensors is damaged"),
    "truncated npz": (truncated(".npz"), "bad.npz is damaged"),
    "pickled code": (pickled, "pickled code or objects other than tensors, which Gatewise never executes"),
    "a pickle of its own": (pickled_raw, "pickled code or objects other than tensors, which Gatewise never executes"),
    "pickled array": (pickled_array, "holds pickled objects, which Gatewise never executes"),
    "an entry outside": (outside("bad.npz"), r"has an entry that points outside it: '\.\./\.\./outside\.npy'"),
    "an entry outside pt": (outside("bad.pt"), "has an entry that points outside it"),
    "nan": (spoiled(nan), r"the bias of gate r in layer 1 of the way back must be finite, got a number that is not"),
    "inf": (spoiled(infinite), "the state's weights of gate r in layer 0 must be finite, got a number that is not"),
    "integers": (spoiled(integers), "must be floating point, got int64"),
    "a matrix missing": (spoiled(lambda s: s.pop("weight_hh_l0")), "weight_hh is missing"),
    "a matrix of the second layer missing": (
        spoiled(lambda s: s.pop("weight_hh_l1")),
        r"layer \(unnamed\), arrays that end in _l1: torch GRU: weight_hh missing",
    ),
    "a layer missing": (
        spoiled(lambda s: [s.pop(n) for n in list(s) if n.startswith("weight_ih_l0")]),
        "it has weight_ih of _l1, _l1_reverse, expected _l0, _l0_reverse",
    ),
    "a bias missing": (spoiled(lambda s: s.pop("bias_hh_l0")), "arrays that end in _l0: torch GRU: bias_hh missing"),
    "a bias too much": (
        spoiled(lambda s: s.update(bias_ih_l2=torch.zeros(12))),
        "bias_ih_l2 must belong to the layer, but it has no place for them",
    ),
    "wrong rows": (
        spoiled(lambda s: s.update(weight_ih_l0=torch.zeros(13, 3))),
        r"weight_ih \(13, 3\), weight_hh \(12, 4\) do not fit a GRU",
    ),
    "wrong width": (
        spoiled(lambda s: s.update(weight_ih_l1=torch.zeros(12, 5))),
        r"the input's weights of gate r in layer 1 must have shape \(4, 8\), got \(4, 5\)",
    ),
    "no width": (
        spoiled(lambda s: s.update(weight_ih_l0=torch.zeros(12, 0))),
        "input_size and hidden_size must be positive, got 0 and 4",
    ),
    "sparse": (
        spoiled(lambda s: s.update(weight_ih_l0=s["weight_ih_l0"].to_sparse())),
        "weight_ih must be a dense tensor with values, got a sparse",
    ),
    "biases in one layer": (
        spoiled(lambda s: [s.pop(n) for n in list(s) if n.startswith("bias") and "_l1" in n]),
        "some of its layers or directions have the bias of gate n, and others have not",
    ),
    "an initial state too wide": (
        spoiled(lambda s: learned(s, torch.zeros(1, 5))),
        "each initial state must be 4 finite numbers for 1 directions",
    ),
    "an initial state that is none": (
        spoiled(lambda s: learned(s, torch.full((1, 4), torch.nan))),
        "each initial state must be 4 finite numbers for 1 directions",
    ),
    "an initial state of another cell": (spoiled(lambda s: learned(s, torch.zeros(2, 4))), "h_0 must have 1 rows"),
    "a name that is too long": (lambda folder: folder / ("a" * 300 + ".pt"), "File name too long"),
    "a zero in its name": (lambda folder: folder / "a\0.pt", "cannot be read: embedded null byte"),
    "no recurrent layer": (
        spoiled(lambda s: [s.pop(n) for n in list(s)] and s.update(weight=torch.zeros(2, 2))),
        "holds no recurrent layer that Gatewise knows by its names",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence(case: str, tmp_path: Path) -> None:
    make, sentence = BAD[case]
    path = make(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=sentence) as caught:
            gw.formats.layers(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "attacked").exists()


def test_a_tree_that_holds_itself() -> None:
    tree: dict[str, Any] = dict(nn.GRU(3, 4).state_dict())
    tree["again"] = tree
    with pytest.raises(InputError, match="nested too deep, or holds itself"):
        gw.formats.layers(tree)


def test_weights_of_two_dtypes_lose_nothing() -> None:
    state = filled(nn.GRU(3, 4)).state_dict()
    state["weight_hh_l0"] = state["weight_hh_l0"].double() / 3
    assert torch.equal(gw.formats.layer(state).weight_hh_l0, state["weight_hh_l0"])


@pytest.mark.parametrize("source", [3, None, "", b"m.pt", ["a.pt"]])
def test_a_source_that_is_none(source: Any) -> None:
    with pytest.raises(InputError, match=r"source must be|must be"):
        gw.formats.layers(source)
