"""The strategy *recursive*: its network learns the likelihood of every next value, given those that came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatewise.tasks.forecast.intervals import calibrated, quantiles
from gatewise.tasks.forecast.panel import Origins, Panel, Places
from gatewise.tasks.forecast.paths import Drawing, Past, drawn, fill, shares
from gatewise.tasks.forecast.reader import Flags
from gatewise.tasks.forecast.recurrence import RecursiveMembers
from gatewise.tasks.forecast.table import Values
from gatewise.tasks.forecast.validation import Validation
from gatewise.tasks.objective import Objective, own_rows

STEPS_DRAWN = 1 << 16
"""Steps of paths in a validation."""
PATHS, CALIBRATED_PATHS = 32, 100
"""Paths from an origin of a validation; with intervals to be calibrated."""
TOGETHER = 25
"""Steps whose windows are drawn together: an epoch's. Where values are missing they are filled by forecasts of the
network as it was before these steps."""
AT_ONCE = 1024
"""Windows that are filled at once."""
DOUBTED = 2
"""Of n horizons in all validation parts together, intervals become narrower by n / (n + this) of what they ask for: by
the same values the best epoch is chosen, and values of one horizon are much alike."""
MOST_ORIGINS, FEWEST_ORIGINS = 1024, 16


@dataclass(frozen=True)
class Batch:
    """What is read (B, members, T, channels), numbers of series (B, members), targets with their scales and whether
    they count (B, members, T)."""

    inputs: Tensor
    series: Tensor
    targets: Tensor
    scales: Tensor
    counts: Tensor


class LikelihoodObjective(Objective):
    """Negative log-likelihood of every value of random windows of the training parts, in units of the running scale
    (teacher forcing); MASE of sampled medians, and calibration of intervals, on the validation parts.

    Args:
        past: the values that may be seen at all. ends: of the training parts. levels: of intervals; those of counts,
            which jump from one whole number to the next, are not calibrated.
    """

    metric = "MASE"
    unit = "windows"

    def __init__(
        self,
        module: RecursiveMembers,
        past: Past,
        ends: Sequence[int],
        how: Drawing,
        season: int,
        batch_size: int,
        levels: Sequence[float],
    ) -> None:
        self.module: RecursiveMembers = module
        self.past, self.ends, self.how, self.batch_size, self.levels = past, np.array(ends), how, batch_size, levels
        self.steps = min(2 * past.context, max(ends))
        reader, horizon = how.reader, how.horizon
        self.panel = Panel(past.values, reader.lookback, max(self.steps, horizon))
        least = [min(past.context, end // 2) for end in ends]
        self.origins = Origins([0] * len(least), [end - n for end, n in zip(ends, least, strict=True)])
        paths = CALIBRATED_PATHS if levels and not how.distribution.counts else PATHS
        most = int(np.clip(STEPS_DRAWN // (paths * horizon), FEWEST_ORIGINS, MOST_ORIGINS))
        self.trial = Drawing(reader, how.distribution, shares(paths, horizon, 0))
        self.validation = Validation(Panel(past.values, max(season, reader.lookback), horizon), ends, season, most)

    def batches(self, generator: np.random.Generator) -> Iterator[Batch]:
        """The windows of many steps are drawn at once: then one walk over all of them fills their gaps."""
        while True:
            drawn = generator.integers(len(self.origins), size=(len(self.module.members), TOGETHER * self.batch_size))
            parts = [self._windows(k, *self.origins.at(numbers)) for k, numbers in enumerate(drawn)]
            for low in range(0, drawn.shape[1], self.batch_size):
                rows = slice(low, low + self.batch_size)
                each = [self._read(*(part[rows] for part in windows)) for windows in parts]  # type: ignore[arg-type]
                yield Batch(*(torch.stack(tensors, 1) for tensors in zip(*each, strict=True)))

    def _windows(self, member: int, which: Places, first: Places) -> tuple[Places, Places, Values, Flags]:
        """Values of the training parts around some steps, with a member's own forecasts where they are missing, and
        which of them were observed."""
        before, steps, net = self.how.reader.lookback, self.steps, self.module.members[member]
        values = np.concatenate([self.panel.windows(which, first), self.panel.futures(which, first)[:, :steps]], 1)
        ends = np.minimum(steps, self.ends[which] - first)
        values[np.arange(-before, steps) >= ends[:, None]] = np.nan
        observed, training = ~np.isnan(values), net.training
        net.eval()
        for low in range(0, len(which), AT_ONCE):
            rows = slice(low, low + AT_ONCE)
            told = self.past.known.told(which[rows], first[rows], steps)
            fill(net, self.how, values[rows], told, self.past.numbers[which[rows]], ends[rows])
        net.train(training)
        return which, first, values, observed

    def _read(self, which: Places, first: Places, values: Values, observed: Flags) -> tuple[Tensor, ...]:
        """A member's part of a batch."""
        reader = self.how.reader
        x, units = reader.read(values, observed, self.past.known.told(which, first, self.steps))
        late = first[:, None] + np.arange(self.steps) >= self._trusted(which)[:, None]
        came, counts = values[:, reader.lookback :], observed[:, reader.lookback :] & units.moving & late
        targets = np.where(counts, self.how.distribution.target(came, units.level, units.scale), 0.0)
        numbers = torch.from_numpy(self.past.numbers[which])
        tensors = [torch.from_numpy(part.astype(np.float32)) for part in (x, targets, units.scale)]
        return tensors[0], numbers, *tensors[1:], torch.from_numpy(counts)

    def _trusted(self, which: Places) -> Places:
        """From which step of a series on level and scale are means of enough values."""
        return np.asarray(np.maximum(2, np.minimum(self.how.reader.width, self.ends[which] // 4)))

    def loss(self, forward: Callable[..., Tensor], batch: Batch) -> Tensor:
        each = self.how.distribution.loss(forward(batch.inputs, batch.series), batch.targets, batch.scales)
        total: Tensor = (each * batch.counts).sum() / batch.counts.sum().clamp(min=1)
        return total

    def size(self, batch: Batch) -> int:
        return batch.series.numel()

    def share(self, batch: Batch, rank: int, world: int) -> Batch:
        rows = own_rows(len(batch.series), rank, world)
        return Batch(*(part[rows] for part in vars(batch).values()))

    def validate(self) -> float:
        """MASE of the medians; the intervals are calibrated by the same paths."""
        found = drawn(self.module, self.past, self.trial, self.validation.which, self.validation.at)
        said = np.moveaxis(np.quantile(found, quantiles(self.levels), axis=1), 0, 2)
        if self.levels and not self.how.distribution.counts:
            factors = calibrated(self.validation.truth, said, self.levels, self.validation.horizons)
            trust = self.validation.horizons / (self.validation.horizons + DOUBTED)
            factors = [factor if factor > 1 else factor**trust for factor in factors]
            self.module.widths.copy_(torch.tensor(factors).to(self.module.widths))
        value = self.validation.error(said[..., 0])
        self.note = self.validation.note(value)
        return value
