"""All series in one array, and windows of any of them at any origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.forecast.table import Values

Places = NDArray[np.int64]


class Panel:
    """Series one behind the other, each with room for a window before it and a horizon behind it, all NaN there.

    It takes 8 bytes a value, and a window's length and a horizon more for every series.
    """

    def __init__(self, series: Sequence[Values], window: int, horizon: int) -> None:
        self.window, self.horizon = window, horizon
        self.lengths = np.array([len(values) for values in series])
        ends = np.cumsum(self.lengths + window + horizon)
        self.starts = ends - self.lengths - window - horizon
        self.flat = np.full(int(ends[-1]), np.nan)
        for start, values in zip(self.starts, series, strict=True):
            self.flat[start + window : start + window + len(values)] = values

    def series(self, number: int) -> Values:
        """The values of one."""
        start = self.starts[number] + self.window
        return self.flat[start : start + self.lengths[number]]

    def windows(self, series: Places, origins: Places) -> Values:
        """The last values (B, window) before an origin, which is a count of values of the series."""
        return np.asarray(self.flat[self.before(series, origins)])

    def futures(self, series: Places, origins: Places) -> Values:
        """The values (B, horizon) from an origin on; NaN behind the end."""
        return np.asarray(self.flat[self.behind(series, origins)])

    def units(self, series: Places, origins: Places, season: int) -> Values:
        """The mean change (B,) from a season to the next in all values of a series before an origin; NaN where fewer
        than a season of changes are known."""
        found = np.full(len(series), np.nan)
        for i in np.unique(series):
            rows = np.flatnonzero(series == i)
            values = self.series(i)[: origins[rows].max()]
            change = np.abs(values[season:] - values[:-season])
            known = ~np.isnan(change)
            total, count = (np.concatenate([[0], np.cumsum(each)]) for each in (np.where(known, change, 0.0), known))
            at = np.clip(origins[rows] - season, 0, len(change))
            found[rows] = np.where(count[at] >= season, total[at] / np.maximum(1, count[at]), np.nan)
        return found

    def before(self, series: Places, origins: Places) -> Places:
        """Where the windows stand in ``flat``."""
        return np.asarray((self.starts[series] + origins)[:, None] + np.arange(self.window))

    def behind(self, series: Places, origins: Places) -> Places:
        """Where the futures stand; what is more than a horizon behind the end has the place of the last step of it."""
        steps = np.minimum(
            origins[:, None] + np.arange(self.horizon), (self.lengths[series] + self.horizon - 1)[:, None]
        )
        return np.asarray((self.starts[series] + self.window)[:, None] + steps)


def places(which: Places, targets: int) -> Places:
    """Where the targets of series stand, which lie beside each other: (n · targets,)."""
    return np.asarray((which[:, None] * targets + np.arange(targets)).reshape(-1))


def merged(x: NDArray[Any], targets: int) -> NDArray[Any]:
    """Columns (n · targets, T, C) of targets beside each other: (n, T, targets · C)."""
    rows, steps, columns = x.shape  # there may be no columns, so that no size is left to be found
    each = x.reshape(rows // targets, targets, steps, columns).swapaxes(1, 2)
    return np.asarray(each.reshape(rows // targets, steps, targets * columns))


def apart(x: NDArray[Any], targets: int) -> NDArray[Any]:
    """The other way round."""
    rows, steps, columns = x.shape
    each = x.reshape(rows, steps, targets, columns // targets).swapaxes(1, 2)
    return np.asarray(each.reshape(rows * targets, steps, columns // targets))


class Origins:
    """Origins of windows of all series, as numbers from 0: those of a series from ``first`` to before ``last``."""

    def __init__(self, first: Sequence[int], last: Sequence[int]) -> None:
        self.first = np.array(first)
        counts = np.maximum(0, np.array(last) - self.first)
        self.ends = np.cumsum(counts)
        self.starts = self.ends - counts

    def __len__(self) -> int:
        return int(self.ends[-1])

    def at(self, numbers: Places) -> tuple[Places, Places]:
        """Series and origin of each."""
        series = np.searchsorted(self.ends, numbers, side="right")
        return series, self.first[series] + numbers - self.starts[series]
