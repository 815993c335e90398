"""What the network sees and must say: causally scaled features of a series, and batches of windows with their targets.

Everything at a step derives from that step and earlier ones, so that no window sees its future.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.tasks.forecast.metrics import carried
from gatewise.tasks.forecast.table import Values

FEATURES = 4


@dataclass(frozen=True)
class Scaled:
    """A series of n steps as the network sees it, with ``context`` steps of padding before its start.

    features: (context + n, FEATURES); level, scale: (context + n,), a forecast is ``level + scale · output``;
    known: whether the scale means something yet; values: the observations, NaN where missing.
    """

    features: NDArray[np.float32]
    level: Values
    scale: Values
    known: NDArray[np.bool_]
    values: Values


def scaled(values: Values, context: int, season: int) -> Scaled:
    """Scale a series by its last observation and its spread over the last ``context`` steps.

    Features: is the value observed; and in units of the spread: distance from the recent mean, change since the last
    step, change since last season. Missing values count as the last observation.
    """
    level = carried(values)
    mean, spread = _moving(level, context)
    steps = np.abs(np.diff(level, prepend=level[0]))
    floor = np.cumsum(steps) / np.maximum(1, np.arange(len(level)))  # mean change so far: a quiet stretch is not zero
    scale = np.maximum(spread, floor)
    known = scale > 1e-12 * np.maximum(1, np.abs(level))
    scale = np.where(known, scale, 1.0)
    seasonal = np.zeros_like(level)
    seasonal[season:] = level[season:] - level[:-season]
    change = np.diff(level, prepend=level[0])
    features = np.stack([~np.isnan(values), (level - mean) / scale, change / scale, seasonal / scale], -1)

    def padded(array: NDArray[Any], fill: float) -> NDArray[Any]:
        return np.concatenate([np.full((context, *array.shape[1:]), fill, array.dtype), array])

    return Scaled(
        features=padded(features.astype(np.float32), 0.0),
        level=padded(level, level[0]),
        scale=padded(scale, 1.0),
        known=padded(known, False),
        values=padded(values, np.nan),
    )


def _moving(level: Values, width: int) -> tuple[Values, Values]:
    """Mean and standard deviation of the last ``width`` values, of all so far where there are fewer."""
    centred = level - level[0]
    first = np.maximum(0, np.arange(1, len(level) + 1) - width)
    count = np.arange(1, len(level) + 1) - first

    def window_sum(values: Values) -> Values:
        total = np.concatenate([[0.0], np.cumsum(values)])
        return np.asarray(total[1:] - total[first])

    mean = window_sum(centred) / count
    variance = window_sum(centred**2) / count - mean**2
    return mean + level[0], np.sqrt(np.maximum(variance, 0))


@dataclass(frozen=True)
class Batch:
    """Windows (B, context, FEATURES), targets in units of the scale (B, context, horizon), and which of them count."""

    inputs: Tensor
    targets: Tensor
    counts: Tensor


class TrainingWindows:
    """Random windows over the training parts of all series.

    Args:
        series: scaled series. ends: for each, the number of its steps that training may see, targets included.
        context: steps in a window; the first half only warms the state up. horizon: steps to forecast.
    """

    def __init__(self, series: list[Scaled], ends: list[int], context: int, horizon: int) -> None:
        self.series, self.context, self.horizon = series, context, horizon
        self.limits = [context + end for end in ends]
        lows = [min(context, end // 2) for end in ends]
        pairs = [
            np.stack([np.full(end - low, i), np.arange(low, end)], -1)
            for i, (low, end) in enumerate(zip(lows, ends, strict=True))
        ]
        self.windows = np.concatenate(pairs)  # (which series, step after the window's last, without padding)

    def batch(self, size: int, generator: np.random.Generator) -> Batch:
        """A batch of windows drawn at random."""
        chosen = self.windows[generator.integers(len(self.windows), size=size)]
        parts = [self._window(self.series[i], int(end), self.limits[i]) for i, end in chosen]
        inputs, targets = (np.stack(arrays) for arrays in zip(*parts, strict=True))
        counts = ~np.isnan(targets)
        return Batch(
            torch.from_numpy(inputs),
            torch.from_numpy(np.where(counts, targets, 0).astype(np.float32)),
            torch.from_numpy(counts),
        )

    def _window(self, series: Scaled, end: int, limit: int) -> tuple[NDArray[np.float32], Values]:
        warm = self.context // 2
        steps = np.arange(end, end + self.context)  # with padding in front, these are the context steps before `end`
        ahead = steps[warm:, None] + np.arange(1, self.horizon + 1)
        future = np.where(ahead < limit, series.values[np.minimum(ahead, len(series.values) - 1)], np.nan)
        targets = (future - series.level[steps[warm:], None]) / series.scale[steps[warm:], None]
        targets[~series.known[steps[warm:]]] = np.nan
        return series.features[end : end + self.context], targets


def forecasts(module: torch.nn.Module, series: Scaled, ends: NDArray[np.int64], context: int) -> Values:
    """Forecasts (len(ends), horizon) in the units of the data, each from the ``context`` steps before an end."""
    inputs = torch.from_numpy(np.stack([series.features[end : end + context] for end in ends]))
    with torch.no_grad():
        output: Values = module(inputs)[:, -1].double().numpy()
    last = ends + context - 1
    return series.level[last, None] + series.scale[last, None] * output
