"""Models of every task in ONNX Runtime, and faults that the comparison finds before anything is written."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import MODELS, fitted

import gatewise as gw
from gatewise.tasks.errors import InputError
from gatewise.tasks.exercises.export import Answers
from gatewise.tasks.exporting import ABOUT, export
from gatewise.tasks.forecast import scaling_torch

NEEDED = ("onnx", "onnxruntime", "onnxscript")
needs_runtime = pytest.mark.skipif(any(find_spec(name) is None for name in NEEDED), reason=f"needs {NEEDED}")


@needs_runtime
@pytest.mark.parametrize("name", MODELS)
def test_every_task_is_exported(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    about = export(fitted(name, tmp_path), out, force=False)
    assert about == json.loads((out / ABOUT).read_text())
    assert about["difference"] <= 1e-5
    assert {p.name for p in out.iterdir()} == {ABOUT, *(part["file"] for part in about["parts"])}
    import onnx

    for part in about["parts"]:
        content = (out / part["file"]).read_bytes()
        assert part["sha256"] == sha256(content).hexdigest()
        assert part["difference"] <= 1e-5
        model = onnx.load_from_string(content)
        said = json.loads(next(entry.value for entry in model.metadata_props if entry.key == ABOUT))
        assert said["difference"] == about["difference"]
        assert said["parts"][0]["inputs"] == about["parts"][0]["inputs"]
        assert {entry.version for entry in model.opset_import if entry.domain == ""} == {about["opset"]}
        assert {node.domain for node in model.graph.node} == {""}
        assert list(part["inputs"]) == [value.name for value in model.graph.input]
        assert list(part["outputs"]) == [value.name for value in model.graph.output]
        assert str(Path(gw.__file__).parent).encode() not in content  # paths are nobody's business


@needs_runtime
def test_a_language_model_writes_without_gatewise(tmp_path: Path) -> None:
    """The likeliest text, by what stands in the files alone."""
    import onnxruntime

    task = fitted("language", tmp_path)
    export(task, tmp_path / "out", force=False)
    about = json.loads((tmp_path / "out" / ABOUT).read_text())
    session = onnxruntime.InferenceSession(tmp_path / "out" / "steps.onnx")
    shapes = {i.name: [1 if isinstance(n, str) else n for n in i.shape] for i in session.get_inputs()}
    state = {"h_0": np.zeros(shapes["h_0"], np.float32)}
    token, written = about["end"], ""
    for _ in range(30):
        said, state["h_0"] = session.run(None, {"tokens": np.array([[token]]), **state})
        token = int(said[0, 0].argmax())
        if token == about["end"]:
            break
        written += about["tokenizer"]["alphabet"][token]
    assert written == task.generate("", 30, temperature=0)


def dropped_state(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Answers.forward
    monkeypatch.setattr(Answers, "forward", lambda m, x, *before: forward(m, x, *(0 * state for state in before)))


def another_base(monkeypatch: pytest.MonkeyPatch) -> None:
    naive = scaling_torch.naive
    monkeypatch.setattr(scaling_torch, "naive", lambda *args: naive(*args) * (1 + 1e-4))


@needs_runtime
@pytest.mark.parametrize(
    ("name", "fault", "words"),
    [
        ("adding", dropped_state, "adding: the answers to held-out examples"),
        ("forecast", another_base, "forecast: the forecasts, in one call"),
    ],
)
def test_parts_that_say_something_else_are_not_written(
    name: str, fault: Any, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The graphs are faithful to their modules, and the modules are wrong."""
    task = fitted(name, tmp_path)
    fault(monkeypatch)
    with pytest.raises(InputError, match=f"{words} in ONNX Runtime differs .* nothing was written"):
        export(task, tmp_path / "out", force=False)
    assert not (tmp_path / "out").exists()


@needs_runtime
def test_files_are_written_over_by_force_alone(tmp_path: Path) -> None:
    task, out = fitted("adding", tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "steps.onnx").write_text("mine")
    with pytest.raises(
        InputError, match=r"steps\.onnx exists; choose another directory, or write over it with --force"
    ):
        export(task, out, force=False)
    assert [p.read_text() for p in out.iterdir()] == ["mine"]
    export(task, out, force=True)
    assert (out / ABOUT).is_file()


def test_without_onnx_a_sentence_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = fitted("adding", tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"onnx is not installed; pip install 'gatewise\[onnx\]' brings it"):
        export(task, tmp_path / "out", force=False)
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="to must be onnx, got 'tflite'"):
        export(fitted("adding", tmp_path), tmp_path / "out", to="tflite", force=False)


def test_a_task_that_is_not_fitted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not fitted"):
        gw.LanguageModel().verb("export")().parts(gw.LanguageModel())
