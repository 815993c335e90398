"""Forecasts beside what came, from one origin or from many: their columns and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.checks import check_integer
from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.intervals import coverage, names, quantile_loss, quantiles
from gatewise.tasks.forecast.metrics import last_value, mase, naive_error, nanmean, rmsse, seasonal_naive, smape
from gatewise.tasks.forecast.options import MOST_STEPS
from gatewise.tasks.forecast.panel import Places
from gatewise.tasks.forecast.strategies import named
from gatewise.tasks.forecast.table import Table, Times, Values
from gatewise.tasks.outcome import Scores

SEASONAL, LAST = "seasonal naive", "last value"


@dataclass(frozen=True)
class HeldOut:
    """The held-out end of a series: its time stamps, the truth (NaN where missing), and the forecasts by name."""

    series: Series
    times: Times
    truth: Values
    forecasts: dict[str, Values]


@dataclass(frozen=True)
class Forecasts:
    """Forecasts (n, horizon, 1 + 2 · levels) of series from origins: the point, then the ends of each interval."""

    series: Sequence[Series]
    which: Places
    origins: Places
    values: Values
    levels: Sequence[float]

    @property
    def horizon(self) -> int:
        return int(self.values.shape[1])

    @property
    def targets(self) -> list[str]:
        """The targets of series that have several."""
        return list(dict.fromkeys(one.target for one in self.series if one.target))

    @property
    def reach(self) -> int:
        """Steps at the end of its series from the first origin on."""
        return max(len(self.series[i].values) - int(origin) for i, origin in zip(self.which, self.origins, strict=True))

    def columns(self, point: str = "y") -> dict[str, Any]:
        """The long table: ``unique_id``, ``ds``, the point forecast and ends of intervals, by the series."""
        names_of = np.array([one.unique_id for one in self.series], dtype=object)
        times = [self.series[i].times(o, o + self.horizon) for i, o in zip(self.which, self.origins, strict=True)]
        found = {"unique_id": np.repeat(names_of[self.which], self.horizon), "ds": np.concatenate(times)}
        flat = self.values.reshape(-1, self.values.shape[2])
        return found | {name: flat[:, k] for k, name in enumerate(names(self.levels, point))}

    def truth(self) -> Values:
        """What came (n, horizon); NaN where it is missing, or not there yet."""
        found = np.full(self.values.shape[:2], np.nan)
        for row, (i, origin) in enumerate(zip(self.which, self.origins, strict=True)):
            part = self.series[i].values[origin : origin + self.horizon]
            found[row, : len(part)] = part
        return found

    def cutoffs(self) -> Any:
        """The last time (n · horizon,) that each forecast knew."""
        ends = [self.series[i].times(o - 1, o) for i, o in zip(self.which, self.origins, strict=True)]
        return np.repeat(np.concatenate(ends), self.horizon)

    def naive(self, season: int) -> dict[str, Values]:
        """The naive forecasts (n, horizon) from the same origins by name."""
        pasts = [self.series[i].values[:origin] for i, origin in zip(self.which, self.origins, strict=True)]
        seasonal = {} if season == 1 else {SEASONAL: [seasonal_naive(past, self.horizon, season) for past in pasts]}
        found = seasonal | {LAST: [last_value(past, self.horizon) for past in pasts]}
        return {name: np.stack(values) for name, values in found.items()}


def up_to_origins(found: Forecasts, label: str) -> Iterator[tuple[NDArray[np.bool_], Table]]:
    """For all forecasts that leave as much of their series: which they are, and the series up to the ends of their
    horizons, with their covariates."""
    ends = np.array([len(one.values) for one in found.series])
    backs, targets = ends[found.which] - found.origins, tuple(found.targets)
    columns = max((one.columns for one in found.series), key=lambda own: sum(len(c.words or ()) for c in own))
    for back in np.unique(backs):
        counts = {one.name: end - back + found.horizon for one, end in zip(found.series, ends, strict=True)}
        series = {
            one.name: (one.times(0, n), one.values[:n]) for one, n in zip(found.series, counts.values(), strict=True)
        }
        beside = {one.name: one.extras[: counts[one.name]] for one in found.series if one.extras is not None}
        yield backs == back, Table(series, label, columns=columns, extras=beside, whole=True, targets=targets)


def rolling(chosen: Sequence[Series], horizon: int, n_windows: int, step_size: int | None) -> tuple[Places, Places]:
    """Which series, and the origins: ``step_size`` apart (a horizon when None), up to the one that leaves one horizon.

    Raises:
        InputError: for a number that is not positive, or a series that is too short.
    """
    step = horizon if step_size is None else step_size
    check_integer("n_windows", n_windows, 1, MOST_STEPS)
    check_integer("step_size", step, 1, MOST_STEPS)
    back = horizon + step * np.arange(n_windows)[::-1]
    for one in chosen:
        if len(one.values) <= back[0] or np.isnan(one.values[: len(one.values) - back[0]]).all():
            raise InputError(
                f"n_windows: the first of {n_windows} begins {back[0]} steps before the end, but"
                f"{named(one)} has {len(one.values)} values, expected at least one before that"
            )
    which = np.repeat(np.arange(len(chosen)), n_windows)
    return which, np.array([len(s.values) for s in chosen])[which] - np.tile(back, len(chosen))


def scores(found: Forecasts, model: str, season: int) -> Scores:
    """Figures of forecasts and of the naive ones beside them: mean over origins, then over series.

    MASE, sMAPE (per cent), RMSSE and OWA, which compares the first two to the first naive forecast; of a model with
    intervals also the quantile loss, in the unit of MASE, and the coverage of each interval (per cent).
    """
    truth, by_name = found.truth(), {model: found.values[..., 0], **found.naive(season)}
    rows: dict[str, list[list[float]]] = {name: [] for name in by_name}
    extra: list[list[float]] = []
    for i in np.unique(found.which):
        mine = np.flatnonzero(found.which == i)
        history = found.series[i].values[: found.origins[mine].min()]
        unit = naive_error(history, season)
        for name, said in by_name.items():
            pairs = truth[mine], said[mine]
            rows[name].append([mase(*pairs, unit), smape(*pairs), rmsse(*pairs, history, season)])
        if found.levels:
            extra.append(_of_intervals(truth[mine], found.values[mine], found.levels, unit))
    means = {name: nanmean(np.array(values)) for name, values in rows.items()}
    beside = next(name for name in means if name != model)
    result = {}
    for name, (scaled, percent, root) in means.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            owa = (scaled / means[beside][0] + percent / means[beside][1]) / 2
        result[name] = {"MASE": scaled, "sMAPE": percent, "RMSSE": root, "OWA": owa if np.isfinite(owa) else np.nan}
    if extra:
        labels = ["quantile loss", *(f"coverage {level:g}" for level in found.levels)]
        result[model] |= dict(zip(labels, nanmean(np.array(extra)), strict=True))
    return {name: {metric: float(value) for metric, value in figures.items()} for name, figures in result.items()}


def by_target(found: Forecasts, model: str, season: int) -> dict[str, Scores]:
    """The figures of each of several targets."""
    result = {}
    for target in found.targets:
        mine = np.array([found.series[i].target == target for i in found.which], np.bool_)
        part = replace(found, which=found.which[mine], origins=found.origins[mine], values=found.values[mine])
        result[target] = scores(part, model, season)
    return result


def _of_intervals(truth: Values, said: Values, levels: Sequence[float], unit: float) -> list[float]:
    shares = quantiles(levels)
    loss = float(np.mean([quantile_loss(truth, said[..., k], share) for k, share in enumerate(shares)]))
    return [loss / unit, *(coverage(truth, said[..., 1 + 2 * k], said[..., 2 + 2 * k]) for k in range(len(levels)))]
