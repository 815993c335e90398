"""The forecaster: the task protocol for time series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from gatewise.tasks.base import Scores, Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import write_bytes
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.frequency import named
from gatewise.tasks.forecast.grid import Series, regular
from gatewise.tasks.forecast.metrics import last_value, mase, naive_error, seasonal_naive, smape
from gatewise.tasks.forecast.network import ForecastNetwork
from gatewise.tasks.forecast.notes import log
from gatewise.tasks.forecast.options import ForecastOptions
from gatewise.tasks.forecast.table import Table, Times, Unusable, Values, like, none_left, read, read_saved, to_csv
from gatewise.tasks.forecast.windows import Batch, TrainingWindows, forecasts, scaled
from gatewise.tasks.machines import is_first
from gatewise.tasks.objective import Objective, own_rows

DATA = "data.csv"
BATCH_SIZE = 32
MOST_ORIGINS = 256


@dataclass(frozen=True)
class HeldOut:
    """The held-out end of a series: its time stamps, the truth (NaN where missing), and the forecasts by name."""

    series: Series
    times: Times
    truth: Values
    forecasts: dict[str, Values]


class Forecaster(Task):
    """A recurrent network that forecasts all of a horizon at once.

    Data: the path of a CSV or Parquet file or a data frame, long (``unique_id, ds, y``; missing values empty), with
    just two columns, time and value, or wide; None stands for weekly CO₂ at Mauna Loa. Series that cannot be used are
    listed in ``unusable``. The last horizon of every series is held out for
    the score, and stretches before it for validation; training sees neither. An epoch is 25 steps of 32 windows.

    Raises:
        InputError: for a value out of range.
    """

    name: ClassVar[str] = "forecast"
    metric: ClassVar[str] = "MASE"
    held_out_name: ClassVar[str] = "held-out horizon"
    data_files: ClassVar[tuple[str, ...]] = (DATA,)
    options_type = ForecastOptions
    verbs: ClassVar[Mapping[str, str | type | None]] = {
        "fit": "gatewise.tasks.forecast.verbs:FitForecast",
        "predict": "gatewise.tasks.forecast.verbs:PredictForecast",
    }
    options: ForecastOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.table: Table | None = None
        self.series: list[Series] = []
        self.unusable: list[Unusable] = []
        self.season = self.horizon = self.context = 1

    # The protocol

    @property
    def label(self) -> str:
        """What the values are."""
        return self.options.label or (self.table.label if self.table else "y")

    def read(self, data: Any, validation: Any = None) -> None:
        if validation is not None:
            raise InputError("validation: forecasting holds out a stretch of every series itself, expected none")
        self._take(read(data, Reading.of(self.options)))
        assert self.table is not None
        if is_first(self._machines()):
            log(self.table.ignored, self.unusable)

    def _take(self, table: Table) -> None:
        freq = self.options.freq
        grid = regular(table, None if freq is None else named("freq", freq))
        season = self.options.season or grid.frequency.season
        horizon = self.options.horizon or max(season, 12 if season == 1 else season)
        _check_season(grid.series, self.options.season)
        series, short = _long_enough(grid.series, horizon)
        self.table, self.series, self.unusable = table, series, [*grid.unusable, *short]
        self.options = replace(self.options, label=self.label)
        self.season, self.horizon, self.context = season, horizon, max(2 * season, 2 * horizon, 16)

    def build(self) -> nn.Module:
        o = self.options
        return ForecastNetwork(o.cell, o.hidden_size, o.num_layers, o.dropout, self.horizon, o.initialise)

    def objective(self) -> ForecastObjective:
        return ForecastObjective(self.fitted(), self.series, self.horizon, self.season, self.context)

    def save_data(self, folder: Path) -> None:
        assert self.table is not None
        write_bytes(folder / DATA, to_csv(self.table).encode())

    def load_data(self, folder: Path) -> None:
        path = folder / DATA
        if not path.is_file():
            raise InputError(f"{folder} is not a {self.name} model directory: {DATA} is missing")
        self._take(read_saved(path))

    def predict(self, data: Any = None) -> Any:
        """Forecast the horizon beyond the end of every series.

        Args:
            data: series to continue, as for ``fit``; the data of the fit when None.

        Returns:
            Columns of equal length: ``unique_id`` (str), ``ds`` (datetime64, or int64 where time is counted in
            integers), ``y`` (float64, in units of the data): a data frame of the library whose frame was read, or a
            dict.
        """
        self.fitted()
        source = None if data is None else self._table(data)
        table = self.forecast(self.chosen_series(source))
        columns = {
            "unique_id": np.repeat(list(table.series), self.horizon),
            "ds": np.concatenate([times for times, _ in table.series.values()]),
            "y": np.concatenate([values for _, values in table.series.values()]),
        }
        return like(source or self.table or table, columns)

    def forecast(self, chosen: list[Series]) -> Table:
        """Forecasts beyond the end of series that were read."""
        forecasts_by_name = {}
        for series in chosen:
            end = len(series.values)
            times = series.times(end, end + self.horizon)
            forecasts_by_name[series.name] = (times, self.continue_series(series, end))
        return Table(forecasts_by_name, self.label)

    def score(self, data: Any = None) -> Scores:
        """MASE and sMAPE (per cent) on the held-out last horizon, mean over the series, beside naive forecasts."""
        collected: dict[str, list[tuple[float, float]]] = {}
        for part in self.held_out(data):
            unit = naive_error(part.series.values[: -self.horizon], self.season)
            for name, forecast in part.forecasts.items():
                pair = (mase(part.truth, forecast, unit), smape(part.truth, forecast))
                collected.setdefault(name, []).append(pair)
        means = {name: _nanmean(np.array(pairs)) for name, pairs in collected.items()}
        return {name: {"MASE": float(m[0]), "sMAPE": float(m[1])} for name, m in means.items()}

    def positions(self, data: Any = None) -> tuple[list[str], Values | None]:
        """The times and values of the window from which the first series is continued."""
        series = self.chosen_series(data)[0]
        end = len(series.values)
        first = max(0, end - self.context)
        before = self.context - (end - first)  # steps of padding in front of a short series
        labels = [""] * before + [str(time).removesuffix("T00:00:00") for time in series.times(first, end)]
        return labels, np.concatenate([np.full(before, np.nan), series.values[first:]])

    def measurable(self) -> bool:
        """Whether MASE has a unit: some series changes from season to season."""
        units = [naive_error(s.values[: -self.horizon], self.season) for s in self.series]
        return any(not np.isnan(unit) for unit in units)

    # Beyond the protocol: what the picture shows

    def held_out(self, data: Any = None) -> list[HeldOut]:
        """Forecasts of the last horizon from the data before it, by the model and by the naive forecasts."""
        chosen = self.chosen_series(data, needed=self.horizon + 1)
        faults = [(one, _no_held_out(one, self.horizon)) for one in chosen]
        unusable = [Unusable(one.name, fault) for one, fault in faults if fault is not None]
        if len(unusable) == len(chosen):
            raise none_left(unusable)
        self.unusable = [*self.unusable, *unusable]
        return [self.held_out_of(one) for one, fault in faults if fault is None]

    def held_out_of(self, series: Series) -> HeldOut:
        """The same for one series."""
        end = len(series.values) - self.horizon
        history = series.values[:end]
        by_name = {self.cell.name: self.continue_series(series, end)}
        if self.season > 1:
            by_name["seasonal naive"] = seasonal_naive(history, self.horizon, self.season)
        by_name["last value"] = last_value(history, self.horizon)
        return HeldOut(series, series.times(end), series.values[end:], by_name)

    def continue_series(self, series: Series, end: int) -> Values:
        """Forecast the horizon that follows the first ``end`` values of a series."""
        view = scaled(series.values[:end], self.context, self.season)
        forecast: Values = forecasts(self.fitted(), view, np.array([end]), self.context)[0]
        return forecast

    def chosen_series(self, data: Any = None, needed: int = 2) -> list[Series]:
        """The series of the fit, or of other data of the same frequency, each at least ``needed`` values long."""
        self.fitted()
        if data is None:
            return self.series
        table = self._table(data)
        grid = regular(table, self.series[0].frequency)
        short = [one for one in grid.series if len(one.values) < needed]
        reasons = [Unusable(s.name, f"has {len(s.values)} values, expected at least {needed}") for s in short]
        self.unusable = [*grid.unusable, *reasons]
        if len(short) == len(grid.series):
            raise none_left(reasons)
        log(table.ignored, self.unusable)
        return [one for one in grid.series if len(one.values) >= needed]

    def _table(self, data: Any) -> Table:
        """Data read as those of the fit were."""
        return read(data, Reading.of(self.options, numbered=self.series[0].frequency.units > 0))


class ForecastObjective(Objective):
    """The loss and the validation of a forecaster: mean absolute scaled error at every step of a window.

    In time: training | validation, of at least two horizons where that leaves half the data | held out, one horizon.
    """

    metric = Forecaster.metric
    unit = "windows"

    def __init__(self, module: nn.Module, series: list[Series], horizon: int, season: int, context: int) -> None:
        self.module, self.horizon, self.context = module, horizon, context
        self.values = [s.values[: len(s.values) - horizon] for s in series]  # the held-out end is gone from here on
        lengths = [min(2 * horizon, max(horizon, len(v) // 4)) for v in self.values]
        self.splits = [len(v) - n for v, n in zip(self.values, lengths, strict=True)]
        self.scaled = [scaled(v, context, season) for v in self.values]
        self.units = [_unit(v[:end], season) for v, end in zip(self.values, self.splits, strict=True)]
        self.windows = TrainingWindows(self.scaled, self.splits, context, horizon)

    def batches(self, generator: np.random.Generator) -> Iterator[Batch]:
        while True:
            yield self.windows.batch(BATCH_SIZE, generator)

    def loss(self, forward: Callable[..., Tensor], batch: Batch) -> Tensor:
        output = forward(batch.inputs)[:, -batch.targets.shape[1] :]
        errors = (output - batch.targets).abs() * batch.counts
        return errors.sum() / batch.counts.sum().clamp(min=1)

    def size(self, batch: Batch) -> int:
        return len(batch.inputs)

    def share(self, batch: Batch, rank: int, world: int) -> Batch:
        return Batch(*(getattr(batch, f.name)[own_rows(len(batch.inputs), rank, world)] for f in fields(batch)))

    def validate(self) -> float:
        """MASE over forecasts from every step of the validation part that leaves a whole horizon."""
        found = []
        each = max(1, MOST_ORIGINS // len(self.values))
        for values, split, view, unit in zip(self.values, self.splits, self.scaled, self.units, strict=True):
            ends = np.arange(split, len(values) - self.horizon + 1)
            ends = ends[:: -(-len(ends) // each)]
            truth = values[ends[:, None] + np.arange(self.horizon)]
            found.append(mase(truth, forecasts(self.module, view, ends, self.context), unit))
        return float(_nanmean(np.array(found)))


def _unit(history: Values, season: int) -> float:
    """The unit of MASE, or of a like figure where a season repeats exactly and MASE has none."""
    units = (naive_error(history, lag) for lag in (season, 1))
    return next((unit for unit in units if not np.isnan(unit)), 1.0)


def _nanmean(values: Values) -> Any:
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)


def _long_enough(series: list[Series], horizon: int) -> tuple[list[Series], list[Unusable]]:
    """The series that can be held out, validated and trained on, and the others.

    Raises:
        InputError: where there is none.
    """
    faults = [(one, _too_short(one, horizon)) for one in series]
    left = [one for one, fault in faults if fault is None]
    unusable = [Unusable(one.name, fault) for one, fault in faults if fault is not None]
    if not left:
        place = "data" if unusable[0].reason.startswith("has no") else f"horizon of {horizon} is too long"
        raise InputError(f"{place}: {unusable[0].sentence}")
    return left, unusable


def _too_short(one: Series, horizon: int) -> str | None:
    count = len(one.values)
    if count <= horizon:
        return f"has only {count} values"
    if count < 4 * horizon:
        return (
            f"has {count} values, expected at least {4 * horizon} (a horizon held out, one for validation, two for "
            "training)"
        )
    return _no_held_out(one, horizon)


def _no_held_out(one: Series, horizon: int) -> str | None:
    if np.isnan(one.values[:-horizon]).all() or np.isnan(one.values[-horizon:]).all():
        return f"has no values before or none within the last {horizon} steps"
    return None


def _check_season(series: list[Series], season: int | None) -> None:
    """A season that was asked for must fit into the longest series twice."""
    longest = max(len(one.values) for one in series)
    if season is not None and season > longest // 2:
        raise InputError(
            f"season of {season} is too long: the longest series has {longest} values, expected a season of at most "
            f"{longest // 2}"
        )
