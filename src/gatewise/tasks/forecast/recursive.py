"""The strategy *recursive*: a distribution of the next value, and forecasts from sample paths that are fed back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast import cycles
from gatewise.tasks.forecast.distributions import DISTRIBUTIONS, check_counts, likely
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.intervals import quantiles, stretched
from gatewise.tasks.forecast.known import ROLES, Known, Plan
from gatewise.tasks.forecast.likelihood import LikelihoodObjective
from gatewise.tasks.forecast.metrics import nanmean, unit_of
from gatewise.tasks.forecast.options import ForecastOptions
from gatewise.tasks.forecast.panel import Places
from gatewise.tasks.forecast.paths import Drawing, Past, drawn, first_steps, shares
from gatewise.tasks.forecast.reader import Reader
from gatewise.tasks.forecast.recurrence import RecursiveMembers
from gatewise.tasks.forecast.scheme import Scheme
from gatewise.tasks.forecast.strategies import Parted, long_season, named
from gatewise.tasks.forecast.table import Values
from gatewise.tasks.objective import Objective

PATHS = 100
SHORT = 3
"""So many last values are read, whatever the season."""
FORECASTS = 4096
"""Forecasts whose paths are held at once."""
SLOW = 1e-3
"""The learning rate, but of small data (monthly sunspots: MASE .87 in the place of .99 with 3e-3)."""
TRIED, TRIED_VALUES = 200, 2_000
"""Series, and values of each, on which untrained forecasts are tried."""
SMALL = 1_000
"""Training values up to which data are small: few lags and three networks."""


class Recursive(Parted):
    """The next value at every step, and paths of such values; see ``recurrence.py`` and ``paths.py``."""

    def decide(self, options: ForecastOptions) -> None:
        series, horizon, season = self.series, self.horizon, self.season
        self.left = [f.name for f in self.scheme.features if f.role not in ROLES]
        self.scheme = Scheme(tuple(f for f in self.scheme.features if f.role in ROLES))
        values = [one.values[:end] for one, end in zip(series, self.ends, strict=True)]
        longest = max(self.ends)
        week = long_season(series[0].frequency, season)
        week = week if week is not None and 3 * week <= longest else None
        small = sum(self.ends) < SMALL
        found: dict[str, Any] = {
            "window": options.window or window_of(longest, horizon, season, week),
            "lags": options.lags or ",".join(map(str, lags_of(longest, season, week, small))),
            "hidden_size": 64,
            "learning_rate": self.learning_rate if small else SLOW,
            "n_models": min(3, options.n_samples or PATHS) if small else 1,  # each network draws a path at least
            "distribution": options.distribution or likely(values),
            "n_samples": options.n_samples or PATHS,
            "point": options.point or "median",
        }
        self._decided, self.inferred = found, options.distribution is None
        self.distribution = DISTRIBUTIONS[found["distribution"]]
        if self.distribution.counts:
            check_all_counts(series)
        self.window, self.samples, self.seed = found["window"], found["n_samples"], options.seed
        self.mean = found["point"] == "mean"
        lags = tuple(int(lag) for lag in found["lags"].split(","))
        width = max(season, self.window // season * season) if season <= longest // 2 else self.window
        self.reader = Reader(lags, width, self.distribution.counts)
        self.plan = Plan(cycles.of(series[0].frequency, season, longest), self.scheme)
        self.first = first_of(values, lags, season, horizon, width)

    def decided(self) -> dict[str, Any]:
        return self._decided

    def reads(self, end: int) -> int:
        return end - int(first_steps(np.array([end]), self.window)[0])

    def build(self, options: ForecastOptions) -> nn.Module:
        o = options
        return RecursiveMembers(
            o.n_models or 1,
            len(o.levels),
            cell=o.cell,
            hidden_size=o.hidden_size or 1,
            num_layers=o.num_layers,
            dropout=o.dropout,
            channels=self.reader.channels,
            told=self.plan.part,
            start=self.distribution.start,
            first=self.first if not self.distribution.counts else [0.0] * len(self.first),
            series=len(self.numbers),
            initialise=o.initialise,
        )

    def objective(self, module: Any, options: ForecastOptions) -> Objective:
        values = [one.values[:seen] for one, seen in zip(self.series, self.seen, strict=True)]
        how = self.drawing(self.samples)
        rows = options.batch_size or int(np.clip(sum(self.ends) // (30 * self.window), 32, 64))
        return LikelihoodObjective(
            module, self.past(self.series, values), self.ends, how, self.season, rows, options.levels
        )

    def past(self, series: Sequence[Series], values: Sequence[Values]) -> Past:
        """Values of series as paths go on from them."""
        numbers = np.array([self.numbers.get(one.name, 0) for one in series], np.int64)
        return Past(self.window, values, numbers, Known(self.plan, series, self.horizon))

    def drawing(self, samples: int) -> Drawing:
        return Drawing(self.reader, self.distribution, shares(samples, self.horizon, self.seed))

    def forecasts(self, module: Any, series: Sequence[Series], which: Places, origins: Places) -> Values:
        past, how = self._whole(series), self.drawing(self.samples)
        parts = [slice(low, low + FORECASTS) for low in range(0, len(which), FORECASTS)]
        found = [self._said(drawn(module, past, how, which[part], origins[part])) for part in parts]
        return stretched(np.concatenate(found), module.widths.double().tolist())

    def paths(self, module: Any, series: Sequence[Series], which: Places, origins: Places) -> Values:
        """Sample paths (n, samples, horizon) in units of the data; arguments as for ``forecasts``."""
        return drawn(module, self._whole(series), self.drawing(self.samples), which, origins)

    def _whole(self, series: Sequence[Series]) -> Past:
        if self.distribution.counts:
            check_all_counts(series)
        return self.past(series, [one.values for one in series])

    def _said(self, paths: Values) -> Values:
        """The point and the ends of intervals (n, horizon, 1 + 2 · levels) of paths (n, samples, horizon)."""
        method: Any = "inverted_cdf" if self.distribution.counts else "linear"
        found = np.quantile(paths, quantiles(self.levels), axis=1, method=method)
        if self.mean:
            found[0] = paths.mean(1)
        return np.moveaxis(found, 0, 2)

    def doubt(self) -> str:
        return "" if self.distribution.counts else super().doubt()  # those of counts are not calibrated

    def sentences(self) -> list[str]:
        why = "the values are small counts" if self.distribution.counts else "the values are not small counts"
        return [f"distribution {self.distribution.name}: {why}"] if self.inferred else []


def check_all_counts(series: Sequence[Series]) -> None:
    """Raises InputError for the first value that is no count."""
    for one in series:
        wrong = check_counts(one.values)
        if wrong is not None:
            raise InputError(f"data:{named(one)} {wrong}")


def window_of(longest: int, horizon: int, season: int, week: int | None) -> int:
    """Two long seasons, or a few seasons, and at least a horizon; a third of the training part at most."""
    seasons = 8 if season < 10 else 3 if season <= 30 else 2
    return max(2, min(max(2 * week if week else seasons * season, horizon, 24), longest // 3))


def lags_of(longest: int, season: int, week: int | None, small: bool = False) -> list[int]:
    """The last values, those about a season and a long season ago, and two seasons ago; of small data those that naive
    forecasts are made of: more of them learn the training part by heart (airline passengers: MASE .68 in the place of
    .94, three seeds)."""
    if small:
        wished = {1, season, season + 1}
    else:
        near = [lag for long in (season, week or 1) if long > 1 for lag in (long - 1, long, long + 1)]
        wished = {*range(1, SHORT + 1), *near, 2 * season}
    return sorted(lag for lag in wished if lag == 1 or 0 < lag < max(SHORT + 1, longest // 3))


def first_of(series: Sequence[Values], lags: Sequence[int], season: int, horizon: int, width: int) -> list[float]:
    """What an untrained network forecasts: how much of each earlier value.

    The last value, that of a season ago, this one with the change since then, or the level: which of them has the
    smallest error half a horizon ahead in the training parts, in units of each series.
    """
    plans = {(): "level", (1,): "last", (season,): "season", (1, season, season + 1): "both"}
    plans = {needed: name for needed, name in plans.items() if set(needed) <= set(lags)}
    ahead = max(1, horizon // 2)
    back = season * -(-ahead // season)
    total = dict.fromkeys(plans, 0.0)
    for values in series[:: -(-len(series) // TRIED)]:
        part = values[-TRIED_VALUES:]
        if len(part) <= back + max(ahead, 1) + 1:
            continue
        now, then = np.arange(back, len(part) - ahead), np.arange(back + ahead, len(part))
        level = nanmean(np.stack([part[np.maximum(0, now - k)] for k in range(min(width, back + width))]))
        seasonal = part[then] - part[then - back]
        errors = {"level": part[then] - level, "last": part[then] - part[now], "season": seasonal}
        errors["both"] = seasonal - (part[now] - part[now - back])
        unit = unit_of(part, season)
        for needed, name in plans.items():
            total[needed] += float(np.nan_to_num(nanmean(np.abs(errors[name])) / unit))
    best = min(total, key=lambda needed: total[needed])
    return [(-1.0 if lag == season + 1 and len(best) == 3 else 1.0) if lag in best else 0.0 for lag in lags]
