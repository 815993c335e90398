"""Series laid out on the regular grid of their table's frequency, with gaps, and the series that do not lie on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.columns import parted
from gatewise.tasks.forecast.covariates import Covariate
from gatewise.tasks.forecast.frequency import DAY, Frequency, common_frequency, has_business_days, infer_frequency
from gatewise.tasks.forecast.stamps import LAST_TIME, Times
from gatewise.tasks.forecast.table import Table, Unusable, none_left
from gatewise.tasks.forecast.values import Values

MOST_GAPS = 50
FEW = 4
"""So many values at most may lie a multiple of the step apart by chance."""


@dataclass(frozen=True)
class Series:
    """One series on its grid: the first time, and a value or NaN for every grid point.

    extras: covariates (grid points, columns), NaN where missing, which may go on behind the values; columns: what of.
    target: which of several it is.
    """

    name: str
    start: np.datetime64 | np.int64
    values: Values
    frequency: Frequency
    extras: Values | None = None
    columns: tuple[Covariate, ...] = ()
    target: str = ""

    @property
    def unique_id(self) -> str:
        """What users call it: its name without the target."""
        return parted(self.name)[0] if self.target else self.name

    def times(self, first: int = 0, last: int | None = None) -> Times:
        """Times of the grid points first … last - 1, which may lie beyond the end.

        Raises:
            InputError: beyond the year 9999.
        """
        points = np.arange(first, len(self.values) if last is None else last)
        times = self.frequency.times(self.start, points)
        if len(times) and times.dtype.kind == "M" and times[-1] > LAST_TIME:
            name = f"series {self.name!r}" if self.name else "the series"
            raise InputError(f"data: {name} ends so late that its forecast would go beyond the year 9999")
        return times


@dataclass(frozen=True)
class Grid:
    """The series of a table that lie on the grid of one frequency, and those that do not."""

    frequency: Frequency
    series: list[Series]
    unusable: list[Unusable]


def regular(table: Table, frequency: Frequency | None = None) -> Grid:
    """Lay every series of a table out on its grid.

    Args:
        frequency: None for that of most of the series.

    Raises:
        InputError: when no series lies on such a grid.
    """
    asked, series = frequency is not None, list[Series]()
    unusable = list(table.unusable)
    frequency = frequency or common_frequency([times for times, _ in table.series.values()])
    ahead = not table.whole and any(column.role == "future" for column in table.columns)
    for name, (times, values) in table.series.items():
        found = _series(name, times, values, frequency, asked)
        unique_id, target = parted(name) if table.targets else (name, "")
        if isinstance(found, Series):
            found = replace(found, target=target)
            series.append(with_extras(found, times, table, ahead) if table.columns else found)
        else:
            unusable.append(Unusable(unique_id, f"{found} (target {target!r})" if target else found))
    if not series:
        raise none_left(unusable[len(table.unusable) :])
    return Grid(frequency, series, unusable)


def short_of(series: Sequence[Series], horizon: int) -> list[str]:
    """The covariates taken as known ahead that do not fill the horizon after the last value of every series. One with
    gaps beside the values may have some there too, but not at all steps, and not for want of rows."""
    ahead = [k for k, column in enumerate(series[0].columns) if column.role == "future"]
    return [series[0].columns[k].name for k in ahead if not _fills(series, k, horizon)]


def _fills(series: Sequence[Series], k: int, horizon: int) -> bool:
    whole = gaps = True
    for one in series:
        assert one.extras is not None
        count = len(one.values)
        behind = ~np.isnan(one.extras[count:, k][:horizon])
        if len(behind) < horizon:
            return False
        whole, gaps = whole and bool(behind.all()), gaps and bool(behind.any())
    if whole or not gaps:
        return whole
    sides = [(np.isnan(one.values), one.extras[: len(one.values), k]) for one in series if one.extras is not None]
    return any(bool(np.isnan(known[~missing]).any()) for missing, known in sides)


def with_extras(series: Series, times: Times, table: Table, ahead: bool) -> Series:
    """The series with its covariates; with some that are known ahead its values end at the last that is not missing."""
    at = series.frequency.positions(np.concatenate([[series.start], times]))[1:]
    inside, values = at >= 0, series.values
    if ahead:
        values = values[: np.flatnonzero(~np.isnan(values))[-1] + 1]
    laid = np.full((max(len(values), int(at[-1]) + 1), len(table.columns)), np.nan)
    laid[at[inside]] = table.extras[series.name][inside]
    return replace(series, values=values, extras=laid, columns=table.columns)


def _series(name: str, times: Times, values: Values, frequency: Frequency, asked: bool) -> Series | str:
    """A series on its grid; a text that says why where it has none."""
    if not len(times) or np.isnan(values).all():
        return "has missing values only, expected at least one number"
    off = frequency.off_grid(times)
    if off is not None:
        return off
    positions = frequency.positions(times)
    steps = np.diff(positions)
    if 4 * (steps == 0).sum() >= max(FEW, len(steps)):
        return f"has one value every {infer_frequency(times).name}, expected one every {frequency.name}"
    if not steps.all():
        i = int((steps == 0).argmax())
        return (
            f"has the times {times[i]} and {times[i + 1]}, which are nearest to the same step of its grid, one every "
            f"{frequency.name}; expected one value for each step"
        )
    factor = int(np.gcd.reduce(steps)) if len(times) > FEW else 1
    if factor > 1:
        return f"has one value every {frequency.times_as_long(factor).name}, expected one every {frequency.name}"
    if not asked and frequency.seconds == DAY and has_business_days(times):
        return "has business days only, and most series have weekends too; a freq of D reads both"
    if positions[-1] > MOST_GAPS * len(times):
        return (
            f"has {len(times)} values on {positions[-1] + 1} points of the grid, one every {frequency.name}; "
            f"expected at least one value in {MOST_GAPS} points"
        )
    laid = np.full(int(positions[-1]) + 1, np.nan)
    laid[positions] = values
    first = int((~np.isnan(laid)).argmax())
    return Series(name, frequency.times(times[0], np.array([first]))[0], laid[first:], frequency)
