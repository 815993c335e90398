"""Accuracy of forecasts, and the naive forecasts to be beaten."""

from __future__ import annotations

import numpy as np

from gatewise.tasks.forecast.table import Values


def carried(values: Values) -> Values:
    """The values with the last observation carried forward over the gaps."""
    known = np.where(np.isnan(values), 0, np.arange(len(values)))
    return values[np.maximum.accumulate(known)]


def last_value(history: Values, horizon: int) -> Values:
    """The last observation, repeated."""
    return np.full(horizon, carried(history)[-1])


def seasonal_naive(history: Values, horizon: int, season: int) -> Values:
    """The last season, repeated; the last observation where the history is shorter than a season."""
    if len(history) < season:
        return last_value(history, horizon)
    latest = carried(history)[-season:]
    return latest[np.arange(horizon) % season]


def naive_error(history: Values, season: int) -> float:
    """Mean absolute difference of values a season apart (Hyndman & Koehler 2006): the unit of MASE."""
    lag = season if len(history) > season else 1
    differences = np.abs(history[lag:] - history[:-lag])
    known = differences[~np.isnan(differences)]
    return float(known.mean()) if len(known) and known.mean() > 0 else float("nan")


def unit_of(history: Values, season: int) -> float:
    """The unit of MASE, or of a like figure where a season repeats exactly and MASE has none."""
    units = (naive_error(history, lag) for lag in (season, 1))
    return next((unit for unit in units if not np.isnan(unit)), 1.0)


def square_unit_of(history: Values, season: int) -> float:
    """The unit of RMSSE, or of a like figure where a season repeats exactly and RMSSE has none."""
    units = (float(np.sqrt(_square(history, lag))) for lag in (season, 1))
    return next((unit for unit in units if unit > 0), 1.0)


def mase(truth: Values, forecast: Values, unit: float) -> float:
    """Mean absolute scaled error; below 1 it beats the in-sample seasonal naive. Gaps in truth are left out."""
    return _mean(np.abs(truth - forecast)) / unit


def smape(truth: Values, forecast: Values) -> float:
    """Symmetric mean absolute percentage error in per cent, 0 … 200 (Makridakis 1993). Gaps in truth are left out."""
    total = np.abs(truth) + np.abs(forecast)
    return _mean(200 * np.abs(truth - forecast) / np.where(total == 0, 1, total))


def rmsse(truth: Values, forecast: Values, history: Values, season: int) -> float:
    """Root mean squared scaled error (Makridakis et al. 2022, M5), scaled by the seasonal naive forecast in sample."""
    unit = _square(history, season)
    return float(np.sqrt(_mean((truth - forecast) ** 2) / unit)) if unit > 0 else float("nan")


def nanmean(values: Values) -> Values:
    """The mean over the first axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    return np.asarray(np.where(known, values, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan))


def _square(history: Values, season: int) -> float:
    """Mean squared difference of values a season apart."""
    lag = season if len(history) > season else 1
    return _mean((history[lag:] - history[:-lag]) ** 2)


def _mean(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
