"""Prediction intervals: which quantiles a network learns, how they are calibrated, and how good intervals are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.table import Values

WIDEST = 50.0
"""How far a calibration may stretch an interval."""
CAME = "-y"
"""Behind the name of a target: the column of what came, beside that of its forecast."""


def quantiles(levels: Sequence[float]) -> list[float]:
    """The median first, then the lower and the upper end of the central interval of each level in per cent."""
    return [0.5, *(0.5 + sign * level / 200 for level in levels for sign in (-1, 1))]


def names(levels: Sequence[float], point: str) -> list[str]:
    """Columns of a forecast with its intervals: y, y-lo-80, y-hi-80 …"""
    return [point, *(f"{point}-{end}-{level:g}" for level in levels for end in ("lo", "hi"))]


def columns_of(levels: Sequence[float], targets: Sequence[str]) -> list[str]:
    """The columns of a forecast with its intervals: y, y-lo-80 … or those of each of several targets."""
    return [name for target in targets or ("y",) for name in names(levels, target)]


def check_columns(levels: Sequence[float], targets: Sequence[str]) -> None:
    """Raises InputError where two columns of a result would have the same name."""
    found = ["unique_id", "ds", "cutoff", *columns_of(levels, targets), *(target + CAME for target in targets)]
    again = next((name for name, count in Counter(found).items() if count > 1), None)
    if again is not None:
        raise InputError(f"target_col: a forecast would have two columns {again!r}, expected other names of targets")


def pinball(said: Tensor, target: Tensor, shares: Tensor) -> Tensor:
    """The quantile loss (Koenker & Bassett 1978), twice, so that a median's is the absolute error.

    Args:
        said: (…, Q). target: (…). shares: (Q,), of each quantile.
    """
    error = target.unsqueeze(-1) - said
    return 2 * (shares * error.clamp(min=0) + (1 - shares) * (-error).clamp(min=0))


def quantile_loss(truth: Values, forecast: Values, share: float) -> float:
    """The mean quantile loss of forecasts (…) of one quantile, twice; gaps in truth are left out."""
    error = (truth - forecast)[~np.isnan(truth)]
    return float(np.mean(2 * np.maximum(share * error, (share - 1) * error))) if len(error) else float("nan")


def coverage(truth: Values, low: Values, high: Values) -> float:
    """Per cent of the values within an interval; gaps in truth are left out."""
    known = ~np.isnan(truth)
    return float(100 * ((low <= truth) & (truth <= high))[known].mean()) if known.any() else float("nan")


def ordered(said: Values) -> Values:
    """Quantiles (…, Q) that do not cross: no lower end above the median, no upper one below."""
    said = said.copy()
    said[..., 1::2] = np.minimum(said[..., 1::2], said[..., :1])
    said[..., 2::2] = np.maximum(said[..., 2::2], said[..., :1])
    return said


def stretched(said: Values, factors: Sequence[float]) -> Values:
    """Intervals about the median (…, Q), each of them made wider by its factor."""
    wide = ordered(said)
    for k, factor in enumerate(factors):
        ends = slice(1 + 2 * k, 3 + 2 * k)
        wide[..., ends] = wide[..., :1] + factor * (wide[..., ends] - wide[..., :1])
    return wide


def calibrated(truth: Values, said: Values, levels: Sequence[float]) -> list[float]:
    """Split-conformal calibration of quantiles (Romano et al. 2019, arXiv 1905.03222), in widths of the interval.

    How far each truth lies from the median, in units of the distance of that end: the quantile of these ratios is the
    factor by which intervals are to be stretched to have held what they promise. With n truths it is the one of rank
    ⌈(n + 1) · level⌉.

    Args:
        truth: (…) values that training has not seen; NaN where missing. said: their quantiles (…, Q).
    """
    said, found = ordered(said), []
    known = ~np.isnan(truth)
    away = (truth - said[..., 0])[known]
    for k, level in enumerate(levels):
        low, high = ((said[..., 1 + 2 * k + i] - said[..., 0])[known] for i in (0, 1))
        room = np.where(away < 0, -low, high)
        tiny = 1e-9 * max(1e-300, float(np.abs(room).max(initial=0)))
        ratios = np.sort(np.abs(away) / np.maximum(room, tiny))
        rank = min(len(ratios), int(np.ceil((len(ratios) + 1) * level / 100)))
        found.append(float(min(WIDEST, ratios[rank - 1])) if rank else 1.0)
    return found
