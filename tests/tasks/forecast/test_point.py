"""The direct strategy's point forecast: the median, or the mean by the squared error, and what tells when to stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.metrics import rmsse, square_unit_of
from gatewise.tasks.forecast.panel import Panel
from gatewise.tasks.forecast.table import Table
from gatewise.tasks.forecast.validation import Validation

STEPS = np.arange(600)


def skewed() -> Table:
    """Two series of a season and exponential noise, whose median is ln 2 and whose mean is 1."""
    random = np.random.default_rng(0)
    values = {name: size * (4 * (STEPS % 4) + random.exponential(size=600)) for name, size in (("a", 1.0), ("b", 50.0))}
    return Table({name: (STEPS, one) for name, one in values.items()}, "y")


def fitted(point: str | None) -> Forecaster:
    how: dict[str, Any] = {"season": 4, "lags": 4, "max_steps": 400, "n_models": 1, "hidden_size": 16}
    return Forecaster(horizon=4, level=80, test_size=40, point=point, learning_rate=0.01, seed=0, **how).fit(skewed())


def test_by_the_squared_error_it_is_the_mean() -> None:
    found = {}
    for point in (None, "mean"):
        model = fitted(point)
        said = model.cross_validation(n_windows=37, step_size=1)
        rows = said["unique_id"] == "a"
        season = 4.0 * (said["ds"].astype(int)[rows] % 4)
        found[point] = float((said["gru"][rows] - season).mean())
        assert (said["gru-lo-80"] <= said["gru"]).all()
        assert (said["gru"] <= said["gru-hi-80"]).all()
        assert model.metric == model.objective().metric == ("RMSSE" if point else "MASE")
    assert found["mean"] == pytest.approx(1, abs=0.08)
    assert found[None] < found["mean"] - 0.07  # on its way to ln 2: windows are in units of their own noise


@pytest.mark.parametrize("calm", [1.0, 1e-3])
def test_the_loss_is_the_squared_error_in_units_of_each_series(calm: float) -> None:
    random = np.random.default_rng(1)
    noise = random.normal(size=(2, 120)) * np.where(np.arange(120) // 30 % 2, 1.0, calm)
    table = Table({"a": (STEPS[:120], 20 + noise[0]), "b": (STEPS[:120], 20 + 50 * noise[1])}, "y")
    model = Forecaster(horizon=3, season=1, window=8, point="mean", n_models=1, max_steps=1, hidden_size=4).fit(table)
    objective: Any = model.objective()
    which = np.repeat([0, 1], 60)
    origins = np.tile(np.arange(8, 68), 2)
    said = torch.from_numpy(random.normal(size=(120, 1, 3, 1)).astype(np.float32))
    loss = objective.loss(lambda *_: said, objective._batch(which, origins, 1))
    view = objective.how.scaled(objective.panel, which, origins)
    forecast = view.base + view.scale[:, None] * said[:, 0, :, 0].double().numpy()
    units = np.array([square_unit_of(objective.panel.series(i)[: objective.ends[i]], 1) for i in range(2)])
    error = (forecast - objective.panel.futures(which, origins)) / units[which, None]
    np.testing.assert_allclose(float(loss), np.mean(error**2), rtol=1e-5)


@pytest.mark.parametrize("season", [1, 4])
def test_the_validation_error_is_that_of_the_scores(season: int) -> None:
    random = np.random.default_rng(2)
    series = [random.normal(size=60), 9 * random.normal(size=50)]
    panel = Panel(series, 8, 5)
    validation = Validation(panel, [40, 30], season, 100, squared=True)
    forecast = random.normal(size=validation.truth.shape)
    each = []
    for i, end in enumerate((40, 30)):
        rows = validation.which == i
        each.append(rmsse(validation.truth[rows].ravel(), forecast[rows].ravel(), series[i][:end], season))
    assert validation.error(forecast) == pytest.approx(np.mean(each))


def test_a_season_that_repeats_exactly_has_a_unit() -> None:
    assert square_unit_of(np.tile([0.0, 3.0], 9), 2) == 3
    assert square_unit_of(np.full(9, 2.0), 2) == 1
