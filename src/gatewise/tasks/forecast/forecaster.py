"""The forecaster: the task protocol for time series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import nn

from gatewise.tasks import checks
from gatewise.tasks.base import Scores, Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast import defaults, saved
from gatewise.tasks.forecast.choosing import check_targets, strategy_of
from gatewise.tasks.forecast.columns import Reading, split
from gatewise.tasks.forecast.evaluation import Forecasts, HeldOut, by_target, rolling, scores, up_to_origins
from gatewise.tasks.forecast.frequency import named as frequency_named
from gatewise.tasks.forecast.grid import Series, regular, short_of
from gatewise.tasks.forecast.groups import aligned
from gatewise.tasks.forecast.intervals import check_columns, columns_of, names
from gatewise.tasks.forecast.later import ends_of, series_of, table_of
from gatewise.tasks.forecast.metrics import naive_error
from gatewise.tasks.forecast.notes import LOG, log_fit, remarks, said_seen, said_short
from gatewise.tasks.forecast.options import MOST_STEPS, ForecastOptions
from gatewise.tasks.forecast.partition import forecast_of
from gatewise.tasks.forecast.picture import figure, some_of
from gatewise.tasks.forecast.pivot import predicted, rolled
from gatewise.tasks.forecast.recursive import Recursive
from gatewise.tasks.forecast.scheme import Scheme
from gatewise.tasks.forecast.strategies import Parted, Strategy, check_held_out
from gatewise.tasks.forecast.table import Table, Unusable, Values, as_past, like, read
from gatewise.tasks.forecast.updates import Growing
from gatewise.tasks.machines import is_first
from gatewise.tasks.objective import Objective, Schedule
from gatewise.tasks.training import MakeReporter

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_DRAWN = 100
AVERAGE = 0.98
"""How slowly the mean of the weights that is validated and kept forgets: 50 steps."""


class Forecaster(Task):
    """A recurrent network that forecasts all of a horizon at once, or a step at a time along sample paths.

    Data: the path of a CSV or Parquet file or a data frame, long (``unique_id, ds, y``; missing values empty), with
    just two columns, time and value, or wide; None stands for weekly CO₂ at Mauna Loa. Series that cannot be used are
    listed in ``unusable``. The last horizon of every series is held out for the score, and stretches before it for
    validation; training steps see neither. An epoch is 25 steps.

    Example:
        >>> model = Forecaster(horizon=12, level=[80, 95])     # doctest: +SKIP
        >>> model.fit("sales.csv").predict()                   # doctest: +SKIP

    Raises:
        InputError: for a value out of range.
    """

    name: ClassVar[str] = "forecast"
    metric = "MASE"
    held_out_name: ClassVar[str] = "held-out horizon"
    data_files: ClassVar[tuple[str, ...]] = saved.FILES
    earlier: ClassVar[Mapping[str, Any]] = {"strategy": "steps"}
    options_type = ForecastOptions
    verbs: ClassVar[Mapping[str, str | type | None]] = {
        "fit": "gatewise.tasks.forecast.verbs:FitForecast",
        "predict": "gatewise.tasks.forecast.verbs:PredictForecast",
        "score": "gatewise.tasks.forecast.verbs:ScoreForecast",
        "export": "gatewise.tasks.forecast.export:ExportForecast",
    }
    options: ForecastOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.table: Table | None = None
        self.series: list[Series] = []
        self.unusable: list[Unusable] = []
        self.season = self.horizon = 1
        self.strategy: Strategy
        if self.options.point == "mean" and self.options.strategy == "direct":
            self.metric = "RMSSE"  # what the mean makes small, as the median does MASE
        self.growing: Growing | None = None
        self.silent = False

    # The protocol

    @property
    def label(self) -> str:
        """What the values are."""
        return self.options.label or (self.table.label if self.table else "y")

    @property
    def context(self) -> int:
        """Values that a forecast is made from."""
        return self.strategy.window

    def read(self, data: Any, validation: Any = None) -> None:
        if validation is not None:
            raise InputError("validation: forecasting holds out a stretch of every series itself, expected none")
        reading = Reading.of(self.options)
        table = read(data, reading)
        self._take(table, inferred=table is not data and not reading.covariates)
        if is_first(self._machines()):
            log_fit(self, bool(reading.covariates))

    def _take(self, table: Table, scheme: Scheme | None = None, inferred: bool = False) -> None:
        asked = self.options
        several = table.targets
        check_targets(asked, several)
        check_columns(asked.levels, several)
        grid = regular(table, None if asked.freq is None else frequency_named("freq", asked.freq))
        series = aligned(grid.series, asked.channels == "mixed") if several else grid.series
        season = asked.season or grid.frequency.season
        horizon = asked.horizon or max(season, 12 if season == 1 else season)
        short = short_of(series, horizon) if inferred else []
        if short:
            LOG.warning(said_short(short, horizon))
            return self._take(as_past(table, short))
        defaults.check_season(max(len(one.values) for one in series), asked.season)
        self.strategy = strategy_of(asked, series, horizon, season, scheme, several)
        self.table, self.series, self.unusable, self.growing = table, series, grid.unusable, None
        found = {"learning_rate": self.strategy.learning_rate, **self.strategy.decided(), **table.shown}
        self.options = replace(asked.filled(found), label=self.label)
        self.season, self.horizon = season, horizon

    def build(self) -> nn.Module:
        return self.strategy.build(self.options)

    def objective(self) -> Objective:
        return self.strategy.objective(self.fitted(), self.options)

    def schedule(self) -> Schedule:
        found = super().schedule()
        return found if self.options.strategy == "steps" else replace(found, average=AVERAGE)

    def save_data(self, folder: Path) -> None:
        assert self.table is not None
        table = self.table if self.growing is None else self.growing.table(self.series, self.table)
        saved.write(folder, table, self.scheme)

    def load_data(self, folder: Path) -> None:
        self._take(*saved.read(folder, split(self.options.target_col)))

    def _saved(self) -> dict[str, str]:
        return {name: digest for name, digest in super()._saved().items() if name != saved.FORM}

    @property
    def not_read(self) -> list[str]:
        """Columns of the data of the fit that say nothing to it."""
        return [*(self.table.ignored if self.table else ()), *self.strategy.left]

    @property
    def scheme(self) -> Scheme:
        """What was taken as covariates."""
        return self.strategy.scheme

    def predict(self, data: Any = None, future: Any = None) -> Any:
        """Forecast the horizon beyond the end of every series.

        Args:
            data: series to continue, as for ``fit``; the data of the fit, with all updates, when None.
            future: the covariates that are known ahead, for the horizon: a file or a data frame with ``unique_id``,
                ``ds`` and their columns; when None those of ``data`` after the last value of each series.

        Returns:
            Columns of equal length: ``unique_id`` (str, or integers where a frame had these), ``ds`` (datetime64, or
            int64 where time is counted in integers), ``y`` (float64, in units of the data: the median, or with
            ``point="mean"`` the mean) and for each level the ends of its interval, ``y-lo-80`` and ``y-hi-80``: a data
            frame of the library whose frame was read, or a dict. Of several targets each has such columns under its
            own name, NaN where a series does not have it.

        Raises:
            InputError: where a covariate is missing within the horizon, with the first series and time.
        """
        self.fitted()
        source = self.table if data is None else table_of(self, data)
        assert source is not None
        return like(source, predicted(self.forecast(self.chosen_series(None if data is None else source), future)))

    def plot(
        self,
        data: Any = None,
        future: Any = None,
        *,
        ids: Sequence[str] | None = None,
        max_ids: int = 4,
        max_insample_length: int | None = None,
    ) -> Any:
        """A figure of matplotlib: the end of every series, the forecast of what was held out, and that beyond the end.

        Args:
            data, future: as for ``predict``. ids: the series to draw; the first ones when None. max_ids: how many of
                them at most. max_insample_length: values before the forecast; some horizons and seasons when None.

        Raises:
            InputError: for a name that no series has, and without matplotlib.
        """
        checks.check_integer("max_ids", max_ids, 1, MOST_DRAWN)
        checks.check_integer("max_insample_length", max_insample_length or 1, 1, MOST_STEPS)
        chosen = some_of(self.chosen_series(data), ids, max_ids)
        return figure(self, self.forecast(chosen, future), len(chosen), max_insample_length)

    def predict_partition(self, data: Any) -> Any:
        """Forecast the series of a part of a large table, such as a worker of Ray Data or Spark has.

        The numbers are those of ``predict`` for the whole table, but for the last digits of float32. A part without
        rows, or without a series that can be used, gives a frame without rows, and the reason is logged.

        Args:
            data: a data frame that holds all rows of some series, and of covariates known ahead those of the horizon.

        Returns:
            What ``predict`` returns, a frame of the same library.

        Raises:
            InputError: for what is no data frame, or cannot be read.
        """
        self.fitted()
        columns = columns_of(self.options.levels, self.table.targets if self.table else ())
        return forecast_of(data, self.predict, columns, self.series[0].frequency.units > 0)

    def forecast(self, chosen: list[Series], future: Any = None) -> Forecasts:
        """Forecasts beyond the end of series that were read, with covariates known ahead as for ``predict``."""
        return self._from(*ends_of(self, chosen, future))

    def sample_paths(self, data: Any = None, future: Any = None) -> Values:
        """The paths (series, n_samples, horizon) of which ``predict`` gives the median (or mean), in units of the data.

        Args:
            data, future: as for ``predict``, whose order the series have.

        Raises:
            InputError: for another strategy than *recursive*.
        """
        if not isinstance(self.strategy, Recursive):
            raise InputError(f"sample_paths needs strategy 'recursive', got {self.options.strategy!r}")
        return self.strategy.paths(self.fitted(), *ends_of(self, self.chosen_series(data), future))

    def score(self, data: Any = None, windows: int = 1, step_size: int | None = None) -> Scores:
        """How good forecasts are on the held-out end, beside naive ones; mean over origins, then over series.

        Args:
            data: as for ``fit``. windows: how many origins, the last of which leaves one horizon.
            step_size: steps between them; a horizon when None.

        Returns:
            MASE, sMAPE (per cent), RMSSE and OWA (beside the first naive forecast) by name of model; with levels also
            the quantile loss in units of MASE, and the coverage of each interval (per cent).
        """
        found = self.scored(data, windows, step_size)
        figures = scores(found, self.cell.name, self.season)
        for sentence in [] if self.silent else remarks(self, figures, 0 if data is not None else found.reach):
            LOG.warning(sentence)
        return figures

    def target_scores(self, data: Any = None, windows: int = 1, step_size: int | None = None) -> dict[str, Scores]:
        """What ``score`` says, for each of several targets by itself."""
        return by_target(self.scored(data, windows, step_size), self.cell.name, self.season)

    def scored(self, data: Any = None, windows: int = 1, step_size: int | None = None) -> Forecasts:
        """The forecasts that ``score`` gives the figures of."""
        if data is None and isinstance(self.strategy, Parted):
            held_out = {one.name for one in self.strategy.held_out}
            chosen = [one for one in self.chosen_series() if one.name in held_out]
        else:
            chosen = self.chosen_series(data, needed=self.horizon + 1)
            for one in chosen:
                check_held_out(one, self.horizon)
        return self._rolling(chosen, windows, step_size)

    def _train(self, folder: Path | None, report: MakeReporter | None, resume: bool) -> Self:
        was, self.silent = self.silent, self.silent or report is not None  # who is told of it has the scores from there
        try:
            return super()._train(folder, report, resume)
        finally:
            self.silent = was

    def cross_validation(
        self, data: Any = None, n_windows: int = 1, step_size: int | None = None, refit: bool = False
    ) -> Any:
        """Forecasts from a rolling origin over the last part of every series, beside what came.

        Without ``refit`` the model stays as it is, and all origins are forecast in few calls; those before the part
        that the fit did not see (``test_size``, one horizon by default) are then no test of it. With ``refit`` the
        network is trained anew for every origin, by the values before it alone; self stays as it is.

        Args:
            data: as for ``fit``; the data of the fit when None. n_windows: how many origins, the last of which leaves
                one horizon. step_size: steps between them; a horizon when None.

        Returns:
            Columns of equal length: ``unique_id``, ``ds``, ``cutoff`` (the last time that was known), ``y`` (what came,
            NaN where missing), and the forecast, named by the cell, with its intervals (``gru``, ``gru-lo-80`` …):
            a data frame or a dict, as ``predict``. Of several targets each has ``HUFL-y``, what came, and ``HUFL``
            with its intervals.

        Raises:
            InputError: for a number that is not positive, or series that are too short.
        """
        source = self.table if data is None else table_of(self, data)
        chosen = self.chosen_series(None if data is None else source, needed=self.horizon + 1)
        found = self._rolling(chosen, n_windows, step_size)
        if refit:
            found = self._refitted(found)
        elif data is None and (said := said_seen(self, found.reach)):
            LOG.warning(said)
        assert source is not None
        return like(source, rolled(found, self.cell.name))

    def update(self, data: Any) -> Forecaster:
        """Take new observations of the series of the fit; ``predict`` goes on from them, the network stays as it is.

        The time it takes depends on the number of new values alone.

        Args:
            data: as for ``fit``; every time must be after the end of its series. Steps left out are missing values.

        Raises:
            InputError: for an unknown series, or a time that is not after its end; then nothing is taken.
        """
        self.fitted()
        growing = self.growing or Growing(self.series)
        self.series, self.growing = growing.grown(self.series, table_of(self, data)), growing
        return self

    def positions(self, data: Any = None) -> tuple[list[str], Values | None]:
        """The times and values of the window from which the first series is continued; of segments their last."""
        series, width = self.chosen_series(data)[0], self.strategy.segment
        end = len(series.values)
        context = self.strategy.reads(end)
        first = max(0, end - context)
        before = context - (end - first)  # steps of padding in front of a short series
        labels = [""] * before + [str(time).removesuffix("T00:00:00") for time in series.times(first, end)]
        values = np.concatenate([np.full(before, np.nan), series.values[first:]])
        return labels[width - 1 :: width], values[width - 1 :: width]

    def sample_pass(self) -> Callable[[], object] | None:
        """The forecast of the first series, where the strategy never calls its network as a whole."""
        if not isinstance(self.strategy, Recursive):
            return None
        first = self.series[:1]
        return lambda: self.forecast(first)

    def measurable(self) -> bool:
        """Whether MASE has a unit: some series changes from season to season."""
        units = [naive_error(s.values[: -self.horizon], self.season) for s in self.series]
        return any(not np.isnan(unit) for unit in units)

    # Beyond the protocol

    def held_out_of(self, series: Series, among: Sequence[Series] = ()) -> HeldOut:
        """Forecasts of the last horizon of a series by the model, with its intervals, and by the naive forecasts.

        Args:
            among: series in which it is, and the other targets that are read with it.
        """
        together = [one for one in among if one.unique_id == series.unique_id and one is not series]
        found = self._from([series, *together], np.zeros(1, np.int64), np.array([len(series.values) - self.horizon]))
        ends = dict(zip(names(self.options.levels, self.cell.name), found.values[0].T, strict=True))
        naive = {name: values[0] for name, values in found.naive(self.season).items()}
        return HeldOut(series, series.times(int(found.origins[0])), found.truth()[0], {**ends, **naive})

    def continue_series(self, series: Series, end: int) -> Values:
        """Forecast the horizon that follows the first ``end`` values of a series."""
        return np.asarray(self._from([series], np.zeros(1, np.int64), np.array([end])).values[0, :, 0])

    def chosen_series(self, data: Any = None, needed: int = 2) -> list[Series]:
        """The series of the fit, or of other data of the same frequency, each at least ``needed`` values long."""
        self.fitted()
        if data is None:
            return self.series
        return series_of(self, table_of(self, data), needed)

    def _from(self, series: list[Series], which: Any, origins: Any) -> Forecasts:
        """Forecasts of series from origins."""
        values = self.strategy.forecasts(self.fitted(), series, which, origins)
        return Forecasts(series, which, origins, values, self.options.levels)

    def _rolling(self, chosen: list[Series], n_windows: int, step_size: int | None) -> Forecasts:
        """Forecasts from origins that are ``step_size`` apart, up to the one that leaves one horizon."""
        return self._from(chosen, *rolling(chosen, self.horizon, n_windows, step_size))

    def _refitted(self, found: Forecasts) -> Forecasts:
        """The same forecasts, each by a network that was trained on the values before its origin."""
        values = found.values.copy()
        for rows, table in up_to_origins(found, self.label):
            one = self._like(self.asked, test_size=None)
            one.silent = True
            one.fit(table)
            values[rows] = one._rolling(one.series, 1, None).values
        return replace(found, values=values)
