"""Comparison of cells: fair sizes, every seed scored, figures and picture beside each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tasks.translate.conftest import toy

import gatewise as gw
from gatewise.study.compare import compare, solve
from gatewise.study.picture import draw
from gatewise.study.statistics import paired
from gatewise.tasks import InputError, load
from gatewise.tasks.forecast import Forecaster

QUICK: dict[str, Any] = {"hidden_size": 12, "max_steps": 10, "horizon": 4}


def test_solve_finds_the_nearest_size() -> None:
    assert solve(lambda n: 3 * n * n, 3 * 40 * 40) == 40
    assert solve(lambda n: n * n, 50) == 7
    assert solve(lambda n: n * n, 57) == 8
    assert solve(lambda n: 1000 * n, 1) == 1


def test_solved_sizes_are_multiples_where_they_must_be() -> None:
    assert solve(lambda n: 3 * n * n, 3 * 41 * 41, 2) in (40, 42)
    assert solve(lambda n: n, 1, 4) == 4


def test_an_undefined_metric_gets_a_sentence(tmp_path: Path) -> None:
    days = "".join(f"2020-02-{day:02}" + f",{day % 7}\n" for day in range(1, 29))
    (tmp_path / "week.csv").write_text(f"ds,y\n{days}")
    with pytest.raises(InputError, match="MASE is undefined"):
        compare("forecast", tmp_path / "week.csv", seeds=1, directory=tmp_path / "c", **QUICK)
    assert not (tmp_path / "c").exists()


def test_the_run_of_a_fit_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds the run of a fit"):
        compare("forecast", seeds=1, directory=tmp_path, **QUICK)


def test_means_are_compared_by_their_own_metric(tmp_path: Path) -> None:
    asked = {"cells": ["gru", "rnn"], "seeds": 1, "equal": ["size"], "point": "mean", **QUICK}
    result = compare("forecast", directory=tmp_path, **asked)
    runs = [Forecaster.load(tmp_path / "fits" / name) for name in ("gru-both-12-seed0", "rnn-size-12-seed0")]
    assert result.metric == "RMSSE"
    assert [e.scores for e in result.entries] == [[run.scores[run.cell.name]["RMSSE"]] for run in runs]


def test_the_table_is_a_loop_over_fit_and_score(tmp_path: Path) -> None:
    result = compare("forecast", cells=["gru", "lstm", "rnn"], seeds=2, directory=tmp_path, **QUICK)
    assert [(e.cell, e.sizing) for e in result.entries] == [
        ("gru", "both"),
        ("lstm", "size"),
        ("rnn", "size"),
        ("lstm", "parameters"),
        ("rnn", "parameters"),
    ]
    reference = result.entries[0]
    assert all(e.hidden_size == 12 for e in result.entries[:3])
    assert all(abs(e.parameters / reference.parameters - 1) < 0.15 for e in result.entries[3:])
    expected = Forecaster(**QUICK, cell="lstm", seed=1).fit()
    assert result.entries[1].scores[1] == expected.scores["lstm"]["MASE"]
    assert result.entries[1].parameters == sum(p.numel() for p in expected.fitted().parameters())
    assert set(result.baselines) == {"seasonal naive", "last value"}
    assert json.loads((tmp_path / "compare.json").read_text()) == json.loads(json.dumps(result.as_json()))
    against = result.entries[1].against
    assert against is not None
    assert against.difference.mean == pytest.approx(result.entries[1].mean - reference.mean)
    assert against.margin == pytest.approx(0.05 * reference.mean)
    assert result.entries[3].against == paired(result.entries[3].scores, reference.scores, against.margin)
    assert [len(e.curves) for e in result.entries] == [2] * 5
    assert result.entries[1].training_bytes > result.entries[2].training_bytes > 0
    assert all(e.inference_seconds and e.inference_seconds > 0 for e in result.entries)
    assert result.sentences()[0].startswith("At equal size ")
    draw(result, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_networks_that_have_not_learnt_say_nothing_about_their_cells() -> None:
    result = compare("adding", cells=["gru", "lstm"], seeds=2, equal=["size"], hidden_size=4, max_steps=1)
    value = result.baselines["always 1"]
    said = f"At equal size neither lstm nor gru is better than always 1 ({value:.4g}), so that nothing follows: MSE "
    assert result.sentences()[0].startswith(said)
    learnt = replace(result, baselines={"always 1": 10.0})
    assert not learnt.sentences()[0].startswith("At equal size neither")
    assert replace(result, baselines={}).at_a_baseline(result.entries[1]) == ""


@gw.cell
def own(gate, x, h):  # type: ignore[no-untyped-def]
    k = gw.sigmoid(gate.k(x, h))
    return k * h + (1 - k) * gw.tanh(gate.a(x))


TRANSLATOR: dict[str, Any] = {"embedding_size": 8, "vocabulary": "words", "joint": False, "batch_size": 16}
SMALL: dict[str, Any] = {"hidden_size": 5, "max_steps": 6, "span": 4, "seeds": 2}


def test_a_cell_of_ones_own_at_equal_time(tmp_path: Path) -> None:
    result = compare("adding", cells=["gru", own], equal=["time"], directory=tmp_path, **SMALL)
    assert [(e.cell, e.sizing, e.hidden_size) for e in result.entries] == [("gru", "both", 5), ("own", "time", 5)]
    steps = load(tmp_path / "fits" / "own-time-5-seed1").options.max_steps
    assert steps >= 1
    assert load(tmp_path / "fits" / "own-time-5-seed1").cell == own
    draw(result, tmp_path / "compare.png")


def test_translators_are_compared_at_even_sizes_and_as_long_as_asked(tmp_path: Path) -> None:
    asked: dict[str, Any] = {**TRANSLATOR, "hidden_size": 12, "max_steps": 17}
    result = compare("translate", toy(120), cells=["gru", own], seeds=1, directory=tmp_path, **asked)
    assert [(e.cell, e.sizing) for e in result.entries] == [("gru", "both"), ("own", "size"), ("own", "parameters")]
    assert result.entries[2].hidden_size % 2 == 0
    assert result.entries[2].parameters == pytest.approx(result.entries[0].parameters, rel=0.05)
    assert (result.metric, result.inference, result.higher_is_better) == ("BLEU", "64 sentences", True)
    assert set(result.baselines) == {"dictionary", "copy"}
    assert all(e.inference_seconds for e in result.entries)
    model = load(tmp_path / "fits" / "own-size-12-seed0")
    assert model.history.steps == 17
    assert sum(p.numel() for p in model.fitted().parameters()) == result.entries[1].parameters
    with pytest.raises(InputError, match="hidden_size must be even"):
        compare("translate", toy(120), **{**asked, "hidden_size": 13})


def test_an_interrupted_comparison_goes_on(tmp_path: Path) -> None:
    whole = compare("adding", cells=["gru", "rnn"], **SMALL)
    seen: list[str] = []

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare("adding", cells=["gru", "rnn"], directory=tmp_path, report=interrupt, **SMALL)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "fits").rglob("*.safetensors")}
    assert len(kept) == 3
    again = compare(
        "adding", cells=["gru", "rnn"], directory=tmp_path, resume=True, report=lambda w, d, t: seen.append(w), **SMALL
    )
    assert len(seen) == 6
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [e.scores for e in again.entries] == [e.scores for e in whole.entries]
    with pytest.raises(InputError, match="max_steps: the run in"):
        compare("adding", cells=["gru", "rnn"], directory=tmp_path, resume=True, **{**SMALL, "max_steps": 7})
    assert all(path.exists() for path in kept)


def test_a_failed_comparison_keeps_the_fits_that_were_finished(tmp_path: Path) -> None:
    folder, fails = tmp_path / "c", [1, 0]

    def fail(what: str, done: int, total: int) -> None:
        with pytest.raises(InputError, match=f"output directory {folder} is in use"):
            compare("adding", cells=["gru", "rnn"], directory=folder, **SMALL)
        if done == fails[-1]:
            raise InputError("enough")

    with pytest.raises(InputError, match=r"^enough$"):
        compare("adding", cells=["gru", "rnn"], directory=folder, report=fail, **SMALL)
    assert not folder.exists(), "no fit was finished"
    fails.pop()
    with pytest.raises(InputError, match=r"^enough$"):
        compare("adding", cells=["gru", "rnn"], directory=folder, report=fail, **SMALL)
    assert [path.name for path in folder.rglob("metrics.json")] == ["metrics.json"]
    assert [path.name for path in folder.iterdir()] == ["fits"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"equal": ["weight"]}, "equal must name some of size, parameters, time, got weight"),
        ({"equal": ["time"]}, "equal: time needs max_steps"),
        ({"margin": 0.0}, "margin must be a share"),
        ({"resume": True}, "holds no interrupted comparison"),
        ({"cells": ["gru", "none.py:own"]}, "there is no file none.py"),
        ({"task": "weather"}, "task must be one of forecast"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"cells": ["gru"]}, "at least two different cells"),
        ({"cells": ["gru", "gru"]}, "at least two different cells"),
        ({"cells": ["gru", "gro"]}, "cell must be one of"),
        ({"hidden_size": 0}, "hidden_size must be"),
        ({"data": "none.csv"}, "there is no file"),
    ],
)
def test_bad_arguments_get_a_sentence_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        compare(**{"task": "forecast", "directory": tmp_path / "c", **arguments})
    assert not (tmp_path / "c").exists()
