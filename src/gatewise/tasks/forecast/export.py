"""A forecaster for other programs: observations and the values before them in, a forecast in units of the data out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.tasks.errors import InputError
from gatewise.tasks.exporting import Export
from gatewise.tasks.forecast import export_steps, scaling, scaling_torch
from gatewise.tasks.forecast.direct import DirectNetwork, Members
from gatewise.tasks.forecast.forecaster import Forecaster
from gatewise.tasks.forecast.intervals import names
from gatewise.tasks.forecast.mixed import Mixed
from gatewise.tasks.forecast.network import ForecastNetwork
from gatewise.tasks.forecast.strategies import Direct, Steps
from gatewise.tasks.parts import Pair, Part, Parts, Port, Run

MOST_SERIES = 16
"""Series of the fit whose forecasts are compared."""


class Forecast(nn.Module):
    """Scaling, networks, the way back and calibrated intervals; the window is the state."""

    def __init__(self, members: Members, strategy: Direct) -> None:
        super().__init__()
        self.members, self.window, self.how = members, strategy.window, strategy.ahead

    def forward(self, observations: Tensor, window: Tensor, series: Tensor) -> tuple[Tensor, Tensor]:
        history = torch.cat([window, observations], 1)[:, -self.window :]
        x, base, size = scaling_torch.scale(history, self.how.horizon, self.how.lags)
        said = base[..., None] + size[:, None, None] * self.members(x, series).double()
        return scaling_torch.stretched(said, self.members.widths.double()), history


@dataclass(frozen=True, kw_only=True)
class ExportForecast(Export):
    """Write the model in another format: observations and the values before them in, the forecast from there out, all
    in units of the data."""

    def parts(self, task: Forecaster) -> Parts:
        network, strategy = task.fitted(), task.strategy
        about = {
            "horizon": task.horizon,
            "season": task.season,
            "frequency": task.series[0].frequency.name,
            "label": task.label,
        }
        if isinstance(strategy, Steps) and isinstance(network, ForecastNetwork):
            step = export_steps.part(network, strategy)
            return Parts((step,), about, lambda run: export_steps.played(task, strategy, step, run))
        if not isinstance(strategy, Direct):
            raise InputError(
                "export: strategy 'recursive' draws sample paths, which no format here writes; fit 'direct'"
            )
        if isinstance(strategy, Mixed):
            raise InputError("export: channels 'mixed' are not written; fit 'independent'")
        if strategy.ahead.season is not None:
            raise InputError("export: scaling 'series' needs the whole series at every call; fit with 'window'")
        assert isinstance(network, Members)
        if any(isinstance(one, DirectNetwork) and one.beside is not None for one in network.members):
            raise InputError("export: forecasters with covariates or calendar are not written; fit one without")
        about |= {"columns": names(task.options.levels, "y"), "series": strategy.numbers}
        return Parts((_part(network, strategy),), about, lambda run: _played(task, strategy, run))


def _part(network: Members, strategy: Direct) -> Part:
    width, columns = strategy.window, names(strategy.ahead.levels, "y")
    observations = Port("observations", ("batch", "new"), "the values since the last call, NaN where missing")
    before = Port("window_0", ("batch", width), "the values before them; NaN at the beginning")
    series = Port("series", ("batch",), "number of the series as in export.json, 0 for another")
    said = Port("forecast", ("batch", strategy.horizon, len(columns)), f"the steps ahead: {', '.join(columns)}")
    behind = Port("window_n", ("batch", width), "the last values with those of this call")
    generator = torch.Generator().manual_seed(0)

    def example(new: int, rows: int) -> tuple[Tensor, ...]:
        values = torch.randn(rows, width + new, generator=generator, dtype=torch.float64).cumsum(1)
        values[-1, torch.rand(width + new, generator=generator) < 0.2] = torch.nan
        numbers = torch.randint(len(strategy.numbers) + 1, (rows,), generator=generator)
        return values[:, width:], values[:, :width], numbers

    return Part(
        "forecast",
        Forecast(network, strategy).eval(),
        (observations, before, series),
        (said, behind),
        tuple(example(*sizes) for sizes in ((4, 3), (1, 1), (width, 2))),
        {"window_n": "window_0"},
    )


def _played(task: Forecaster, strategy: Direct, run: Run) -> Iterator[Pair]:
    """The forecasts beyond the end of the series of the fit, in units of the network's output: from whole windows in
    one call, and with the last values in calls of their own."""
    chosen = task.series[:MOST_SERIES]
    which = np.arange(len(chosen))
    expected = strategy.forecasts(task.fitted(), chosen, which, np.array([len(one.values) for one in chosen]))
    windows = np.full((len(chosen), strategy.window), np.nan)
    for row, one in zip(windows, chosen, strict=True):
        last = one.values[-strategy.window :]
        row[strategy.window - len(last) :] = last
    view = scaling.scale(windows, strategy.horizon, strategy.ahead.lags)
    numbers = np.array([strategy.numbers.get(one.name, 0) for one in chosen], np.int64)
    nothing = np.full_like(windows, np.nan)
    for name, cuts in (("in one call", []), ("value by value", [-2, -1])):
        state, found = nothing, {}
        for part in np.split(windows, [strategy.window + cut for cut in cuts], 1):
            found = run("forecast", {"observations": part, "window_0": state, "series": numbers})
            state = found["window_n"]
        yield f"the forecasts, {name}", _scaled(view, expected), _scaled(view, found["forecast"])


def _scaled(view: Any, values: Any) -> Any:
    """Forecasts as they were before they were scaled back; of windows that do not move as they are."""
    moving = view.moving[:, None, None]
    return np.where(moving, (values - view.base[..., None]) / view.scale[:, None, None], values)
