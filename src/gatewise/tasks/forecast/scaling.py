"""Windows in units of their own: what a network reads of the last steps, and how its output becomes a forecast again.

Everything comes from the window itself, so that no window sees its future and a new series needs no statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.forecast.table import Values

CHANNELS = 3
TINY = 1e-12
"""A spread below this share of the level is rounding."""
FAR = 20.0
"""Where inputs are cut: a value further from the last one than so many units says no more than that it is far."""


@dataclass(frozen=True)
class Scaled:
    """Windows (B, W) as a network reads them, and the way back.

    x: (B, W, CHANNELS) float32: distance from the last value in standard deviations, change since the lag that
    repeats best in units of ``scale``, and whether the value was observed; base: (B, horizon), the naive forecast that
    the network corrects; scale: (B,), the usual error of that forecast; moving: (B,), whether the scale means
    something: a window without any change has none, and its forecast is the base; lags and weights: (lags, B), of the
    naive forecasts.
    """

    x: NDArray[np.float32]
    base: Values
    scale: Values
    moving: NDArray[np.bool_]
    lags: Sequence[int] = ()
    weights: Values = field(default_factory=lambda: np.empty((0, 0)))

    def alike(self, columns: Values) -> Values:
        """The same naive forecast (B, horizon, C) of other columns (B, W, C) of the windows, NaN where missing."""
        found = np.empty((len(columns), self.base.shape[1], columns.shape[2]))
        for c in range(columns.shape[2]):
            known = ~np.isnan(columns[..., c])
            found[..., c] = _mixed(self.lags, self.weights, carried(columns[..., c], known), known, found.shape[1])
        return found

    def restored(self, output: Values) -> Values:
        """Outputs (B, horizon, …) of a network in units of the data."""
        size = np.where(self.moving, self.scale, 0.0)
        return np.asarray(self.base[..., None] + size[:, None, None] * output)

    def targets(self, future: Values) -> Values:
        """Values that follow (B, horizon) in units of the network's output; NaN where there is nothing to learn."""
        return np.asarray(np.where(self.moving[:, None], (future - self.base) / self.scale[:, None], np.nan))


def scale(windows: Values, horizon: int, lags: Sequence[int], units: Values | None = None) -> Scaled:
    """Scale windows by how naive forecasts did within them.

    A lag of k stands for the naive forecast that repeats the last k values; the base is the mean of those of all lags,
    each weighted by the inverse square of its usual error.

    Args:
        windows: (B, W), NaN where missing, also in front of a short series.
        horizon: steps to forecast. lags: of naive forecasts; 1 is the last value, -k repeats k values with their drift.
        units: (B,), of what is read and said; NaN, or None for all, stands for the window's own.
    """
    known = ~np.isnan(windows)
    filled = carried(windows, known)
    count = np.maximum(1, known.sum(1))
    last = filled[:, -1:]
    away = np.where(known, filled - last, 0.0)  # from the last value: no digits are lost
    mean = away.sum(1, keepdims=True) / count[:, None]
    spread = np.sqrt(np.where(known, (away - mean) ** 2, 0).sum(1) / count)
    moving = spread > TINY * np.maximum(1e-300, np.abs(last[:, 0]))
    spread = np.where(moving, spread, 1.0)
    errors = np.stack([naive_error(filled, known, horizon, lag, spread) for lag in lags])
    weights = (errors.min(0) / errors) ** 2
    weights /= weights.sum(0)
    base = _mixed(lags, weights, filled, known, horizon)
    unit = np.asarray(1 / (weights / errors).sum(0))
    if units is not None:
        there = np.isfinite(units)
        moving = np.where(there, units > TINY * np.maximum(1e-300, np.abs(last[:, 0])), moving)
        unit, spread = (np.where(there, np.where(moving, units, 1.0), own) for own in (unit, spread))
    best = np.abs(lags)[errors.argmin(0)]
    change = filled - shifted(filled, best)
    x = np.stack([(filled - last) / spread[:, None], change / unit[:, None]], -1).clip(-FAR, FAR)
    x = np.concatenate([x, known[..., None]], -1).astype(np.float32)
    return Scaled(x, base, unit, moving, lags, weights)


def _mixed(lags: Sequence[int], weights: Values, filled: Values, known: NDArray[np.bool_], horizon: int) -> Values:
    """The weighted mean (B, horizon) of naive forecasts."""
    return np.asarray(sum(w[:, None] * naive(filled, known, horizon, k) for k, w in zip(lags, weights, strict=True)))


def naive_error(filled: Values, known: NDArray[np.bool_], horizon: int, lag: int, spread: Values) -> Values:
    """The mean error (B,) of repeating ``lag`` values, half a horizon ahead, within windows; where a window is too
    short to say, its spread. It is kept above a twentieth of the spread: a season may repeat exactly."""
    width, drifting, lag = filled.shape[1], lag < 0, abs(lag)
    reach = min(lag * -(-max(1, horizon // 2) // lag), max(1, width // 2) if lag == 1 else width)
    if reach >= width:
        return spread
    both = known[:, reach:] & known[:, :-reach]
    change, pairs = filled[:, reach:] - filled[:, :-reach], both.sum(1)
    if drifting:
        change = change - (np.where(both, change, 0).sum(1) / np.maximum(1, pairs))[:, None]
    total = np.where(both, np.abs(change), 0).sum(1)
    enough = pairs >= min(lag, horizon, width - reach) / 2
    return np.asarray(np.where(enough, np.maximum(total / np.maximum(1, pairs), 0.05 * spread), 1.5 * spread))


def shifted(filled: Values, lags: NDArray[np.int64]) -> Values:
    """For each value of a window the one so many steps before; at the start the value itself."""
    at = np.arange(filled.shape[1]) - lags[:, None]
    return np.take_along_axis(filled, np.where(at < 0, np.arange(filled.shape[1]), at), axis=1)


def carried(windows: Values, known: NDArray[np.bool_]) -> Values:
    """Gaps filled with the observation before, at the start with the first one; 0 where there is none at all."""
    at = np.maximum.accumulate(np.where(known, np.arange(windows.shape[1]), -1), axis=1)
    first = np.argmax(known, axis=1)
    return np.nan_to_num(np.take_along_axis(windows, np.where(at < 0, first[:, None], at), axis=1), nan=0.0)


def naive(filled: Values, known: NDArray[np.bool_], horizon: int, lag: int) -> Values:
    """A naive forecast (B, horizon); with a negative lag each season is as much above the one before it as the seasons
    of the window were on average."""
    season, width = abs(lag), filled.shape[1]
    found = repeated(filled, known, horizon, season)
    if lag > 0 or season >= width:
        return found
    both = known[:, season:] & known[:, :-season]
    change = np.where(both, filled[:, season:] - filled[:, :-season], 0).sum(1) / np.maximum(1, both.sum(1))
    return np.asarray(found + change[:, None] * (1 + np.arange(horizon) // season))


def repeated(filled: Values, known: NDArray[np.bool_], horizon: int, lag: int) -> Values:
    """The last ``lag`` values again and again; for one that is missing the value a lag before, and so on, and the last
    value of all where the window has none."""
    width, last = filled.shape[1], filled[:, -1:]
    if lag == 1 or lag > width:
        return np.repeat(last, horizon, axis=1)
    whole = width // lag
    seasons, there = (a[:, width - whole * lag :].reshape(-1, whole, lag) for a in (filled, known))
    newest = whole - 1 - np.argmax(there[:, ::-1], axis=1)
    season = np.where(there.any(1), np.take_along_axis(seasons, newest[:, None], axis=1)[:, 0], last)
    return np.asarray(season[:, np.arange(horizon) % lag])
