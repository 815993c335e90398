"""What a direct forecaster decides by the data, where it is not asked for: window, segment, lags, size, members."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.metrics import naive_error
from gatewise.tasks.forecast.panel import Origins, Panel
from gatewise.tasks.forecast.scaling import scale
from gatewise.tasks.forecast.table import Values

LONGEST_SEGMENT = 30
SEGMENTS = 8
"""Steps of the recurrent layer without a season."""
TRIED = 512
"""Windows on which lags are tried."""
SMALL, LARGE = 1_000, 20_000
"""Training windows up to which data are small, and from which on they are large."""


def ends_of_training(lengths: Sequence[int], horizon: int, test: int, validation: int | None) -> list[int]:
    """How many values of each series training sees: all but what is held out and the validation part before it.

    A series that leaves fewer than three horizons before that is neither held out nor validated on.
    """
    return [n if n < test + 3 * horizon else n - test - _validation(n - test, horizon, validation) for n in lengths]


def check_season(longest: int, season: int | None) -> None:
    """A season that was asked for must fit into the longest series twice.

    Raises:
        InputError: where it does not.
    """
    if season is not None and season > longest // 2:
        raise InputError(
            f"season of {season} is too long: the longest series has {longest} values, expected a season of at most "
            f"{longest // 2}"
        )


def _validation(left: int, horizon: int, asked: int | None) -> int:
    if asked is not None:
        return max(horizon, min(asked, left // 2))
    return max(horizon, min(2 * horizon, left // 4), left // 10)


def decided(
    series: Sequence[Values], ends: Sequence[int], horizon: int, season: int, week: int | None, asked: dict[str, Any]
) -> dict[str, Any]:
    """The options that depend on the data.

    Args:
        series: values. ends: of their training parts. week: steps of a season of seasons, if there is one.
        asked: options that are given, which others follow.
    """
    longest = max(ends)
    long = week if week is not None and 3 * week <= longest else None
    segment = asked["segment"] or _segment(season, asked["window"] or max(16, 2 * horizon))
    window = asked["window"] or _window(longest, horizon, season, long, segment)
    window = -(-window // segment) * segment
    known = [1, *(lag for lag in (season, -season, long) if lag is not None and 1 < abs(lag) < window)]
    lags = asked["lags"] or _lags(series, ends, window, horizon, season, known)
    count = sum(max(1, end - horizon) for end in ends)
    return {
        "segment": segment,
        "window": window,
        "lags": lags,
        "hidden_size": 64 if count < LARGE else 128,
        "n_models": 3 if count < SMALL else 1,
    }


def _segment(season: int, window: int) -> int:
    """A season, or the largest part of one that is not too long; without a season a share of the window."""
    if season == 1:
        return max(1, min(LONGEST_SEGMENT, window // SEGMENTS))
    parts = [part for part in range(1, season + 1) if season % part == 0 and part <= LONGEST_SEGMENT]
    return parts[-1] if parts[-1] > 3 or season <= 3 else min(season, LONGEST_SEGMENT)


def _window(longest: int, horizon: int, season: int, week: int | None, segment: int) -> int:
    """Two long seasons, or a few seasons, and at least two horizons; a third of the training part at most."""
    seasons = 8 if season < 10 else 3 if season <= LONGEST_SEGMENT else 2
    wished = max(2 * week if week else seasons * season, 2 * horizon, 16)
    return max(segment, min(wished, longest // 3), min(season + segment, longest // 2))


def _lags(
    series: Sequence[Values], ends: Sequence[int], window: int, horizon: int, season: int, known: list[int]
) -> str:
    """The lags whose mean forecast is the best in the training part, in units of each series' own seasonal error."""
    panel = Panel([values[:end] for values, end in zip(series, ends, strict=True)], window, horizon)
    origins = Origins([min(window, end // 2) for end in ends], [max(end // 2 + 1, end - horizon + 1) for end in ends])
    which, at = origins.at(np.unique(np.linspace(0, len(origins) - 1, TRIED).astype(np.int64)))
    windows, futures = panel.windows(which, at), panel.futures(which, at)
    units = np.array([naive_error(values[:end], season) for values, end in zip(series, ends, strict=True)])[which]
    sets: list[tuple[int, ...]] = [chosen for size in range(1, len(known) + 1) for chosen in combinations(known, size)]

    def error(lags: tuple[int, ...]) -> float:
        away = np.abs(futures - scale(windows, horizon, lags).base) / units[:, None]
        there = np.isfinite(away)
        return float(np.minimum(away[there], 100).mean()) if there.any() else 0.0

    errors = [error(chosen) for chosen in sets]
    return ",".join(map(str, sets[int(np.argmin(errors))]))
