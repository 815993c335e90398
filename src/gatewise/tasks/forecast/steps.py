"""The strategy *steps*: how the network that forecasts at every step of a window is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields

import numpy as np
from torch import Tensor, nn

from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.metrics import mase, nanmean, unit_of
from gatewise.tasks.forecast.windows import Batch, TrainingWindows, forecasts, scaled
from gatewise.tasks.objective import Objective, own_rows

BATCH_SIZE = 32
MOST_ORIGINS = 256


class StepsObjective(Objective):
    """The loss and the validation of the strategy *steps*: mean absolute scaled error at every step of a window.

    In time: training | validation, of at least two horizons where that leaves half the data | held out, one horizon.
    """

    metric = "MASE"
    unit = "windows"

    def __init__(self, module: nn.Module, series: list[Series], horizon: int, season: int, context: int) -> None:
        self.module, self.horizon, self.context = module, horizon, context
        self.values = [s.values[: len(s.values) - horizon] for s in series]  # the held-out end is gone from here on
        lengths = [min(2 * horizon, max(horizon, len(v) // 4)) for v in self.values]
        self.splits = [len(v) - n for v, n in zip(self.values, lengths, strict=True)]
        self.scaled = [scaled(v, context, season) for v in self.values]
        self.units = [unit_of(v[:end], season) for v, end in zip(self.values, self.splits, strict=True)]
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
        return float(nanmean(np.array(found)))
