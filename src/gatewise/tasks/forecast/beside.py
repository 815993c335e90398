"""Covariates beside the windows of a panel, as the network reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.forecast import calendars
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.panel import Panel, Places, merged
from gatewise.tasks.forecast.scaling import Scaled
from gatewise.tasks.forecast.scheme import Feature, Scheme, first_known

Floats = NDArray[np.float32]


class Part(NamedTuple):
    """Columns of an input: ``numbers`` first, then a code for each of ``words``, the sizes of their vocabularies."""

    numbers: int
    words: tuple[int, ...]


class Widths(NamedTuple):
    """What a network reads beside the values: of the window, of the horizon, and of the series itself."""

    past: Part
    future: Part
    static: Part


class Beside(NamedTuple):
    """Covariates of windows: past (B, window, …), future (B, horizon, …) and static (B, …), columns as in ``Widths``.

    past: the numbers of all that goes with time, whether each of them is known, the calendar, codes. future: the same
    of those known ahead, with their distance from the naive forecast of themselves behind the numbers, made as that of
    each target: as far as it follows them, the error of its naive forecast does too. static: numbers, whether they are
    known, codes.
    """

    past: Floats
    future: Floats
    static: Floats


def widths(scheme: Scheme, targets: int = 1) -> Widths:
    """The columns for the covariates of a model, whose network reads so many targets together."""
    calendar = calendars.width(scheme.calendar)

    def part(each: int, more: int, *roles: str) -> Part:
        words = tuple(len(f.words or ()) for f in scheme.of(*roles, words=True))
        return Part(each * len(scheme.of(*roles, words=False)) + more, words)

    return Widths(part(2, calendar, "past", "future"), part(2 + targets, calendar, "future"), part(2, 0, "static"))


@dataclass(frozen=True)
class Stretch:
    """Grid points ``first`` to before ``last`` of a series, with a horizon behind them."""

    series: Series
    first: int
    last: int

    def column(self, feature: Feature, horizon: int) -> Floats:
        """A covariate of these points, as many as there are."""
        k = next(i for i, column in enumerate(self.series.columns) if column.name == feature.name)
        assert self.series.extras is not None
        values = self.series.extras[self.first : self.last + horizon, k]
        return feature.encoded(values, self.series.columns[k])

    def static(self, feature: Feature) -> float:
        """The one value of a static covariate."""
        k = next(i for i, column in enumerate(self.series.columns) if column.name == feature.name)
        assert self.series.extras is not None
        return float(feature.encoded(first_known(self.series.extras[:, k]), self.series.columns[k])[0])


class Covariates:
    """The covariates of the series of a panel, laid out as it is: 4 bytes a number, 8 for a time of the calendar."""

    def __init__(self, scheme: Scheme, panel: Panel, stretches: Sequence[Stretch], targets: int = 1) -> None:
        self.scheme, self.panel, self.targets = scheme, panel, targets
        numbers = [scheme.of(role, words=False) for role in ("past", "future")]
        words = [scheme.of(role, words=True) for role in ("past", "future")]
        self.ahead, self.numbers = len(numbers[1]), len(numbers[0]) + len(numbers[1])
        self.ahead_words, self.words = len(words[1]), len(words[0]) + len(words[1])
        features = [*numbers[0], *numbers[1], *words[0], *words[1]]
        self.flat = np.zeros((len(panel.flat), len(features)), np.float32)
        self.flat[:, : self.numbers] = np.nan
        self.times = np.full(len(panel.flat) if scheme.calendar else 0, "NaT", "datetime64[s]")
        self.static = np.stack([self._static(one) for one in stretches])
        for start, one in zip(panel.starts + panel.window, stretches, strict=True):
            for k, feature in enumerate(features):
                values = one.column(feature, panel.horizon)
                self.flat[start : start + len(values), k] = values
            if scheme.calendar:
                count = one.last - one.first + panel.horizon
                points = np.arange(one.first, one.last + panel.horizon)
                self.times[start : start + count] = one.series.frequency.times(one.series.start, points)

    def _static(self, one: Stretch) -> Floats:
        numbers = np.array([one.static(f) for f in self.scheme.of("static", words=False)], np.float32)
        codes = np.array([one.static(f) for f in self.scheme.of("static", words=True)], np.float32)
        return np.concatenate([np.nan_to_num(numbers), ~np.isnan(numbers), codes], dtype=np.float32)

    def of(self, series: Places, origins: Places, view: Scaled) -> Beside:
        """What stands beside windows, which are scaled in a view."""
        series = series * self.targets  # those of one series have the same covariates
        before, behind = self.panel.before(series, origins), self.panel.behind(series, origins)
        past, future = self.flat[before], self.flat[behind]
        numbers, ahead = past[..., : self.numbers], future[..., self.numbers - self.ahead : self.numbers]
        known, there = ~np.isnan(numbers), ~np.isnan(ahead)
        columns = numbers[..., self.numbers - self.ahead :].astype(np.float64)
        naive = merged(view.alike(np.repeat(columns, self.targets, 0)), self.targets)
        apart = np.where(np.tile(there, self.targets), np.tile(ahead, self.targets) - naive, 0)
        codes, codes_ahead = past[..., self.numbers :], future[..., self.flat.shape[1] - self.ahead_words :]
        calendar = [self._calendar(at) for at in (before, behind)]
        told = [np.nan_to_num(numbers), known, calendar[0], codes]
        said = [np.nan_to_num(ahead), apart.astype(np.float32), there, calendar[1], codes_ahead]
        past, future = (np.concatenate(parts, -1, dtype=np.float32) for parts in (told, said))
        return Beside(past, future, self.static[series])

    def _calendar(self, at: Places) -> Floats:
        if not self.scheme.calendar:
            return np.empty((*at.shape, 0), np.float32)
        return calendars.features(self.times[at], self.scheme.calendar)
