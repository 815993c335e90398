"""Channels mixed: one network reads all targets of a series in its segments, and forecasts all of them together.

Each target is still scaled by its own window, and its own naive forecast is corrected. Inside it is a series of its own
as everywhere else; the targets of a series lie beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.groups import completed
from gatewise.tasks.forecast.intervals import stretched
from gatewise.tasks.forecast.options import ForecastOptions
from gatewise.tasks.forecast.panel import Places
from gatewise.tasks.forecast.scheme import Scheme
from gatewise.tasks.forecast.strategies import Direct
from gatewise.tasks.forecast.table import Values


class Mixed(Direct):
    """The strategy *direct* for several targets together.

    Args:
        names: of the targets, in the order in which the network reads them.
    """

    def __init__(
        self,
        series: Sequence[Series],
        horizon: int,
        season: int,
        options: ForecastOptions,
        scheme: Scheme | None,
        names: Sequence[str],
    ) -> None:
        self.names, self.targets = names, len(names)
        super().__init__(completed(series, names)[0], horizon, season, options, scheme)

    def known_as(self, one: Series) -> str:
        return one.unique_id

    def forecasts(self, module: Any, series: Sequence[Series], which: Places, origins: Places) -> Values:
        whole, places = completed(series, self.names)
        number, target = places[which] // self.targets, places[which] % self.targets
        once, row = np.unique(np.stack([number, origins], 1), axis=0, return_inverse=True)
        said = self._said(module, whole, once[:, 0], once[:, 1])
        said = said.reshape(-1, self.targets, *said.shape[1:])
        factors = module.widths.double().tolist()
        wide = np.stack([stretched(said[:, k], factors[k]) for k in range(self.targets)], 1)
        return np.asarray(wide[row.reshape(-1), target])
