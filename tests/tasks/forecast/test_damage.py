"""Damaged runs, unusable data and failed fits: one sentence each, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.tasks import InputError, load
from gatewise.tasks.folder import read_tensors, write_tensors
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.objective import DirectObjective
from gatewise.tasks.forecast.table import Table

TIMES = (np.datetime64("2010-01") + np.arange(60)).astype("datetime64[s]")
VALUES = np.arange(60.0) + np.arange(60) ** 2 % 7


@pytest.fixture(scope="module")
def small() -> Forecaster:
    return Forecaster(horizon=6, hidden_size=4, max_steps=2).fit(Table({"": (TIMES, VALUES)}, "y"))


def change(path: Path, entry: str, value: Any) -> None:
    """Change an entry of a JSON file, or an entry of one; None of the whole drops it."""
    values = json.loads(path.read_text())
    outer, _, inner = entry.partition(".")
    if inner:
        values[outer][inner] = value
    elif value is None:
        del values[outer]
    else:
        values[outer] = value
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("name", "entry", "value", "sentence"),
    [
        ("config.json", "options.hidden_size", "6", "config.json is damaged: hidden_size must be an integer"),
        ("config.json", "options.label", 3, "config.json is damaged: label must be a text"),
        ("config.json", "options.dropout", "a", "config.json is damaged: dropout must be a number"),
        ("config.json", "options.colour", 1, "config.json is damaged: .*'colour'"),
        ("config.json", "cell", None, "config.json is damaged: its entry 'cell' is missing"),
        ("config.json", "cell", 5, "config.json is damaged: its entry 'cell' must be of str, got 5"),
        ("config.json", "options", [], "config.json is damaged: its entry 'options' must be of dict"),
        ("metrics.json", "history", [], "metrics.json is damaged: its entry 'history' is empty"),
        ("metrics.json", "history", [{"epoch": 1}], "metrics.json is damaged: expected epochs of numbers"),
        ("metrics.json", "scores", {"gru": 3}, "metrics.json is damaged: .* figures by name in 'scores'"),
        ("metrics.json", "scores", {}, "metrics.json is damaged: its entry 'scores' is empty"),
    ],
)
def test_a_damaged_entry_is_named(
    small: Forecaster, tmp_path: Path, name: str, entry: str, value: Any, sentence: str
) -> None:
    small.save(tmp_path / "m")
    change(tmp_path / "m" / name, entry, value)
    with pytest.raises(InputError, match=sentence):
        load(tmp_path / "m")
    with pytest.raises(InputError, match=sentence):
        Forecaster.resume(tmp_path / "m")


def test_data_and_weights_that_changed_are_refused(small: Forecaster, tmp_path: Path) -> None:
    small.save(tmp_path / "m")
    weights, data = tmp_path / "m" / "model.safetensors", tmp_path / "m" / "data.csv"
    tensors, _ = read_tensors(weights)
    first = "members.0.head.weight"
    write_tensors(weights, {**tensors, first: tensors[first] + 1})
    with pytest.raises(InputError, match=r"model.safetensors is damaged: its SHA-256"):
        load(tmp_path / "m")
    write_tensors(weights, {**tensors, first: torch.full_like(tensors[first], float("nan"))})
    with pytest.raises(InputError, match="must be finite"):
        load(tmp_path / "m")
    write_tensors(weights, {**tensors, first: tensors[first].double()})
    with pytest.raises(InputError, match=r"must be of torch.float32, got torch.float64"):
        load(tmp_path / "m")
    data.write_text("\n".join(data.read_text().splitlines()[:-3]) + "\n")
    with pytest.raises(InputError, match=r"data.csv is damaged: its SHA-256"):
        load(tmp_path / "m")


def test_missing_values_only_and_an_empty_end_are_refused(small: Forecaster) -> None:
    empty = Table({"": (TIMES, np.full(60, np.nan))}, "y")
    with pytest.raises(InputError, match="missing values only"):
        small.predict(empty)
    with pytest.raises(InputError, match="missing values only"):
        small.score(empty)
    with pytest.raises(InputError, match="none within the last 6 steps"):
        small.score(Table({"": (TIMES, np.where(np.arange(60) < 54, VALUES, np.nan))}, "y"))


def test_a_forecast_beyond_the_year_9999_is_refused(small: Forecaster) -> None:
    late = (np.datetime64("9995-01") + np.arange(60)).astype("datetime64[s]")
    with pytest.raises(InputError, match="beyond the year 9999"):
        small.predict(Table({"": (late, VALUES)}, "y"))


def test_a_failed_fit_leaves_no_directory_and_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Forecaster(horizon=6, hidden_size=4, max_steps=2).fit(Table({"": (TIMES, VALUES)}, "y"))
    before = one.predict()["y"]
    other = Table({"": (TIMES, VALUES[::-1].copy())}, "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        one.fit(other, directory=tmp_path / "file" / "run")
    monkeypatch.setattr(DirectObjective, "validate", lambda self: float("inf"))
    with pytest.raises(InputError, match="broke down in epoch 1"):
        one.fit(other, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert one.label == "y"
    assert np.array_equal(one.predict()["y"], before)


def test_a_network_that_does_not_fit_into_memory_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Forecaster) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Forecaster, "build", full)
    with pytest.raises(InputError, match="does not fit into memory"):
        Forecaster(horizon=6).fit(Table({"": (TIMES, VALUES)}, "y"), directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
