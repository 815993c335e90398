"""Where a time lies in its day, week and year: what a network is told of the calendar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.forecast.frequency import DAY, WEEK, Frequency
from gatewise.tasks.forecast.grid import Series

YEAR = 31556952
"""Seconds of a mean year of the calendar."""
MOST_WAVES = 3


@dataclass(frozen=True)
class Cycles:
    """Cycles of so many steps each; a place in one is told as sines and cosines of its first waves."""

    periods: tuple[float, ...]

    @property
    def channels(self) -> int:
        return 2 * sum(waves(period) for period in self.periods)

    def phases(self, starts: NDArray[np.float64], steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """The sines and cosines (n, T, channels) at steps (n, T) from starts (n,), which ``start_of`` gives."""
        found = [np.empty((*steps.shape, 0))]
        for period in self.periods:
            turns = 2 * np.pi * (((starts[:, None] + steps) / period) % 1)
            angles = turns[..., None] * np.arange(1, waves(period) + 1)
            found += [np.sin(angles), np.cos(angles)]
        return np.concatenate(found, 2)


def waves(period: float) -> int:
    """How many waves of a cycle can be told apart, a few at most."""
    return min(MOST_WAVES, int(period / 2))


def start_of(series: Series) -> float:
    """The first time of a series, in steps of its frequency from a Monday long ago (of months: from a January)."""
    frequency, start = series.frequency, np.asarray(series.start)
    if frequency.units:
        return float(start) / frequency.units
    if frequency.months:
        return float(start.astype("datetime64[M]").astype(np.int64)) / frequency.months
    if frequency.business:
        return float(np.busday_count("1969-12-29", start.astype("datetime64[D]")))
    return (float(start.astype("datetime64[s]").astype(np.int64)) + 3 * DAY) / frequency.seconds


def of(frequency: Frequency, season: int, longest: int) -> Cycles:
    """The cycles of a frequency that ``longest`` steps hold twice, and the season where it is none of them."""
    if frequency.months:
        known: Sequence[float] = [12 / frequency.months]
    elif frequency.business:
        known = [5, 5 * YEAR / WEEK]
    else:
        known = [span / frequency.seconds for span in (DAY, WEEK, YEAR)] if frequency.seconds else []
    found = [period for period in known if period >= 2 and 2 * period <= longest]
    if season > 1 and 2 * season <= longest and not any(abs(season - period) < 0.5 for period in found):
        found.append(season)
    return Cycles(tuple(found))
