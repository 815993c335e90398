"""The bench of language models: torch's layers in place of ours compute the same, every way of writing writes the same,
and the tables hold the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benches import language
from benches.language import Job, TorchLanguageLayer, TorchLanguageModel, changed, check, generation, main, tables
from benches.language_loops import loops
from gatewise.nn import Recurrent
from gatewise.tasks.language import LanguageModel

DOCS = Path(__file__).parent.parent.parent / "docs"
SMALL: dict[str, Any] = {"embedding_size": 8, "batch_size": 4, "sequence_length": 16}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("the cat sat on the mat. " * 200)
    return file


def job(kind: type[LanguageModel], cell: str, text: Path) -> Job:
    model = kind(cell=cell, hidden_size=12, dropout=0.0, **SMALL)
    model.read(str(text))
    model._untrained()
    return Job(model, 4)


@pytest.mark.parametrize("cell", ["gru_reset_after", "lstm", "rnn"])
def test_torch_in_place_of_our_layers_computes_the_same(cell: str, text: Path) -> None:
    own, other = (job(kind, cell, text) for kind in (LanguageModel, TorchLanguageModel))
    check({"gatewise": own.first(), "torch": other.first()}, cell)
    with torch.no_grad():
        next(other.module.layers.parameters()).mul_(1.01)
    with pytest.raises(SystemExit, match="losses or gradients of the two kinds of layers differ"):
        check({"gatewise": own.first(), "torch": other.first()}, cell)


@pytest.mark.parametrize("cell", ["gru_reset_after", "lstm"])
def test_torchs_layers_begin_anew_where_ours_do(cell: str) -> None:
    layers = []
    for make in (Recurrent, TorchLanguageLayer):
        torch.manual_seed(0)
        layers.append(make(LanguageModel(cell=cell).cell, 3, 4))
    x, reset, start = torch.randn(6, 2, 3), torch.zeros(6, 2, dtype=torch.bool), torch.ones(1, 2, 4)
    hx = (start, 2 * start) if cell == "lstm" else start
    for places in ([], [(0, 0), (0, 1)], [(0, 1), (2, 1), (5, 0)]):
        for place in places:
            reset[place] = True
        for state in (hx, None):
            own, other = (layer(x, state, reset=reset) for layer in layers)
            torch.testing.assert_close(own, other)


def test_a_model_on_torchs_layers_trains_as_ours(text: Path) -> None:
    how = {"hidden_size": 12, "dropout": 0.0, "max_steps": 30, "cell": "lstm", **SMALL}
    own, other = (kind(**how).fit(str(text)).history.best.value for kind in (LanguageModel, TorchLanguageModel))
    assert own == pytest.approx(other, rel=0.2)


def test_every_way_writes_the_same(text: Path) -> None:
    model = LanguageModel(hidden_size=12, max_steps=1, **SMALL)
    model.read(str(text))
    model._untrained()
    model.fitted().eval()
    texts = {way() for way in loops(model, 60).values()}
    assert len(texts) == 1
    assert len(texts.pop()) == 60
    (one,) = generation(text, 1, 20, [12])
    assert min(one["tokens/s"].values()) > 0


def test_the_script_keeps_what_it_measures(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.json"
    asked = ["--data", str(text), "--json", str(kept), "--rounds", "1", "--steps", "3", "--length", "9", "--seeds", "2"]
    asked += ["--units", "8", "--curve-steps", "20", "--set", "embedding_size=8", "batch_size=4", "max_steps=20"]
    monkeypatch.setattr(language, "EVERY", 10)
    main([*asked, "hidden_size=8", "--minutes", "3", "--speed", "--generation"])
    monkeypatch.setattr(language, "CURVES", ("gru_reset_after", "rnn"))
    asked = [part for part in asked if part != "max_steps=20"]
    main([*asked, "hidden_size=8", "--curves"])
    found = json.loads(kept.read_text())
    assert found.keys() == {"training", "speed", "generation", "curves", "machine"}
    assert [one["cell"] for one in found["curves"]] == ["gru_reset_after", "rnn"] * 2
    assert [one["steps"] for one in found["curves"]] == [[10, 20]] * 4
    assert found["curves"][1]["units"] > 8
    printed = capsys.readouterr().out
    main(["--data", "nothing", "--json", str(kept), "--table"])
    assert capsys.readouterr().out == printed[printed.rindex("| model |") :]


def test_the_tables_have_means_over_seeds_and_ratios() -> None:
    training = {"cell": "gru", "parameters": 1000, "recipe": {"max_steps": 5}, "training seconds": 90.0}
    training |= {"characters": 180_000, "scores": {"gru": 1.5, "6-gram": 2.0}}
    curves = [
        {"cell": "gru", "seed": k, "units": 8, "parameters": 1000, "steps": [10, 20], "seconds": [1.0, 2.0 + k]}
        | {"nats": [2.0, 1.0 + 0.2 * k]}
        for k in range(2)
    ]
    kept = {
        "training": [training],
        "curves": curves,
        "speed": [{"cell": "lstm", "units": 8, "threads": 2, "characters/s": {"gatewise": 3000.0, "torch": 1500.0}}],
        "generation": [{"units": 8, "threads": 1, "tokens/s": {"gatewise": 50_000.0, "torch.nn.GRU": 10_000.0}}],
    }
    text = "\n".join(tables(kept)).splitlines()
    assert "| gru | 1,000 | max_steps 5 | 1.5 | 2,000 | 1.5000 | 2.1640 |" in text
    assert "| Kneser–Ney 6-gram |  |  |  |  | 2.0000 | 2.8854 |" in text
    assert "| lstm | 8 | 2 | 3,000 | 1,500 | 2.00 |" in text
    assert "| 8 | 1 | 50,000 | 10,000 (5.0) |" in text
    assert "| gru | 8 | 1,000 | 2 | 2.000 ± 0.000 (1 s) | 1.100 ± 0.141 (2 s) |" in text


def test_options_are_read_as_json_or_text() -> None:
    assert changed(["hidden_size=8", "cell=lstm", "tied=true"]) == {"hidden_size": 8, "cell": "lstm", "tied": True}
    assert np.isclose(changed(["dropout=0.5"])["dropout"], 0.5)


@pytest.mark.skipif(not (DOCS / "language.json").exists(), reason="nothing was measured yet")
def test_the_page_shows_what_was_measured() -> None:
    page = (DOCS / "language.md").read_text()
    for one in tables(json.loads((DOCS / "language.json").read_text())):
        assert one in page
