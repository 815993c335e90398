"""What is known beside the values of series at each step: the calendar, static covariates, and those known ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.forecast.beside import Part, Stretch
from gatewise.tasks.forecast.cycles import Cycles, start_of
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.panel import Places
from gatewise.tasks.forecast.scheme import Scheme

ROLES = ("static", "future")
"""Of covariates that are known at every step of a path; those of the past are not."""


@dataclass(frozen=True)
class Plan:
    """What a network is told at a step: cycles of the calendar and covariates."""

    cycles: Cycles
    scheme: Scheme

    @property
    def part(self) -> Part:
        """The columns: waves, numbers and whether they are known, then codes of words."""
        numbers, words = (self.scheme.of(*ROLES, words=kind) for kind in (False, True))
        return Part(self.cycles.channels + 2 * len(numbers), tuple(len(f.words or ()) for f in words))


class Known:
    """What is known beside some series; 4 bytes for each number and grid point."""

    def __init__(self, plan: Plan, series: Sequence[Series], horizon: int) -> None:
        self.plan, self.starts = plan, np.array([start_of(one) for one in series])
        self.columns = [self._columns(one, horizon) for one in series] if plan.scheme.features else []

    def _columns(self, one: Series, horizon: int) -> NDArray[np.float32]:
        """The covariates of the grid points of a series and a horizon behind them, those of words last."""
        scheme, whole = self.plan.scheme, Stretch(one, 0, len(one.values))
        features = [f for kind in (False, True) for f in scheme.of(*ROLES, words=kind)]
        count = len(scheme.of(*ROLES, words=False))
        found = np.zeros((len(one.values) + horizon, len(features)), np.float32)
        found[:, :count] = np.nan
        for k, feature in enumerate(features):
            if feature.role == "static":
                found[:, k] = whole.static(feature)
            else:
                column = whole.column(feature, horizon)
                found[: len(column), k] = column
        return found

    def told(self, which: Places, first: Places, steps: int) -> NDArray[np.float64]:
        """What is known of series from some steps on: (n, steps, columns) as ``Plan.part`` says; 0 behind the end."""
        phases = self.plan.cycles.phases(self.starts[which], first[:, None] + np.arange(steps))
        if not self.columns:
            return phases
        found = np.zeros((len(which), steps, self.columns[0].shape[1]))
        count = len(self.plan.scheme.of(*ROLES, words=False))
        found[..., :count] = np.nan
        for row, (i, at) in enumerate(zip(which, first, strict=True)):
            part = self.columns[i][at : at + steps]
            found[row, : len(part)] = part
        numbers = found[..., :count]
        return np.concatenate([phases, np.nan_to_num(numbers), ~np.isnan(numbers), found[..., count:]], 2)
