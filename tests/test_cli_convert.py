"""``gatewise convert``: what it prints and writes, and one line for every bad input."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from formats.samples import Model, filled

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.save({"model": filled(Model()).state_dict()}, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_list(run: Run, source: Path) -> None:
    code, out, err = run("convert", source, "--list")
    assert (code, err) == (0, "")
    assert "model.encoder.rnn" in out
    assert "gru_reset_after(3, 4, num_layers=2, bidirectional)" in out
    assert "model.plain: the nonlinearity is not stored: tanh is taken" in out
    found = json.loads(run("convert", source, "--list", "--json", "--layer", "model.plain")[1])
    assert [layer["name"] for layer in found["layers"]] == ["model.plain"]
    assert found["layers"][0]["difference"] < 1e-12


def test_convert(run: Run, source: Path, tmp_path: Path) -> None:
    out_file = tmp_path / "out.safetensors"
    arguments = ["--layer", "model.encoder.rnn", "--layer", "model.steps.1", "--to", "linen"]
    code, out, err = run("convert", source, *arguments, "-o", out_file)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(out_file)
    assert "torch 2" in out
    assert "flax" in out
    assert out_file.exists()
    again = run("convert", source, *arguments, "-o", out_file)
    assert again[0] == 2
    assert again[2] == f"gatewise: output file {out_file} exists; choose another name, or write over it with --force\n"
    report = json.loads(run("convert", source, *arguments, "-o", out_file, "--force", "--json")[1])
    assert [layer["name"] for layer in report["layers"]] == ["model.encoder.rnn", "model.steps.1"]
    assert all(layer["written_difference"] < 1e-6 for layer in report["layers"])
    code, out, _ = run("convert", out_file, "--to", "torch", "-o", tmp_path / "back.pt")
    assert code == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    own = torch.load(source, weights_only=True)["model"]
    # Each layer of linen's is one by itself, and the biases of r and z became one.
    assert torch.equal(back["model.encoder.rnn.l1.weight_hh_l0_reverse"], own["encoder.rnn.weight_hh_l1_reverse"])
    own_bias = own["steps.1.bias_ih"] + own["steps.1.bias_hh"]
    assert torch.equal(back["model.steps.1.bias_ih_l0"] + back["model.steps.1.bias_hh_l0"], own_bias)


def test_the_help_names_the_endings_of_every_format() -> None:
    from gatewise.cli.convert import OUTPUT
    from gatewise.formats.targets import TARGETS

    for name, target in TARGETS.items():
        own = next(part for part in re.split("[:;] ?", OUTPUT.replace("how: ", "how; ")) if name in part.split())
        assert re.findall(r"\.[a-z5.]+[a-z5]", own) == list(target.suffixes)


BAD = [
    (["--to", "linen"], "convert needs --to and -o, or --list to see what SOURCE holds"),
    (["--list", "--to", "linen"], "--list writes nothing: leave --to and --output out"),
    (["--to", "theano", "-o", "x.pt"], "to must be one of torch, gatewise, keras, flax"),
    (["--to", "torch", "-o", "x.keras"], "output file of torch must end in .safetensors or .pt, got 'x.keras'"),
    (["--to", "torch", "-o", "x.pt", "--layer", "decoder"], "layer must be one of model.encoder.rnn"),
    (["--to", "torch", "-o", "x.pt"], "torch.nn.GRU keeps no initial state with its weights"),
    (["--list", "--layer", "decoder"], "holds no layer of the name 'decoder'"),
    (["--list", "--nonlinearity", "gelu"], "nonlinearity must be tanh or relu, got 'gelu'"),
    (["--to", "torch", "-o", ""], "expected the name of a file, got ''"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    run: Run, source: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(source.parent)
    code, out, err = run("convert", source, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
    assert [f.name for f in source.parent.iterdir()] == ["model.pt"]


def test_a_missing_package_is_named(run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    arguments = ["--layer", "model.steps.1", "--to", "onnx", "-o", tmp_path / "x.onnx"]
    code, _, err = run("convert", source, *arguments)
    assert code == 2
    assert err == "gatewise: onnx is not installed; pip install 'gatewise[formats]' brings it\n"
