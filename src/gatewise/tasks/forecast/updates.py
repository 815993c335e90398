"""New observations at the end of series, without copying what was there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.grid import MOST_GAPS, Series
from gatewise.tasks.forecast.table import Table, Values


class Growing:
    """Room behind series: values lie in arrays of twice the length, so that a new one is written and nothing moved."""

    def __init__(self, series: list[Series]) -> None:
        self.room: dict[str, Values] = {one.name: one.values for one in series}
        self.places = {one.name: i for i, one in enumerate(series)}

    def grown(self, series: list[Series], table: Table) -> list[Series]:
        """The series with the rows of a table at their ends.

        Raises:
            InputError: for an unknown series, or a time that is not behind its end.
        """
        found = [(name, self._steps(series, name, times), values) for name, (times, values) in table.series.items()]
        longer = list(series)
        for name, steps, values in found:
            one = series[self.places[name]]
            longer[self.places[name]] = replace(one, values=self._written(name, len(one.values), steps, values))
        return longer

    def _steps(self, series: list[Series], name: str, times: np.ndarray) -> np.ndarray:
        """Places of times on the grid of a series."""
        if name not in self.places:
            raise InputError(f"data: there is no series {name!r} in the model, expected new rows of those it has")
        one = series[self.places[name]]
        count, wrong = len(one.values), one.frequency.off_grid(times)
        if wrong is not None:
            raise InputError(f"data: series {name!r} {wrong}")
        steps = one.frequency.positions(np.concatenate([[one.start], times]))[1:]
        if steps[0] < count:
            end = one.times(count - 1, count)[0]
            raise InputError(f"data: the time {times[0]} of series {name!r} is not behind its end, which is {end}")
        if (np.diff(steps) == 0).any() or steps[-1] > count + MOST_GAPS * len(steps):
            raise InputError(
                f"data: the new times of series {name!r} must lie on different steps of its grid, one a "
                f"{one.frequency.name}, with a value in {MOST_GAPS} steps at least; the last is {times[-1]}"
            )
        return steps

    def _written(self, name: str, count: int, steps: np.ndarray, values: Values) -> Values:
        """The values with new ones written behind them; the array is renewed when it is full."""
        length = int(steps[-1]) + 1
        if length > len(self.room[name]):
            room = np.full(2 * length, np.nan)
            room[:count] = self.room[name][:count]
            self.room[name] = room
        self.room[name][count:length] = np.nan
        self.room[name][steps] = values
        return self.room[name][:length]

    @staticmethod
    def table(series: list[Series], label: str) -> Table:
        """The series as they are now."""
        return Table({one.name: (one.times(), one.values) for one in series}, label)
