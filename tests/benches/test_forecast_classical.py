"""The statistical methods beside the forecaster: gaps that are filled, the table, and the real package where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benches import forecast_classical
from benches.forecast_classical import filled, measured, table


def test_gaps_get_the_last_value_and_a_beginning_without_values_goes() -> None:
    gap = float("nan")
    assert filled(np.array([gap, 1.0, gap, gap, 2.0, gap])).tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]


def test_a_method_that_took_too_long_has_no_figure() -> None:
    row = {
        "Theta": {"MASE": 0.5, "origins": 3, "longest fit": 0.1},
        "AutoARIMA": {"MASE": None, "origins": 3, "longest fit": 200.0},
    }
    assert table({"airline": row}).splitlines()[-1] == "| airline | 3 | — | 0.500 |"


def test_every_method_follows_a_season(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("statsforecast")
    steps = np.arange(120)
    noise = np.random.default_rng(0).normal(scale=0.1, size=120)
    values = 10 + 0.1 * steps + 3 * np.sin(2 * np.pi * steps / 12) + noise
    months = np.datetime64("2000-01") + steps.astype("timedelta64[M]")
    (tmp_path / "univariate").mkdir()
    rows = [f"{month}-01,{value}" for month, value in zip(months, values, strict=True)]
    (tmp_path / "univariate" / "waves.csv").write_text("\n".join(["ds,y", *rows]) + "\n")
    monkeypatch.setitem(forecast_classical.SERIES, "waves", ("waves.csv", 12, 2))
    found = dict(measured("waves", tmp_path, without=["AutoETS"]))
    assert found.keys() == {"AutoARIMA", "Theta"}
    assert all(row["MASE"] < 1 for row in found.values())  # of the unit, the drift of a season
