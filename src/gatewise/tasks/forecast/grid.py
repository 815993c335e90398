"""The regular grid of time under a table: its frequency, its season, and the series laid out on it with gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.table import Table, Times, Values, _of

MINUTE, HOUR, DAY = 60, 3600, 86400
WEEK = 7 * DAY
NICE_SECONDS = [1, 5, 10, 15, 30, *(n * MINUTE for n in (1, 2, 5, 10, 15, 20, 30))]
NICE_SECONDS += [*(n * HOUR for n in (1, 2, 3, 6, 12)), DAY, WEEK, 2 * WEEK]
NAMES = {(HOUR, 0): "hour", (DAY, 0): "day", (WEEK, 0): "week"}
NAMES |= {(0, 1): "month", (0, 3): "quarter", (0, 12): "year"}
SEASONS = {WEEK: 52, 2 * WEEK: 26, DAY: 7, MINUTE: 60, 1: 60}
LONGEST_SEASON = 300
MOST_GAPS = 50


@dataclass(frozen=True)
class Frequency:
    """The step of a grid: so many seconds, or so many calendar months (then ``month_end`` may hold)."""

    seconds: int = 0
    months: int = 0
    month_end: bool = False

    @property
    def name(self) -> str:
        """One step in words: week, month, 3 hours …"""
        name = NAMES.get((self.seconds, self.months))
        if name:
            return name
        if self.months:
            return f"{self.months} months"
        for size, unit in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
            if self.seconds % size == 0:
                return f"{self.seconds // size} {unit}"
        return f"{self.seconds} seconds"

    @property
    def season(self) -> int:
        """Steps in the season one would expect: a year of weeks or months, a week of days, a day of hours."""
        if self.months:
            return 12 // self.months if 12 % self.months == 0 else 1
        known = SEASONS.get(self.seconds)
        if known:
            return known
        per_day = DAY // self.seconds if DAY % self.seconds == 0 else 1
        return per_day if per_day <= LONGEST_SEASON else 1

    def positions(self, times: Times) -> NDArray[np.int64]:
        """The grid point nearest to each time stamp, counted from the first."""
        if self.months:
            months = times.astype("datetime64[M]").astype(np.int64)
            return np.asarray((months - months[0]) // self.months)
        seconds = times.astype(np.int64)
        return np.asarray(np.rint((seconds - seconds[0]) / self.seconds), np.int64)

    def times(self, start: np.datetime64, positions: NDArray[np.int64]) -> Times:
        """The time stamps of grid points counted from ``start``."""
        if not self.months:
            return start + (positions * self.seconds).astype("timedelta64[s]")
        first = start.astype("datetime64[M]")
        months = first + (positions * self.months).astype("timedelta64[M]")
        ends = (months + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
        if self.month_end:
            days = ends
        else:
            day = start.astype("datetime64[D]") - first.astype("datetime64[D]")
            days = np.minimum(months.astype("datetime64[D]") + day, ends)
        clock = start - start.astype("datetime64[D]").astype("datetime64[s]")
        return np.asarray(days.astype("datetime64[s]") + clock)


@dataclass(frozen=True)
class Series:
    """One series on its grid: the first time stamp, and a value or NaN for every grid point."""

    name: str
    start: np.datetime64
    values: Values
    frequency: Frequency

    def times(self, first: int = 0, last: int | None = None) -> Times:
        """Time stamps of the grid points first … last - 1, which may lie beyond the end."""
        return self.frequency.times(self.start, np.arange(first, len(self.values) if last is None else last))


def infer_frequency(times: Times) -> Frequency:
    """The regular step that time stamps follow, gaps and jitter allowed."""
    days = times.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    steps = np.diff(months.astype(np.int64))
    first_of_month = months.astype("datetime64[D]")
    last_of_month = (months + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    same_day = bool((days - first_of_month == days[0] - first_of_month[0]).all())
    month_end = bool((days == last_of_month).all())
    if len(times) > 1 and (same_day or month_end) and bool((steps > 0).all()):
        return Frequency(months=int(np.gcd.reduce(steps)), month_end=month_end)
    differences = np.diff(times.astype(np.int64))
    found, counts = np.unique(differences, return_counts=True)
    if counts.max() * 2 >= len(differences):
        return Frequency(seconds=int(found[counts.argmax()]))
    middle = float(np.median(differences))
    nearest = min(NICE_SECONDS, key=lambda nice: abs(nice - middle) / nice)
    return Frequency(seconds=nearest if abs(nearest - middle) <= 0.1 * nearest else max(1, round(middle)))


def regular(table: Table) -> list[Series]:
    """Lay every series of a table out on the grid of the longest one's frequency.

    Raises:
        InputError: when a series has one time stamp only, or two of its values fall on one grid point.
    """
    longest = max((times for times, _ in table.series.values()), key=len)
    if len(longest) < 2:
        raise InputError("data: every series has one time stamp only; expected at least two to see the frequency")
    frequency = infer_frequency(longest)
    return [_series(name, times, values, frequency) for name, (times, values) in table.series.items()]


def _series(name: str, times: Times, values: Values, frequency: Frequency) -> Series:
    positions = frequency.positions(times)
    repeated = np.flatnonzero(np.diff(positions) == 0)
    if len(repeated):
        i = int(repeated[0])
        raise InputError(
            f"data: the times {times[i]} and {times[i + 1]}{_of(name)} fall on the same {frequency.name}; "
            "expected one value for each"
        )
    if positions[-1] > MOST_GAPS * len(times):
        raise InputError(
            f"data: {len(times)} values{_of(name)} lie on {positions[-1] + 1} points of the grid, one a "
            f"{frequency.name}; expected at least one value in {MOST_GAPS} points"
        )
    laid = np.full(int(positions[-1]) + 1, np.nan)
    laid[positions] = values
    observed = np.flatnonzero(~np.isnan(laid))
    first = int(observed[0]) if len(observed) else 0
    return Series(name, frequency.times(times[0], np.array([first]))[0], laid[first:], frequency)
