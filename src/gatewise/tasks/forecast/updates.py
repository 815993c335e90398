"""New observations at the end of series, without copying what was there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.covariates import recoded
from gatewise.tasks.forecast.grid import MOST_GAPS, Series
from gatewise.tasks.forecast.table import Table, Values


class Growing:
    """Room behind series: values lie in arrays of twice the length, so that a new one is written and nothing moved."""

    def __init__(self, series: list[Series]) -> None:
        self.room: dict[str, Values] = {one.name: one.values for one in series}
        self.extras = {one.name: one.extras for one in series if one.extras is not None}
        self.columns = series[0].columns
        self.places = {one.name: i for i, one in enumerate(series)}

    def grown(self, series: list[Series], table: Table) -> list[Series]:
        """The series with the rows of a table at their ends. With covariates that are known ahead, rows behind the last
        value of a series say what these will be.

        Raises:
            InputError: for an unknown series, or a time that is not after its end.
        """
        given = {name: own for name, own in table.series.items() if self._is_asked(name, own[1], table)}
        found = [(name, self._steps(series, name, times), values) for name, (times, values) in given.items()]
        longer, ahead = list(series), any(column.role == "future" for column in self.columns)
        more = Counter[str]()  # steps by unique_id: all targets of a series end at the same time
        for name, steps, values in found:
            one = series[self.places[name]]
            known = steps[~np.isnan(values)] if ahead else steps
            if len(known):
                more[one.unique_id] = max(more[one.unique_id], int(known[-1]) + 1 - len(one.values))
        for name, steps, values in found:
            one = series[self.places[name]]
            length = len(one.values) + more[one.unique_id]
            one = replace(one, values=self._written(name, len(one.values), length, steps, values))
            if one.extras is not None:
                one = self._beside(one, steps, table)
            longer[self.places[name]] = one
        return longer

    def _is_asked(self, name: str, values: Values, table: Table) -> bool:
        """Whether rows are of a series of the model; a target that has no values there may have none here."""
        return name in self.places or not table.targets or not np.isnan(values).all()

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
            raise InputError(f"data: the time {times[0]} of series {name!r} is not after its end, which is {end}")
        if (np.diff(steps) == 0).any() or steps[-1] > count + MOST_GAPS * len(steps):
            raise InputError(
                f"data: the new times of series {name!r} must lie on different steps of its grid, one a "
                f"{one.frequency.name}, with a value in {MOST_GAPS} steps at least; the last is {times[-1]}"
            )
        return steps

    def _written(self, name: str, count: int, length: int, steps: np.ndarray, values: Values) -> Values:
        """The values with new ones written behind them; the array is renewed when it is full."""
        self.room[name] = _roomy(self.room[name], count, length)
        self.room[name][count:length] = np.nan
        inside = steps < length
        self.room[name][steps[inside]] = values[inside]
        return self.room[name][:length]

    def _beside(self, one: Series, steps: np.ndarray, table: Table) -> Series:
        """The series with its new covariates. What is missing stays as it was known before."""
        values, columns = recoded(table.extras[one.name], table.columns, self.columns)
        self.columns = tuple(columns)
        assert one.extras is not None
        count = len(one.extras)
        length = max(count, int(steps[-1]) + 1, len(one.values))
        room = self.extras[one.name] = _roomy(self.extras[one.name], count, length)
        room[count:length] = np.nan
        room[steps] = np.where(np.isnan(values), room[steps], values)
        return replace(one, extras=room[:length], columns=self.columns)

    def table(self, series: list[Series], before: Table) -> Table:
        """The series as they are now, in the form of the table that they were read from."""
        found, beside = {}, {}
        for one in series:
            length = len(one.values) if one.extras is None else len(one.extras)
            values = np.append(one.values, np.full(length - len(one.values), np.nan))
            found[one.name] = one.times(0, length), values
            if one.extras is not None:
                beside[one.name] = one.extras
        return replace(before, series=found, columns=self.columns, extras=beside, whole=False)


def _roomy(room: Values, count: int, length: int) -> Values:
    """An array with place for so many rows, of which the first ``count`` are kept."""
    if length <= len(room):
        return room
    longer = np.full((2 * length, *room.shape[1:]), np.nan)
    longer[:count] = room[:count]
    return longer
