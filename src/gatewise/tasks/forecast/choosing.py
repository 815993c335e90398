"""Which way to forecast is taken for what was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.mixed import Mixed
from gatewise.tasks.forecast.options import ForecastOptions
from gatewise.tasks.forecast.recursive import Recursive
from gatewise.tasks.forecast.scheme import Scheme
from gatewise.tasks.forecast.strategies import Direct, Steps, Strategy


def check_targets(asked: ForecastOptions, several: Sequence[str]) -> None:
    """Raises InputError where a strategy does not go with the targets, of which there may be several."""
    if several and asked.strategy != "direct":
        raise InputError(f"target_col: several go with strategy 'direct', got them with {asked.strategy!r}")
    if not several and asked.channels == "mixed":
        raise InputError("channels: 'mixed' reads several targets together, expected their names in target_col")


def strategy_of(
    asked: ForecastOptions,
    series: Sequence[Series],
    horizon: int,
    season: int,
    scheme: Scheme | None,
    several: Sequence[str],
) -> Strategy:
    """The way to forecast these series.

    Args:
        scheme: what is known of covariates; None to learn it. several: names of targets beside each other.
    """
    if asked.strategy == "steps":
        return Steps(series, horizon, season)
    if asked.channels == "mixed":
        return Mixed(series, horizon, season, asked, scheme, several)
    kind = Recursive if asked.strategy == "recursive" else Direct
    return kind(series, horizon, season, asked, scheme)
