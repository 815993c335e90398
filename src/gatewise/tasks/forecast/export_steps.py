"""A forecaster of the strategy *steps* for other programs: one observation in, the forecast from there out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.tasks.forecast import windows
from gatewise.tasks.forecast.network import ForecastNetwork
from gatewise.tasks.forecast.strategies import Steps
from gatewise.tasks.forecast.windows import FEATURES
from gatewise.tasks.parts import Pair, Part, Port, Run

MOST_SERIES = 4
"""Series of the fit whose forecasts are compared."""
NOTHING = {"levels_0": np.nan, "features_0": 0.0, "total_0": 0.0, "count_0": 0.0}
"""The state before the first observation."""


class Step(nn.Module):
    """``windows.scaled`` of one more value and the network on the window that ends there. The state: the last levels,
    NaN before the first; the features of the window; the sum of all changes so far, and how many values there were."""

    def __init__(self, network: ForecastNetwork, window: int, season: int) -> None:
        super().__init__()
        self.network, self.window, self.season = network, window, season

    def forward(
        self, observation: Tensor, levels: Tensor, features: Tensor, total: Tensor, count: Tensor
    ) -> tuple[Tensor, ...]:
        before, known = levels[:, -1], ~observation.isnan()
        level = torch.where(known, observation, before)
        levels = torch.cat([levels[:, 1:], level[:, None]], 1)
        change = torch.where(count > 0, level - before, 0.0)
        total, count = total + change.abs(), count + 1
        mean, spread = self._moving(levels[:, -self.window :] - level[:, None])
        scale = torch.maximum(spread, total / (count - 1).clamp(min=1))
        scale = torch.where(scale > 1e-12 * level.abs().clamp(min=1), scale, 1.0)
        season = level - levels[:, -1 - self.season]
        seasonal = torch.where(season.isnan(), 0.0, season)
        row = torch.stack([known.to(scale.dtype), -mean / scale, change / scale, seasonal / scale], -1)
        features = torch.cat([features[:, 1:], row[:, None].float()], 1)
        said = self.network(features)[:, -1].double()
        return level[:, None] + scale[:, None] * said, levels, features, total, count

    def _moving(self, away: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the levels of a window, as distances from the last one."""
        there = ~away.isnan()
        away, count = torch.where(there, away, 0.0), there.sum(1)
        mean = away.sum(1) / count
        variance = (away**2).sum(1) / count - mean**2
        return mean, variance.clamp(min=0).sqrt()


def part(network: ForecastNetwork, strategy: Steps) -> Part:
    """The one function of such a forecaster."""
    width, kept = strategy.window, max(strategy.window, strategy.season + 1)
    shapes: dict[str, tuple[int | str, ...]] = {"levels": ("batch", kept), "features": ("batch", width, FEATURES)}
    shapes |= {"total": ("batch",), "count": ("batch",)}
    about = {"levels": "the last values, those before where one was missing; NaN before the first"}
    about["features"] = "what the network read last; zeros at the beginning"
    about["total"] = "sum of the sizes of all changes so far; zero at the beginning"
    about["count"] = "values so far; zero at the beginning"
    before = tuple(Port(f"{name}_0", shape, about[name]) for name, shape in shapes.items())
    behind = tuple(Port(f"{name}_n", shape, about[name]) for name, shape in shapes.items())
    step, generator = Step(network, width, strategy.season).eval(), torch.Generator().manual_seed(0)

    def example(rows: int, steps: int) -> tuple[Tensor, ...]:
        """The arguments behind a few values."""
        values = torch.randn(rows, steps, generator=generator, dtype=torch.float64).cumsum(1)
        state: Any = _nothing(before, rows)
        for k in range(steps - 1):
            with torch.no_grad():
                state = step(values[:, k], *state)[1:]
        return values[:, -1], *state

    return Part(
        "step",
        step,
        (Port("observation", ("batch",), "the next value, NaN where missing; the first must be known"), *before),
        (Port("forecast", ("batch", strategy.horizon), "the steps ahead"), *behind),
        (example(3, 5), example(1, 1), example(2, width + 3)),
        {new.name: old.name for new, old in zip(behind, before, strict=True)},
    )


def _nothing(before: tuple[Port, ...], rows: int) -> list[Tensor]:
    found = []
    for port in before:
        dtype = torch.float32 if port.name == "features_0" else torch.float64
        sizes = [rows if isinstance(size, str) else size for size in port.shape]
        found.append(torch.full(sizes, NOTHING[port.name], dtype=dtype))
    return found


def played(task: Any, strategy: Steps, one: Part, run: Run) -> Iterator[Pair]:
    """Forecasts from within the first series, in units of the network's output, value by value."""
    for series in task.series[:MOST_SERIES]:
        values = series.values[: 2 * strategy.window + 5]
        last = np.array([len(values)])
        expected = strategy.forecasts(task.fitted(), [series], np.zeros(1, np.int64), last)[:, :, 0]
        before = one.inputs[1:]
        state = {p.name: value.numpy() for p, value in zip(before, _nothing(before, 1), strict=True)}
        found: dict[str, Any] = {}
        for value in values:
            found = run(one.name, {"observation": np.array([value]), **state})
            state = {old: found[new] for new, old in one.state.items()}
        view = windows.scaled(values, strategy.window, strategy.season)
        level, scale = view.level[-1], view.scale[-1]
        yield "the forecast, value by value", (expected - level) / scale, (found["forecast"] - level) / scale
