"""The strategy *direct*: how its networks are trained, validated and calibrated, and how they forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.tasks.forecast.beside import Covariates
from gatewise.tasks.forecast.direct import Members
from gatewise.tasks.forecast.inputs import Told
from gatewise.tasks.forecast.intervals import calibrated, ordered, pinball, quantiles
from gatewise.tasks.forecast.panel import Origins, Panel, Places, apart, merged, places
from gatewise.tasks.forecast.scaling import Scaled, scale
from gatewise.tasks.forecast.table import Values
from gatewise.tasks.forecast.validation import Validation
from gatewise.tasks.objective import Objective, mapped, own_rows

MOST_ORIGINS = 2048
"""Forecasts of a validation; with more series than these, of every k-th series."""
AT_ONCE = 1024
"""Windows in a forward."""
HEAVIEST = 10.0
"""How much more than another window one may count, by how widely it moves; by absolute errors also how much less."""


@dataclass(frozen=True)
class Ahead:
    """How windows are read: how far ahead they are forecast, which naive forecasts are corrected, which levels, how
    many targets of a series a network reads together, and by which season the unit of a whole series is found; None for
    units of the windows."""

    horizon: int
    lags: Sequence[int]
    levels: Sequence[float]
    segment: int = 1
    targets: int = 1
    season: int | None = None

    def scaled(self, panel: Panel, which: Places, origins: Places) -> Scaled:
        units = None if self.season is None else panel.units(which, origins, self.season)
        return scale(panel.windows(which, origins), self.horizon, self.lags, units)


def forecasts(
    module: Members,
    panel: Panel,
    how: Ahead,
    which: Places,
    origins: Places,
    numbers: Places,
    covariates: Covariates | None = None,
) -> Values:
    """Quantiles (n · targets, horizon, outputs) from origins, not yet stretched, in units of the data.

    Args:
        which: series of the panel, in which their targets lie beside each other. numbers: by which the network knows
            them. covariates: of the panel, if any.
    """
    found, device = [], module.widths.device
    with torch.no_grad():
        for start in range(0, len(which), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            at = places(which[part], how.targets), np.repeat(origins[part], how.targets)
            view = how.scaled(panel, *at)
            told = None if covariates is None else covariates.of(which[part], origins[part], view)
            x = torch.from_numpy(merged(view.x, how.targets)).to(device)
            inputs = x, torch.from_numpy(numbers[part]).to(device)
            output = module(*inputs, None if told is None else Told(*(torch.from_numpy(t).to(device) for t in told)))
            found.append(view.restored(apart(output.double().cpu().numpy(), how.targets)))
    return ordered(np.concatenate(found))


@dataclass(frozen=True)
class Batch:
    """Windows (B, members, W, channels), numbers of series (B, members), targets and their weights (B, members,
    horizon, targets), and covariates (B, members, …)."""

    inputs: Tensor
    series: Tensor
    targets: Tensor
    weights: Tensor
    told: Told | None = None


class DirectObjective(Objective):
    """Quantile loss on random windows of the training parts; the error and calibration on the validation parts.

    In time: training | validation | held out. The loss is in units of the usual error of a naive forecast within a
    window, weighted by how that compares to the series: so it is in units of MASE, or
    with ``mean`` of RMSSE.

    Args:
        series: the values that may be seen at all, targets beside each other. ends: of the training parts.
        numbers: whether series have one.
        covariates: gives those of a panel, if there are any.
        mean: forecast the mean, by the squared error, and validate by RMSSE.
    """

    unit = "windows"

    def __init__(
        self,
        module: Members,
        series: Sequence[Values],
        ends: Sequence[int],
        how: Ahead,
        window: int,
        season: int,
        batch_size: int,
        numbers: bool,
        covariates: Callable[[Panel], Covariates] | None = None,
        mean: bool = False,
    ) -> None:
        self.module: Members = module
        self.how, self.batch_size, self.numbered, self.mean = how, batch_size, numbers, mean
        self.panel = Panel(series, window, how.horizon)
        self.covariates = None if covariates is None else covariates(self.panel)
        self.ends = np.array(ends)
        own = ends[:: how.targets]
        self.origins = Origins([min(window, end // 2) for end in own], own)
        self.shares = torch.tensor(quantiles(how.levels))
        self.validation = Validation(self.panel, ends, season, MOST_ORIGINS, how.targets, squared=mean)
        self.metric = self.validation.metric
        self.units, self.at = self.validation.units, self.validation.at[:: how.targets]
        self.which = self.validation.which[:: how.targets] // how.targets

    def numbers(self, which: Places) -> Places:
        """By which the network knows series: from 1 on; 0 where it knows none."""
        return which + 1 if self.numbered else np.zeros_like(which)

    def batches(self, generator: np.random.Generator) -> Iterator[Batch]:
        members = len(self.module.members)
        while True:
            drawn = generator.integers(len(self.origins), size=self.batch_size * members)
            yield self._batch(*self.origins.at(drawn), members)

    def _batch(self, which: Places, origins: Places, members: int) -> Batch:
        count = self.how.targets
        place, at = places(which, count), np.repeat(origins, count)
        view = self.how.scaled(self.panel, place, at)
        seen = at[:, None] + np.arange(self.how.horizon) < self.ends[place][:, None]
        targets = view.targets(np.where(seen, self.panel.futures(place, at), np.nan))
        least = 0.0 if self.mean else 1 / HEAVIEST  # squared, a calm window that counts too much outweighs all others
        heavy = np.clip(view.scale / self.units[place], least, HEAVIEST)[:, None]
        weights = np.where(np.isnan(targets), 0.0, heavy)

        def part(values: NDArray[Any]) -> Tensor:
            found: Tensor = torch.from_numpy(values.astype(np.float32)).unflatten(0, (-1, members))
            return found

        numbers = torch.from_numpy(self.numbers(which)).unflatten(0, (-1, members))
        told = None if self.covariates is None else Told(*map(part, self.covariates.of(which, origins, view)))
        targets, weights = (merged(each[..., None], count) for each in (np.nan_to_num(targets), weights))
        return Batch(part(merged(view.x, count)), numbers, part(targets), part(weights), told)

    def loss(self, forward: Callable[..., Tensor], batch: Batch) -> Tensor:
        said = forward(batch.inputs, batch.series, *([] if batch.told is None else [batch.told]))
        said = said.unflatten(-1, (self.how.targets, -1))
        each = pinball(said, batch.targets, self.shares.to(said.device))
        if self.mean:
            squared = (said[..., 0] - batch.targets) ** 2 * batch.weights  # and once more below
            each = torch.cat([squared.unsqueeze(-1), each[..., 1:]], -1)
        total: Tensor = (each.mean(-1) * batch.weights).sum() / (batch.weights > 0).sum().clamp(min=1)
        return total

    def size(self, batch: Batch) -> int:
        return batch.targets.shape[0] * batch.targets.shape[1]

    def share(self, batch: Batch, rank: int, world: int) -> Batch:
        rows = own_rows(len(batch.inputs), rank, world)
        return mapped(lambda tensor: tensor[rows], batch)  # type: ignore[no-any-return]

    def validate(self) -> float:
        """The error of the point forecasts; the intervals are calibrated by the same forecasts."""
        at = self.which, self.at, self.numbers(self.which)
        said = forecasts(self.module, self.panel, self.how, *at, self.covariates)
        count = self.how.targets
        pairs = [(self.validation.truth[k::count], said[k::count]) for k in range(count)]
        factors = torch.tensor([calibrated(*pair, self.how.levels, self.validation.horizons / count) for pair in pairs])
        self.module.widths.copy_(factors.view_as(self.module.widths).to(self.module.widths))
        value = self.validation.error(said[..., 0])
        self.note = self.validation.note(value)
        return value
