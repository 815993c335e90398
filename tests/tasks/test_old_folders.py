"""Run folders of earlier versions load, give what they gave then and are resumed; tests/data/make.py made them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from data.make import given, pairs
from safetensors.torch import load_file

from gatewise.tasks import load
from gatewise.tasks.folder import CHECKPOINT, METRICS
from gatewise.tasks.translate import Translator

OLD = Path(__file__).parents[1] / "data" / "folders"


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["forecast", "own_cell", "translate", "adding"])
def test_an_old_run_loads_and_gives_what_it_gave(name: str) -> None:
    before = held(OLD / name)
    task = load(OLD / name)
    expected = load_file(OLD / f"{name}.given.safetensors")
    for key, value in given(task).items():  # another processor may round otherwise
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)
    again = {"scores": torch.tensor([list(f.values()) for f in task.score().values()], dtype=torch.float64)}
    again["scores"] = again["scores"][:, : expected["scores"].shape[1]]  # later versions add figures
    torch.testing.assert_close(again["scores"], expected["scores"], rtol=1e-4, atol=1e-5)
    assert held(OLD / name) == before


def test_an_old_unfinished_run_loads_and_is_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(OLD / "unfinished", folder)
    assert load(folder).score()["gru"]["chrF"] > 0
    task = Translator.resume(folder, pairs(), hidden_size=8)
    assert [epoch.steps for epoch in task.history.epochs] == [12, 12, 12]
    assert task.history.best.epoch == 2
    expected = load_file(OLD / "unfinished.given.safetensors")
    for key, value in task.network.named_parameters():
        torch.testing.assert_close(value.detach(), expected[key], rtol=1e-3, atol=1e-4)
    assert (folder / METRICS).exists()
    assert not (folder / CHECKPOINT).exists()
    assert load(folder).predict() == task.predict()
