"""The ways to forecast: what each builds, how it is trained, and how it forecasts from any origin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast import defaults, steps, windows
from gatewise.tasks.forecast.beside import Covariates, Stretch, widths
from gatewise.tasks.forecast.calendars import cycles
from gatewise.tasks.forecast.direct import Members
from gatewise.tasks.forecast.frequency import Frequency
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.intervals import few, stretched
from gatewise.tasks.forecast.network import ForecastNetwork
from gatewise.tasks.forecast.objective import Ahead, DirectObjective, forecasts
from gatewise.tasks.forecast.options import ForecastOptions
from gatewise.tasks.forecast.panel import Panel, Places
from gatewise.tasks.forecast.scheme import Scheme, learnt
from gatewise.tasks.forecast.table import Values
from gatewise.tasks.objective import Objective

DAY = 86400
MOST_NUMBERED = 100
"""Series up to which each has an embedding of its own."""


class Strategy(ABC):
    """A way to forecast, for the series of a fit."""

    window: int
    """Values that a forecast is made from."""
    segment: int = 1
    """Of these, in a step of the recurrent layer."""
    learning_rate: float = 3e-3
    """At its peak, where none is asked for."""
    scheme: Scheme = Scheme()
    """What it knows of covariates."""
    left: Sequence[str] = ()
    """Covariates that it does not read."""

    def decided(self) -> dict[str, Any]:
        """The options that it decides where they are not given."""
        return {}

    def sentences(self) -> list[str]:
        """What it decided that is to be said."""
        return []

    def doubt(self) -> str:
        """The sentence where the series are too short for the intervals that are asked for."""
        return ""

    def reads(self, end: int) -> int:
        """How many values the steps of the layer go over before a forecast from ``end``."""
        return self.window

    @abstractmethod
    def build(self, options: ForecastOptions) -> nn.Module:
        """The untrained network."""

    @abstractmethod
    def objective(self, module: Any, options: ForecastOptions) -> Objective:
        """How it is trained."""

    @abstractmethod
    def forecasts(self, module: Any, series: Sequence[Series], which: Places, origins: Places) -> Values:
        """Forecasts (n, horizon, 1 + 2 · levels) in units of the data: the point, then the ends of each interval.

        Args:
            series: any. which: of them, for each forecast. origins: how many values of it are known.
        """


class Steps(Strategy):
    """The forecaster of earlier versions: a head at every step of a window, without intervals."""

    def __init__(self, series: Sequence[Series], horizon: int, season: int) -> None:
        for one in series:
            check_length(one, horizon)
            check_held_out(one, horizon)
        self.series, self.horizon, self.season = list(series), horizon, season
        self.window = max(2 * season, 2 * horizon, 16)

    def decided(self) -> dict[str, Any]:
        return {"hidden_size": 64}

    def build(self, options: ForecastOptions) -> nn.Module:
        o = options
        return ForecastNetwork(o.cell, o.hidden_size or 1, o.num_layers, o.dropout, self.horizon, o.initialise)

    def objective(self, module: Any, options: ForecastOptions) -> Objective:
        return steps.StepsObjective(module, self.series, self.horizon, self.season, self.window)

    def forecasts(self, module: Any, series: Sequence[Series], which: Places, origins: Places) -> Values:
        found = np.empty((len(which), self.horizon, 1))
        for i in np.unique(which):
            rows = np.flatnonzero(which == i)
            view = windows.scaled(series[i].values[: origins[rows].max()], self.window, self.season)
            found[rows, :, 0] = windows.forecasts(module, view, origins[rows], self.window)
        return found


class Parted(Strategy):
    """A strategy that holds out and validates on parts of the series that are long enough, and trains on all.

    Args:
        scheme: what is known of covariates; None to learn it from the training parts.
    """

    targets: int = 1
    """How many series beside each other are read together."""

    def known_as(self, one: Series) -> str:
        """By which name a series has a number."""
        return one.name

    def __init__(
        self,
        series: Sequence[Series],
        horizon: int,
        season: int,
        options: ForecastOptions,
        scheme: Scheme | None = None,
    ) -> None:
        self.horizon, self.season, self.test = horizon, season, options.test_size or horizon
        lengths = [len(one.values) for one in series]
        check_length(max(series, key=lambda one: len(one.values)), horizon, self.test)
        self.ends = defaults.ends_of_training(lengths, horizon, self.test, options.validation_size)
        self.seen = [n - self.test if end < n else n for n, end in zip(lengths, self.ends, strict=True)]
        self.held_out = [one for one, seen in zip(series, self.seen, strict=True) if seen < len(one.values)]
        self.held_out = [one for one in self.held_out if has_held_out(one, horizon)]
        if not self.held_out:
            check_held_out(max(series, key=lambda one: len(one.values)), horizon)
        self.series = series
        self.scheme = learnt(series, self.ends) if scheme is None else scheme
        own = [self.known_as(one) for one in series[:: self.targets]]
        self.numbers = {name: i + 1 for i, name in enumerate(own)} if 1 < len(own) <= MOST_NUMBERED else {}
        self.levels = options.levels
        self.decide(options)

    def doubt(self) -> str:
        lengths = sum(self.seen[:: self.targets]) - sum(self.ends[:: self.targets])
        return few(self.levels, lengths / self.horizon)

    @abstractmethod
    def decide(self, options: ForecastOptions) -> None:
        """What the data decide of the options, and what follows from it."""


class Direct(Parted):
    """Segments of a window in, all of the horizon out; see ``direct.py``."""

    def decide(self, options: ForecastOptions) -> None:
        values, frequency = [one.values for one in self.series], self.series[0].frequency
        asked = {name: getattr(options, name) for name in ("window", "segment", "lags")}
        week = long_season(frequency, self.season)
        self._decided = defaults.decided(values, self.ends, self.horizon, self.season, week, asked)
        self.window, self.segment = self._decided["window"], self._decided["segment"]
        lags = [int(lag) for lag in self._decided["lags"].split(",")]
        whole = self.season if options.scaling == "series" else None
        self.ahead = Ahead(self.horizon, lags, options.levels, self.segment, self.targets, whole)
        calendar = cycles(frequency) if options.calendar else ()
        self.scheme = replace(self.scheme, calendar=calendar)

    def decided(self) -> dict[str, Any]:
        return self._decided

    def build(self, options: ForecastOptions) -> nn.Module:
        o = options
        return Members(
            o.n_models or 1,
            len(o.levels),
            cell=o.cell,
            hidden_size=o.hidden_size or 1,
            num_layers=o.num_layers,
            dropout=o.dropout,
            segment=self.segment,
            horizon=self.horizon,
            series=len(self.numbers),
            initialise=o.initialise,
            beside=widths(self.scheme, self.targets) if self.scheme else None,
            targets=self.targets,
        )

    def objective(self, module: Any, options: ForecastOptions) -> Objective:
        values = [one.values[:seen] for one, seen in zip(self.series, self.seen, strict=True)]
        how = self.ahead, self.window, self.season, options.batch_size or self.batch_size()
        stretches = [Stretch(one, 0, seen) for one, seen in zip(self.series, self.seen, strict=True)]
        beside = partial(Covariates, self.scheme, stretches=stretches, targets=self.targets)
        covariates = beside if self.scheme else None
        mean = options.point == "mean"
        return DirectObjective(module, values, self.ends, *how, bool(self.numbers), covariates, mean)

    def windows_of_training(self) -> int:
        """How many windows training can draw."""
        return sum(max(1, end - min(self.window, end // 2)) for end in self.ends[:: self.targets])

    def batch_size(self) -> int:
        """Windows in a batch: a thirtieth of all, within bounds."""
        return int(np.clip(self.windows_of_training() // 30, 32, 256))

    def forecasts(self, module: Any, series: Sequence[Series], which: Places, origins: Places) -> Values:
        return stretched(self._said(module, series, which, origins), module.widths.double().tolist())

    def _said(self, module: Any, series: Sequence[Series], which: Places, origins: Places) -> Values:
        """Quantiles (n · targets, horizon, outputs), not yet stretched; which: of series whose targets lie beside each
        other."""
        own = series[:: self.targets]
        first = np.full(len(own), np.iinfo(np.int64).max)
        last = np.zeros(len(own), np.int64)
        needed = origins if self.ahead.season else np.full(len(origins), self.window)  # units take the whole series
        np.minimum.at(first, which, np.maximum(0, origins - needed))
        np.maximum.at(last, which, origins)
        ends = [(int(min(a, b)), int(b)) for a, b in zip(first, last, strict=True) for _ in range(self.targets)]
        parts = [one.values[a:b] for one, (a, b) in zip(series, ends, strict=True)]
        numbers = np.array([self.numbers.get(self.known_as(one), 0) for one in own])
        panel, covariates = Panel(parts, self.window, self.horizon), None
        if self.scheme:
            stretches = [Stretch(one, a, b) for one, (a, b) in zip(series, ends, strict=True)]
            covariates = Covariates(self.scheme, panel, stretches, self.targets)
        return forecasts(module, panel, self.ahead, which, origins - first[which], numbers[which], covariates)


def long_season(frequency: Frequency, season: int) -> int | None:
    """A week, where the season is a day of several steps."""
    return 7 * season if frequency.seconds and frequency.seconds * season == DAY and season > 1 else None


def named(series: Series) -> str:
    """Which series a sentence is about."""
    return f" series {series.name!r}" if series.name else " the series"


def check_length(one: Series, horizon: int, test: int | None = None) -> None:
    """Raises InputError for a series that leaves too little to train on."""
    count, test = len(one.values), test or horizon
    if count <= horizon:
        raise InputError(f"horizon of {horizon} is too long:{named(one)} has only {count} values")
    if count < 3 * horizon + test:
        held = "a horizon" if test == horizon else f"{test} steps"
        raise InputError(
            f"horizon of {horizon} is too long:{named(one)} has {count} values, expected at least "
            f"{3 * horizon + test} ({held} held out, one for validation, two for training)"
        )


def has_held_out(one: Series, horizon: int) -> bool:
    """Whether there is something to compare a forecast of the last horizon with, and to make it from."""
    return not (np.isnan(one.values[:-horizon]).all() or np.isnan(one.values[-horizon:]).all())


def check_held_out(one: Series, horizon: int) -> None:
    """Raises InputError where there is not."""
    if not has_held_out(one, horizon):
        raise InputError(f"data:{named(one)} has no values before or none within the last {horizon} steps")
