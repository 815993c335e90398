"""What is taken as known ahead where no option says so: only what the table has for the whole horizon."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from gatewise.tasks.forecast import Forecaster

SMALL = {"horizon": 7, "hidden_size": 4, "max_steps": 5, "n_models": 1}


def table(tmp_path: Path, empty: int, other: int | None = None) -> Path:
    """Two series of 90 days, whose values are missing on so many days at the end."""
    days = np.arange(90)
    rows = ["unique_id,ds,y,visitors"]
    for name, without in (("a", empty), ("b", empty if other is None else other)):
        for day in days:
            y = "" if day >= 90 - without else str(day % 7 + day % 5)
            rows.append(f"{name},{np.datetime64('2024-01-01') + day},{y},{day % 7 + day % 5 + 1}")
    (tmp_path / "data.csv").write_text("\n".join(rows))
    return tmp_path / "data.csv"


@pytest.mark.parametrize(("empty", "other"), [(1, 1), (6, 6), (7, 6)])
def test_a_column_that_does_not_fill_the_horizon_is_of_the_past(
    tmp_path: Path, empty: int, other: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "gatewise"):
        model = Forecaster(**SMALL).fit(table(tmp_path, empty, other))
    assert [(f.name, f.role) for f in model.scheme.features] == [("visitors", "past")]
    sentence = "not every series has a value of visitors for all 7 steps of the horizon after its last y"
    assert sum(sentence in record.message for record in caplog.records) == 1
    assert len(model.predict()["y"]) == 14
    assert [len(one.values) for one in model.series] == [90, 90]


def test_a_column_that_fills_the_horizon_is_known_ahead(tmp_path: Path) -> None:
    model = Forecaster(**SMALL).fit(table(tmp_path, 7))
    assert [(f.name, f.role) for f in model.scheme.features] == [("visitors", "future")]
    assert [len(one.values) for one in model.series] == [83, 83]


def test_what_is_named_as_known_ahead_is(tmp_path: Path) -> None:
    model = Forecaster(**SMALL, future_cols="visitors").fit(table(tmp_path, 1))
    assert [(f.name, f.role) for f in model.scheme.features] == [("visitors", "future")]
