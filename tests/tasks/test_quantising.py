"""Fitted models with narrow weights: scored before and after, written, read again, refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.formats import state_dicts
from gatewise.formats.found import Left
from gatewise.formats.stack import from_layer
from gatewise.tasks.errors import InputError
from gatewise.tasks.exercises import Copy
from gatewise.tasks.exporting import export
from gatewise.tasks.folder import CONFIG, WEIGHTS, read_json, read_tensors, write_json
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.language import LanguageModel
from gatewise.tasks.quantising import quantised
from gatewise.tasks.registry import load

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "forecast"
    Forecaster(horizon=4, hidden_size=32, num_layers=2, max_steps=20).fit(directory=place)
    return place


@pytest.mark.parametrize("to", ["int8", "bf16"])
def test_a_forecaster(run: Run, fitted: Path, tmp_path: Path, to: str) -> None:
    code, out, err = run("quantize", fitted, "-o", tmp_path / "small", "--to", to, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["scores"]["before"] == json.loads(run("score", fitted, "--json")[1])["scores"]
    assert said["scores"]["after"] == json.loads(run("score", tmp_path / "small", "--json")[1])["scores"]
    assert said["scores"]["after"]["gru"] != said["scores"]["before"]["gru"]
    assert abs(said["change"]) < 0.05
    assert said["bytes"]["after"] < 0.65 * said["bytes"]["before"]
    tensors, _ = read_tensors(tmp_path / "small" / WEIGHTS)
    kinds = {t.dtype for n, t in tensors.items() if "weight_hh" in n and "scale" not in n}
    assert kinds == {{"int8": torch.int8, "bf16": torch.bfloat16}[to]}
    one, other = load(fitted).predict(), load(tmp_path / "small").predict()
    assert one.keys() == other.keys()
    for name in one.keys() - {"unique_id", "ds"}:
        np.testing.assert_allclose(np.array(one[name]), np.array(other[name]), rtol=0.02)


def test_what_is_printed(run: Run, fitted: Path, tmp_path: Path) -> None:
    code, out, _ = run("quantize", fitted, "-o", tmp_path / "small")
    assert code == 0
    assert "gru in int8" in out
    assert "MB after" in out.splitlines()[-1]


def test_a_language_model_writes_what_it_wrote_in_memory(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The king sat. A king is a man. " * 60)
    own = LanguageModel(hidden_size=16, num_layers=2, max_steps=20).fit(text)
    found = quantised(own, tmp_path / "small")
    again = LanguageModel.load(tmp_path / "small")
    assert again.score() == found.after
    assert again.predict("The ") == found.task.predict("The ")
    assert own.score() == found.before


def test_an_exercise_is_read_by_name_and_a_resumed_run_is_the_run(tmp_path: Path) -> None:
    quantised(Copy(hidden_size=8, max_steps=5).fit(), tmp_path / "small")
    for task in (load(tmp_path / "small"), Copy.resume(tmp_path / "small")):
        assert [m.quantised for m in task.fitted().modules() if isinstance(m, gw.Recurrent)] == [torch.int8]


def test_refusals_leave_nothing(run: Run, fitted: Path, tmp_path: Path) -> None:
    def refused(words: str, *arguments: Any) -> None:
        code, out, err = run("quantize", *arguments)
        assert (code, out) == (2, "")
        assert words in err
        assert err.count("\n") == 1

    refused("to: got 'int4', expected 'int8' or 'bf16'", fitted, "-o", tmp_path / "new", "--to", "int4")
    refused("needs -o", fitted)
    refused("already holds a run", fitted, "-o", fitted)
    refused("is not a model directory", tmp_path / "none", "-o", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert run("quantize", fitted, "-o", tmp_path / "small")[0] == 0
    refused("quantised already", tmp_path / "small", "-o", tmp_path / "new")
    with pytest.raises(InputError, match="export: got a quantised model"):
        export(load(tmp_path / "small"), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for verb in ("gradients", "report"):
        code, _, err = run(verb, tmp_path / "small")
        assert (code, err) == (
            2,
            f"gatewise: {verb}: got a quantised model, expected it as it was before `gatewise quantize`\n",
        )
    config = read_json(tmp_path / "small" / CONFIG)
    write_json(tmp_path / "small" / CONFIG, {**config, "quantized": "int4"})
    with pytest.raises(InputError, match="'quantized' must be int8 or bf16, got 'int4'"):
        load(tmp_path / "small")
    write_json(tmp_path / "small" / CONFIG, {n: v for n, v in config.items() if n != "quantized"})
    with pytest.raises(InputError, match="its weights do not fit"):
        load(tmp_path / "small")


def test_other_formats_refuse_quantised_layers() -> None:
    layer = gw.quantize(gw.GRU(3, 4))
    with pytest.raises(InputError, match="got one that is quantised"):
        from_layer(layer)
    (left,) = state_dicts.find(layer.state_dict())
    assert isinstance(left, Left)
    assert "in int8" in left.reason
