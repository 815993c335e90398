"""The command line of exports: what it prints and writes, and one line for every bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from fitted import fitted

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model."""
    monkeypatch.chdir(tmp_path)
    fitted("adding", tmp_path).save("model")
    return tmp_path


@pytest.mark.skipif(any(find_spec(m) is None for m in ("onnx", "onnxruntime", "onnxscript")), reason="needs onnx")
def test_export(run: Run, place: Path) -> None:
    code, out, _ = run("export", "model", "--to", "onnx", "-o", "out")
    assert code == 0
    assert "input, h_0, c_0" in out
    assert "opset 18; the model's own predictions differ by" in out
    assert sorted(p.name for p in (place / "out").iterdir()) == ["export.json", "steps.onnx"]
    code, _, err = run("export", "model", "-o", "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "exists; choose another directory" in err
    code, out, _ = run("export", "model", "-o", "out", "--force", "--json")
    assert code == 0
    assert json.loads(out)["parts"][0]["state"] == {"h_n": "h_0", "c_n": "c_0"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "nowhere"], "nowhere is not a model directory: config.json is missing"),
        (["export", "model", "--to", "tflite"], "to must be onnx, got 'tflite'"),
        (["export", "model"], "onnx is not installed; pip install 'gatewise[onnx]' brings it"),
    ],
    ids=["no run", "target", "extra"],
)
def test_bad_input_is_one_line(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    before = sorted(place.iterdir())
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err == f"gatewise: {sentence}\n"
    assert sorted(place.iterdir()) == before
