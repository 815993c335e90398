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
from gatewise.study.trial.claims import CLAIMS, needed
from gatewise.study.trial.looking import ROWS, look
from gatewise.study.trial.plan import LONG, SHORT, Network, Scale, network, parameters
from gatewise.study.trial.runs import PART, Runs
from gatewise.study.trial.shown import BASIS, render
from gatewise.tasks import InputError
from gatewise.tasks.claim import claimed
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.translator import VALIDATION

TINY = Scale(
    name="tiny",
    seeds=2,
    rates=(1e-2,),
    units=4,
    spans=(4, 6),
    shares=(0.02, 1.0),
    steps=2,
    timing_rounds=1,
    check_steps=2,
    check_seeds=2,
    check_span=6,
    lag=4,
    extensions=1,
)
"""Everything is run, nothing is learnt."""


def everything(scale: Scale) -> list[Network]:
    return needed(CLAIMS, scale)


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
    assert ids == [name for claim in CLAIMS for name in claim.ids]
    assert {name[:2] for name in ids} == {"C1", "C2", "C3", "C4", "C5", "C6", "C7", "C9", "U6"}
    for claim in results["claims"]:
        assert claim["verdict"] in ("holds", "fails", "undecided", "too short to tell")
        assert claim["figures"]
        assert claim["rule"].startswith("Holds where")
        assert set(claim["basis"]) == {"margin", "budget", "tuning", "guessing", "change"}
        assert all(claim["basis"].values())
        assert any(block["kind"] == "table" for block in claim["blocks"])
    assert results["claims"][0]["verdict"] == "holds"
    assert results["claims"][0]["figures"]["groups"] == {"gru": 3, "lstm": 4, "rnn": 1, "gru_reset_after": 3}


def test_no_verdict_rests_on_a_network_that_has_not_learnt(results: dict[str, Any]) -> None:
    of = {claim["id"]: claim for claim in results["claims"]}
    for name in ("C2a", "C2b", "C2c", "C3", "C4b", "C4c", "C5", "U6", "C6", "C7c", "C9"):
        assert of[name]["verdict"] == "too short to tell"
        assert "Missing: " in of[name]["sentence"] or "Missing: " in of[name]["basis"]["change"]
    assert "a data set of 60,000 examples" in of["C2b"]["sentence"]


def test_the_checks_come_before_the_verdicts(results: dict[str, Any]) -> None:
    outcomes = {check["id"]: check["outcome"] for check in results["checks"]}
    assert outcomes["adding"] == "fails"  # two steps are not enough
    assert outcomes["music"] == "not run"
    page = render(results)
    assert page.index('id="checks"') < page.index('id="C1"')


def test_a_second_call_fits_nothing_again(place: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (place / "fits").rglob("*")}
    told: list[str] = []
    Runs(place, TINY, lambda what, done, total, left: told.append(what), 1).tuned(everything(TINY))
    assert told == []
    assert {path: path.stat().st_mtime_ns for path in (place / "fits").rglob("*")} == stamps


def test_what_was_interrupted_goes_on_with_the_same_outcome(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "fits", tmp_path / "fits")
    before = Runs(place, TINY, None, 1)
    before.tuned(everything(TINY))
    gone = sorted(tmp_path / "fits" / job.folder for job in before.fits)[::10]
    for folder in gone[1:]:
        shutil.rmtree(folder)
    gone[0].rename(gone[0].with_name(gone[0].name + PART))  # killed while it saved
    told: list[tuple[str, float]] = []
    after = Runs(tmp_path, TINY, lambda what, done, total, left: told.append((what, left)), 1)
    after.tuned(everything(TINY))
    assert sorted(what for what, _ in told) == [folder.name for folder in gone]
    assert all(left >= 0 for _, left in told)
    assert not list((tmp_path / "fits").glob(f"*{PART}"))
    assert {job: fit.score for job, fit in after.fits.items()} == {job: fit.score for job, fit in before.fits.items()}


def test_a_part_of_the_trial_needs_a_part_of_the_fits(place: Path, tmp_path: Path) -> None:
    found = trial(tmp_path / "t", scale=TINY, processes=1, only=["C9", "C1"])
    assert [claim["id"] for claim in found["claims"]] == ["C1", "C9"]
    assert found["checks"] == []
    fitted = {path.name for path in (tmp_path / "t" / "fits").iterdir()}
    assert fitted < {path.name for path in (place / "fits").iterdir()}
    assert all(name.startswith("adding") for name in fitted)


@pytest.mark.parametrize("only", [["C9", "C10"], []])
def test_a_claim_that_is_none_is_refused(tmp_path: Path, only: list[str]) -> None:
    with pytest.raises(InputError, match="expected checks or some of C1, C2a"):
        trial(tmp_path / "t", scale=TINY, only=only)
    assert not (tmp_path / "t").exists()


def test_the_page_shows_the_figures_of_the_json_and_asks_no_network(
    place: Path, results: dict[str, Any], tmp_path: Path
) -> None:
    page = opened(place / "index.html", tmp_path)
    assert page.requests == []
    assert page.console == []
    cells = page.texts("td")
    expected = [[c["id"], c["claim"], c["verdict"], c["agreement"]] for c in results["claims"]]
    expected += [[c["id"], c["known"], c["outcome"]] for c in results["checks"]]
    expected += [row for c in results["checks"] for b in c["blocks"] if b["kind"] == "table" for row in b["rows"]]
    for c in results["claims"]:
        expected += [["Rule", c["rule"]], *([title, c["basis"][name]] for name, title in BASIS.items())]
        expected += [row for b in c["blocks"] if b["kind"] == "table" for row in b["rows"]]
    assert cells == [shown(value) for row in expected for value in row]
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
