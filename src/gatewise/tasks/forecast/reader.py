"""What a recursive network reads at a step: earlier values in units of a running level and scale, and the calendar.

Everything at a step follows from the values before it, drawn ones as well as observed ones. So a path that is drawn is
read as a series that came, and one pass over a series gives the state at each of its steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.forecast.table import Values

FAR = 20.0
"""Where inputs are cut: that a value lies further from the level says no more."""
TINY = 1e-9
"""A scale below this share of the level is rounding."""
Flags = NDArray[np.bool_]


class Units(NamedTuple):
    """What the values before a step make of the next one: its unit is ``scale``, counted from ``level``.

    moving: whether there is such a scale. Where all values so far are the same there is none, and the next value is the
    last one, whatever a network says.
    """

    level: Values
    scale: Values
    last: Values
    moving: Flags


@dataclass(frozen=True)
class Reader:
    """How values are read.

    The level is the mean of the last ``width`` values, and the scale that of their distances, each from the level
    before it. Of counts the level is 0, and the scale 1 plus the mean, as in DeepAR.

    lags: how many steps back the values are that are read, ascending.
    """

    lags: tuple[int, ...]
    width: int
    counts: bool

    @property
    def lookback(self) -> int:
        """Values that what is read depends on."""
        return max(2 * self.width, self.lags[-1])

    @property
    def channels(self) -> int:
        """Numbers of values that are read at a step, beside which others may be told."""
        return len(self.lags) + 1 + self.counts

    def read(self, values: Values, observed: Flags, told: NDArray[np.float64]) -> tuple[NDArray[np.float64], Units]:
        """What is read at the last T steps: (n, T, channels and told), and their units (n, T).

        Args:
            values: (n, lookback + T); NaN before the first of a series, and behind the last that matters.
            observed: (n, lookback + T), which of them are no forecasts. told: (n, T, …), what is known beside values.
        """
        first = values.shape[1] - told.shape[1]
        level, spread, _ = (part[:, first:] for part in self.running(values))
        units = self.units(level[:, :-1], spread[:, :-1], newest(values)[:, first:-1])
        places = np.arange(first, values.shape[1])[:, None] - np.array(self.lags)
        wide: list[Any] = [part[:, :, None] for part in units]
        lagged = self.scaled(values[:, places], Units(*wide))
        size = [np.log(units.scale)[:, :, None]] if self.counts else []
        return np.concatenate([lagged, observed[:, first - 1 : -1, None], *size, told], 2), units

    def running(self, values: Values) -> tuple[Values, Values, Values]:
        """Level and spread (n, L + 1) before each value and behind the last; the distance of each from its level."""
        known, level = ~np.isnan(values), np.zeros((len(values), values.shape[1] + 1))
        filled, there = np.where(known, values, 0.0), windowed(known, self.width)
        if not self.counts:
            zero = origin(values)
            total = windowed(np.where(known, filled - zero, 0.0), self.width)
            level = np.where(there > 0, zero + total / there.clip(1), 0.0)
        away = np.where(known & (self.counts | (there[:, :-1] > 0)), np.abs(filled - level[:, :-1]), 0.0)
        return level, windowed(away, self.width) / there.clip(1), away

    def units(self, level: Values, spread: Values, last: Values) -> Units:
        """From the mean of the values before a step, and their mean distance from it."""
        if self.counts:
            return Units(level, 1 + spread, last, np.ones(level.shape, np.bool_))
        moving = spread > TINY * np.abs(level)
        return Units(level, np.where(moving, spread, 1.0), last, moving)

    def scaled(self, values: Values, units: Units) -> NDArray[np.float64]:
        """Values as they are read; 0 for those that are not there."""
        found = np.clip((values - units.level) / units.scale, -FAR, FAR)
        return np.where(units.moving & ~np.isnan(values), found, 0.0)


def origin(values: Values) -> Values:
    """The first value of each row (n, 1): sums of differences from it keep their digits."""
    known = ~np.isnan(values)
    return np.nan_to_num(np.take_along_axis(values, known.argmax(1)[:, None], 1), nan=0.0)


def newest(values: Values) -> Values:
    """The last value (n, L + 1) before each position and behind the last; 0 where there is none."""
    known = ~np.isnan(values)
    at = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), 0), 1)
    found = np.nan_to_num(np.take_along_axis(values, at, 1), nan=0.0)
    return np.concatenate([np.zeros((len(values), 1)), found], 1)


def windowed(values: NDArray[Any], width: int) -> NDArray[np.float64]:
    """Sums (n, L + 1) of the ``width`` values before each position, and behind the last."""
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, 1, dtype=np.float64)], 1)
    return np.asarray(total - total[:, np.maximum(0, np.arange(total.shape[1]) - width)])


class Walk:
    """Paths that go on from pasts, value by value; ``Reader.read`` says the same of all steps at once.

    Args:
        past: (n, lookback), as for ``Reader.read``. observed: (n,), whether its last value was.
        copies: paths from each past. steps: how many values are going to be taken.
    """

    def __init__(self, reader: Reader, past: Values, observed: Flags, copies: int, steps: int) -> None:
        known, shape = ~np.isnan(past), (len(past), copies)
        self.reader, self.past, self.at, self.zero = reader, past, 0, origin(past)
        parts = known, np.where(known, past - self.zero, 0.0), reader.running(past)[2]
        self._left = [left(part, reader.width, steps) for part in parts]
        self.paths, self._away = np.empty((2, steps, *shape))
        self._sums = np.zeros((2, *shape))
        self.observed = np.broadcast_to(observed[:, None], shape)
        self.units = self._units(np.broadcast_to(newest(past)[:, -1:], shape))

    def _units(self, last: Values) -> Units:
        known, total, away = (part[:, self.at, None] for part in self._left)
        self.there = known + min(self.at, self.reader.width)
        level = self.zero + (total + self._sums[0]) / self.there.clip(1)
        level = np.where((self.there > 0) & (not self.reader.counts), level, 0.0)
        return self.reader.units(level, (away + self._sums[1]) / self.there.clip(1), last)

    def read(self, told: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is read before the next value: (n · copies, channels and told), with what is told of it (n, …)."""
        shape, found = self.units.last.shape, []
        for lag in self.reader.lags:
            back = self.at - lag
            values = self.paths[back] if back >= 0 else np.broadcast_to(self.past[:, back, None], shape)
            found.append(self.reader.scaled(values, self.units))
        size = [np.log(self.units.scale)] if self.reader.counts else []
        beside = np.broadcast_to(told[:, None], (*shape, told.shape[1]))
        read = np.concatenate([np.stack([*found, self.observed, *size], 2), beside], 2)
        return read.reshape(-1, read.shape[2])

    def take(self, values: Values, observed: Flags) -> None:
        """Take the next value (n, copies) of each path; observed: which of them are no forecasts."""
        self.paths[self.at] = values
        known = (self.there > 0) | self.reader.counts
        self._away[self.at] = np.where(known, np.abs(values - self.units.level), 0.0)
        self._sums += self.paths[self.at] - (0.0 if self.reader.counts else self.zero), self._away[self.at]
        gone = self.at - self.reader.width
        if gone >= 0:
            self._sums -= self.paths[gone] - (0.0 if self.reader.counts else self.zero), self._away[gone]
        self.at, self.observed = self.at + 1, observed
        self.units = self._units(values)


def left(part: NDArray[Any], width: int, steps: int) -> NDArray[np.float64]:
    """Sums (n, steps + 1) of what is within the last ``width`` places of a past (n, L) when so many steps are taken."""
    inside = np.zeros((len(part), width))
    inside[:, max(0, width - part.shape[1]) :] = part[:, -width:]
    sums = np.concatenate([np.cumsum(inside[:, ::-1], 1)[:, ::-1], np.zeros((len(part), 1))], 1)
    return sums[:, np.minimum(np.arange(steps + 1), width)]
