"""The option ``scaling``: auto is the window, units of a series come from before a forecast, and all of it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.panel import Panel
from gatewise.tasks.forecast.table import Table

SMALL: dict[str, Any] = {"horizon": 4, "hidden_size": 8, "max_steps": 25, "n_models": 1, "level": 80}
DAYS = (np.datetime64("2024-01-01") + np.arange(90)).astype("datetime64[s]")


def table(**series: np.ndarray) -> Table:
    return Table({name: (DAYS[: len(values)], values) for name, values in series.items()}, "y")


def walk(seed: int, count: int = 90) -> np.ndarray:
    return 50 + np.cumsum(np.random.default_rng(seed).normal(size=count))


DATA = table(a=walk(0), b=1000 * walk(1), c=walk(2, 60))


@pytest.fixture(scope="module")
def models() -> dict[str, Forecaster]:
    return {how: Forecaster(**SMALL, scaling=how).fit(DATA) for how in ("auto", "window", "series")}


def test_auto_is_the_window_and_the_series_another(models: dict[str, Forecaster]) -> None:
    said = {how: model.predict()["y"] for how, model in models.items()}
    np.testing.assert_array_equal(said["auto"], said["window"])
    assert not np.allclose(said["series"], said["window"], rtol=1e-6)


def test_units_of_a_series_are_the_mean_change_over_a_season_before_the_origin() -> None:
    """Reference: one value after the other."""
    values = walk(3, 40)
    values[[5, 20]] = np.nan
    panel, season = Panel([walk(4, 9), values], 10, 4), 7
    found = panel.units(np.array([1, 1, 0, 1, 1]), np.array([40, 15, 9, 3, 30]), season)
    for at, end in ((0, 40), (1, 15), (4, 30)):
        changes = [abs(values[t] - values[t - season]) for t in range(season, end)]
        known = [change for change in changes if not np.isnan(change)]
        expected = np.mean(known) if len(known) >= season else np.nan
        np.testing.assert_allclose(found[at], expected)
    assert np.isnan(found[2:4]).all()


def test_nothing_behind_the_origin_is_read(models: dict[str, Forecaster]) -> None:
    later = walk(0).copy()
    later[-4:] = 1e6
    said = [models["series"].cross_validation(table(a=values)) for values in (walk(0), later)]
    np.testing.assert_array_equal(said[0]["gru"], said[1]["gru"])


def test_units_and_offset_of_the_data_do_not_matter(models: dict[str, Forecaster]) -> None:
    model, values = models["series"], walk(5)
    one, other = (model.predict(table(x=each))["y"] for each in (values, 1000 * values - 5e4))
    np.testing.assert_allclose(1000 * one - 5e4, other, rtol=1e-5)


def test_it_is_kept_with_the_model(models: dict[str, Forecaster], tmp_path: Path) -> None:
    models["series"].save(tmp_path / "run")
    again = Forecaster.load(tmp_path / "run")
    assert again.options.scaling == "series"
    np.testing.assert_array_equal(again.predict()["y"], models["series"].predict()["y"])


def test_where_it_does_not_go_a_sentence_says_so(models: dict[str, Forecaster]) -> None:
    with pytest.raises(InputError, match="scaling must be one of auto, window, series, got 'log'"):
        Forecaster(scaling="log")
    with pytest.raises(InputError, match="scaling of 'series' needs strategy 'direct', got 'recursive'"):
        Forecaster(strategy="recursive", scaling="series")
    with pytest.raises(InputError, match="export: scaling 'series' needs the whole series at every call"):
        models["series"].verb("export")().parts(models["series"])
