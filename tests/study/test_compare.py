"""Comparison of cells: fair sizes, every seed scored, figures and picture beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatewise.study.compare import compare, solve
from gatewise.study.picture import draw
from gatewise.tasks import InputError
from gatewise.tasks.forecast import Forecaster

QUICK: dict[str, Any] = {"hidden_size": 6, "max_steps": 10, "horizon": 4}


def test_solve_finds_the_nearest_size() -> None:
    assert solve(lambda n: 3 * n * n, 3 * 40 * 40) == 40
    assert solve(lambda n: n * n, 50) == 7
    assert solve(lambda n: n * n, 57) == 8
    assert solve(lambda n: 1000 * n, 1) == 1


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
    assert all(e.hidden_size == 6 for e in result.entries[:3])
    assert all(abs(e.parameters / reference.parameters - 1) < 0.15 for e in result.entries[3:])
    expected = Forecaster(**QUICK, cell="lstm", seed=1).fit()
    assert result.entries[1].scores[1] == expected.scores["lstm"]["MASE"]
    assert result.entries[1].parameters == sum(p.numel() for p in expected.fitted().parameters())
    assert set(result.baselines) == {"seasonal naive", "last value"}
    assert json.loads((tmp_path / "compare.json").read_text()) == json.loads(json.dumps(result.as_json()))
    draw(result, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
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
