"""The trial, tiny: every claim gets a verdict, the page shows the figures of the JSON, a second call goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import opened
from tasks.translate.conftest import SMALL, few_phrases, toy

from gatewise.study.page import shown
from gatewise.study.trial import plan, trial
from gatewise.study.trial.looking import ROWS, look
from gatewise.study.trial.plan import LONG, SHORT, Scale, everything, network, parameters
from gatewise.study.trial.run import CLAIMS, render
from gatewise.study.trial.runs import Runs
from gatewise.tasks import InputError
from gatewise.tasks.claim import claimed
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.translator import VALIDATION

TINY = Scale("tiny", 2, (1e-2,), 4, (4, 6), (0.02, 1.0), 2, 1)
"""Everything is run, nothing is learnt."""


@pytest.fixture(scope="module", autouse=True)
def _few_phrases() -> Iterator[None]:
    with few_phrases(plan._read):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial") / "t"
    trial(folder, scale=TINY, processes=1)
    return folder


@pytest.fixture
def results(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "results.json").read_text())
    return found


def test_every_claim_has_a_verdict_and_its_figures(results: dict[str, Any]) -> None:
    ids = [claim["id"] for claim in results["claims"]]
    assert len(ids) == len(set(ids)) == len(CLAIMS) + 1
    assert {name[:2] for name in ids} == {"C1", "C2", "C3", "C4", "C5", "C6", "C7", "C9", "U6"}
    for claim in results["claims"]:
        assert claim["verdict"] in ("holds", "fails", "undecided")
        assert claim["figures"]
        assert claim["rule"].startswith("Holds where")
        assert any(block["kind"] == "table" for block in claim["blocks"])
    assert results["claims"][0]["verdict"] == "holds"
    assert results["claims"][0]["figures"]["groups"] == {"gru": 3, "lstm": 4, "rnn": 1, "gru_reset_after": 3}


def test_a_second_call_fits_nothing_again(place: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (place / "fits").rglob("*")}
    told: list[str] = []
    Runs(place, TINY, lambda what, done, total: told.append(what), 1).tuned(everything(TINY))
    assert told == []
    assert {path: path.stat().st_mtime_ns for path in (place / "fits").rglob("*")} == stamps


def test_what_was_interrupted_goes_on_with_the_same_outcome(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "fits", tmp_path / "fits")
    gone = sorted((tmp_path / "fits").iterdir())[::10]
    for folder in gone[1:]:
        shutil.rmtree(folder)
    (gone[0] / "metrics.json").unlink()  # killed while it saved
    told: list[str] = []
    before, after = Runs(place, TINY, None, 1), Runs(tmp_path, TINY, lambda what, done, total: told.append(what), 1)
    for runs in (before, after):
        runs.tuned(everything(TINY))
    assert sorted(told) == [folder.name for folder in gone]
    assert {job: fit.score for job, fit in after.fits.items()} == {job: fit.score for job, fit in before.fits.items()}


def test_the_page_shows_the_figures_of_the_json_and_asks_no_network(
    place: Path, results: dict[str, Any], tmp_path: Path
) -> None:
    page = opened(place / "index.html", tmp_path)
    assert page.requests == []
    assert page.console == []
    cells = page.texts("td")
    expected = [[c["id"], c["claim"], c["verdict"]] for c in results["claims"]]
    expected += [row for c in results["claims"] for b in c["blocks"] if b["kind"] == "table" for row in b["rows"]]
    assert [text.replace("&lt;", "<") for text in cells] == [shown(value) for row in expected for value in row]
    plots = sum(b["kind"] == "plot" for c in results["claims"] for b in c["blocks"])
    assert page.dom.count('class="main-svg"') >= plots


def test_the_page_is_made_from_the_json_alone(place: Path, results: dict[str, Any]) -> None:
    assert render(results) == (place / "index.html").read_text()


@pytest.mark.parametrize("scale", [SHORT, LONG], ids=lambda scale: scale.name)
def test_networks_have_the_parameters_of_the_gru(scale: Scale) -> None:
    networks = everything(scale)
    assert len({n.key for n in networks}) == len(networks)
    for one in (network(scale, "adding", "lstm", span=10), network(scale, "adding", "rnn", span=10)):
        options = dict(one.options)
        own = parameters("adding", one.cell, options["hidden_size"], {"span": 10})
        target = parameters("adding", network(scale, "adding", "gru", span=10).cell, scale.units, {"span": 10})
        assert abs(own / target - 1) < 0.06


def test_what_is_looked_at_is_what_the_layers_read() -> None:
    forecaster = Forecaster(horizon=4, hidden_size=5, cell="lstm", max_steps=2).fit()
    seen = look(forecaster)
    assert seen.layer.cell.name == "lstm"
    steps = forecaster.context // int(forecaster.options.segment or 1)
    assert seen.x.shape[:2] == (steps, seen.over_time().shape[2])
    assert 1 <= seen.x.shape[1] <= ROWS
    assert seen.over_time().shape[0] == 2  # h and c
    assert set(seen.gates()) == {"i", "f", "g", "o"}

    translator = Translator(**{**SMALL, "max_steps": 2}).fit(toy(240))
    seen, batch = look(translator), translator.teaching(translator.pairs[VALIDATION].take(list(range(ROWS))))
    steps = int(batch.counts.sum(1).min())
    assert seen.layer is translator.network.first
    assert torch.equal(seen.x, translator.network.target(batch.given.T)[:steps])
    assert seen.states is not None
    with torch.no_grad():
        _, starts = translator.network.encode(batch.source, batch.source_lengths)
        outputs, _ = seen.layer(seen.x, seen.states[0])
    assert torch.equal(seen.states[0], starts[0])
    assert np.allclose(seen.over_time()[0], outputs.numpy(), atol=1e-6)


def test_another_directory_is_not_written_into(place: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for folder, scale, sentence in (
        (tmp_path, TINY, "holds something else than a trial"),
        (tmp_path / "notes.txt", TINY, "is a file"),
        (place, SHORT, "a trial of another size"),
    ):
        with pytest.raises(InputError, match=sentence):
            trial(folder, scale=scale)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_second_trial_in_a_directory_is_refused(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(InputError, match="is in use"):
        trial(tmp_path)
    assert not list(tmp_path.iterdir())
