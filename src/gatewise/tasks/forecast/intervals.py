"""Prediction intervals: which quantiles a network learns, how they are calibrated, and how good intervals are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.table import Values

NEAREST = 0.25
"""An end of an interval is at least this share of their mean distance from the median: where a network puts an end upon
its median, no factor would move it, and what came beyond it would stretch all others without bound."""
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


def spaced(said: Values) -> Values:
    """Quantiles in order (n, horizon, Q), no end of an interval nearer to the median than ``NEAREST`` of the mean
    distance of the ends of its level over the horizon."""
    wide = ordered(said)
    for k in range(1, said.shape[-1], 2):
        least = NEAREST * (wide[..., k + 1] - wide[..., k]).mean(-1, keepdims=True) / 2
        wide[..., k] = np.minimum(wide[..., k], wide[..., 0] - least)
        wide[..., k + 1] = np.maximum(wide[..., k + 1], wide[..., 0] + least)
    return wide


def stretched(said: Values, factors: Sequence[float]) -> Values:
    """Intervals about the median (n, horizon, Q) by ascending levels, each of them made wider by its factor; none lies
    within that of a lower level, whose factor may be the larger one."""
    wide = spaced(said)
    for k, factor in enumerate(factors):
        ends = slice(1 + 2 * k, 3 + 2 * k)
        wide[..., ends] = wide[..., :1] + factor * (wide[..., ends] - wide[..., :1])
    wide[..., 1::2] = np.minimum.accumulate(wide[..., 1::2], -1)
    wide[..., 2::2] = np.maximum.accumulate(wide[..., 2::2], -1)
    return wide


def share_of(level: float, horizons: float) -> float:
    """Which share of the calibration values an interval has to hold: (1 + 1/n) of the level for n horizons.

    Values of one horizon are much alike, so the horizons and not the values are what may be exchangeable: their values
    are pooled as in Dunn, Wasserman & Ramdas 2018 (arXiv 1809.07441), whose promise is asymptotic, with the correction
    of a conformal quantile of n. Above 1 there are too few of them, and no interval is known to hold the level.
    """
    return level / 100 * (1 + 1 / horizons) if horizons > 0 else np.inf


def few(levels: Sequence[float], horizons: float) -> str:
    """The sentence where too few horizons are validated on for some of the levels; empty where there are enough."""
    short = [level for level in levels if share_of(level, horizons) > 1]
    if not short:
        return ""
    needed = int(np.ceil(short[-1] / (100 - short[-1]) - 1e-9))
    return (
        f"level: the validation parts hold {horizons:.3g} horizons in all and intervals of {short[-1]:g} % need "
        f"{needed}, so they are as wide as the largest error asks for and may hold less; a larger validation_size, a "
        "shorter horizon or more series help"
    )


def calibrated(truth: Values, said: Values, levels: Sequence[float], horizons: float) -> list[float]:
    """Split-conformal calibration of quantiles (Romano et al. 2019, arXiv 1905.03222), in widths of the interval.

    How far each truth lies from the median, in units of the distance of that end: the quantile of these ratios is the
    factor by which intervals are to be stretched to have held what they promise. With n truths it is the one of rank
    ⌈(n + 1) · share⌉, see ``share_of``. The distance grows with the unit of a window, and so does the interval.

    Args:
        truth: (n, horizon) values that training has not seen; NaN where missing. said: their quantiles (n, horizon, Q).
        horizons: how many that do not overlap the truths are from, all series together.
    """
    said, found = spaced(said), []
    known = ~np.isnan(truth)
    away = (truth - said[..., 0])[known]
    for k, level in enumerate(levels):
        low, high = ((said[..., 1 + 2 * k + i] - said[..., 0])[known] for i in (0, 1))
        room = np.where(away < 0, -low, high)
        tiny = 1e-9 * max(1e-300, float(np.abs(room).max(initial=0)))
        ratios = np.sort(np.abs(away) / np.maximum(room, tiny))
        share = share_of(level, horizons)
        rank = min(len(ratios), int(np.ceil((len(ratios) + 1) * min(1.0, share))))
        least = 1.0 if share > 1 else 0.0  # who cannot tell whether an interval holds its level makes none narrower
        found.append(float(np.clip(ratios[rank - 1], least, WIDEST)) if rank else 1.0)
    return found
