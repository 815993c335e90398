"""Metrics and naive forecasts, against figures worked out by hand."""

import math

import numpy as np

from gatewise.tasks.forecast.metrics import carried, last_value, mase, naive_error, seasonal_naive, smape

NAN = math.nan


def test_naive_forecasts() -> None:
    history = np.array([1.0, 2.0, 3.0, 4.0, NAN, 6.0])
    assert carried(history).tolist() == [1, 2, 3, 4, 4, 6]
    assert seasonal_naive(history, 5, season=3).tolist() == [4, 4, 6, 4, 4]
    assert last_value(np.array([1.0, 5.0, NAN]), 2).tolist() == [5, 5]
    assert seasonal_naive(history, 2, season=9).tolist() == [6, 6]


def test_mase_and_smape() -> None:
    history = np.array([1.0, 2.0, 2.0, 4.0, NAN])
    unit = naive_error(history, season=2)
    assert unit == 1.5  # |2 − 1| and |4 − 2|; the pair with the gap does not count
    truth, forecast = np.array([3.0, NAN, 5.0]), np.array([4.0, 9.0, 3.0])
    assert mase(truth, forecast, unit) == 1.0
    assert smape(truth, forecast) == (200 * 1 / 7 + 200 * 2 / 8) / 2


def test_a_constant_history_has_no_unit() -> None:
    assert math.isnan(naive_error(np.ones(10), season=2))
    assert smape(np.zeros(2), np.zeros(2)) == 0
