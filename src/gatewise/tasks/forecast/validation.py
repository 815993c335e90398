"""The validation parts of series: from which origins they are forecast, and how good that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gatewise.tasks.forecast.metrics import nanmean, square_unit_of, unit_of
from gatewise.tasks.forecast.panel import Panel, Places, places
from gatewise.tasks.forecast.scaling import scale
from gatewise.tasks.forecast.table import Values


class Validation:
    """Origins between the training parts and the end of series, each of which leaves a whole horizon.

    Args:
        panel: with a window of values for the naive forecast. ends: of the training parts. most: origins at most; with
            more series than these, every k-th series has them. targets: of each series, that many beside each other.
        squared: measure by squared errors (RMSSE) instead of absolute ones (MASE).
    """

    def __init__(
        self, panel: Panel, ends: Sequence[int], season: int, most: int, targets: int = 1, squared: bool = False
    ) -> None:
        self.panel, self.season, self.ends = panel, season, np.array(ends)
        self.metric, self.power, unit = ("RMSSE", 2, square_unit_of) if squared else ("MASE", 1, unit_of)
        self.units = np.array([unit(panel.series(i)[:end], season) for i, end in enumerate(ends)])
        last, first = (panel.lengths - panel.horizon)[::targets], self.ends[::targets]
        self.horizons = float((panel.lengths - self.ends).sum() / panel.horizon)
        chosen = np.flatnonzero(last >= first)
        chosen = chosen[:: -(-len(chosen) // most)]
        each = max(1, most // max(1, len(chosen)))
        every = [-(-(last[i] - first[i] + 1) // each) for i in chosen]
        origins = [np.arange(last[i], first[i] - 1, -step) for i, step in zip(chosen, every, strict=True)]
        self.which: Places = places(np.repeat(chosen, [len(found) for found in origins]), targets)
        self.at: Places = np.repeat(np.concatenate(origins), targets)
        self.truth = panel.futures(self.which, self.at)
        lag = season if season < panel.window else 1
        self.naive = self.error(scale(panel.windows(self.which, self.at), panel.horizon, [lag]).base)

    def error(self, forecast: Values) -> float:
        """The mean over series of the error of forecasts (n, horizon), in units of each series."""
        each = nanmean((np.abs(self.truth - forecast) / self.units[self.which][:, None]).T ** self.power)
        by_series = np.array([nanmean(each[self.which == i]) for i in np.unique(self.which)])
        return float(nanmean(by_series ** (1 / self.power)))

    def note(self, value: float) -> str:
        """What is said where the naive forecast is better."""
        return f"seasonal naive {self.naive:.4g} is better" if self.naive < value else ""
