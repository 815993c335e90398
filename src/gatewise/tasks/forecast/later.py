"""New data of a fitted forecaster, read as those of its fit were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.ahead import check_ahead, with_future
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.grid import Series, regular
from gatewise.tasks.forecast.groups import aligned
from gatewise.tasks.forecast.notes import LOG, log
from gatewise.tasks.forecast.table import Table, Unusable, check_zone, none_left, read, read_ahead


def table_of(task: Any, data: Any) -> Table:
    """Data as a table; a table as it is.

    Raises:
        InputError: for what cannot be read, and for a time zone that the fit does not have.
    """
    if isinstance(data, Table):
        return data
    table = read(data, _reading(task))
    _check(task, table)
    _say_unknown(task, table)
    return table


def series_of(task: Any, table: Table, needed: int) -> list[Series]:
    """The series of a table on the grid of the fit, each at least ``needed`` values long; the others are ``unusable``.

    Raises:
        InputError: where none is long enough.
    """
    grid = regular(table, task.series[0].frequency)
    if table.targets:
        grid = replace(grid, series=aligned(grid.series, task.options.channels == "mixed"))
    short = [one for one in grid.series if len(one.values) < needed]
    reasons = [Unusable(s.name, f"has {len(s.values)} values, expected at least {needed}") for s in short]
    task.unusable = [*grid.unusable, *reasons]
    if len(short) == len(grid.series):
        raise none_left(reasons)
    log(table.ignored, task.unusable)
    return [one for one in grid.series if len(one.values) >= needed]


def ends_of(task: Any, chosen: list[Series], future: Any) -> tuple[list[Series], Any, Any]:
    """Series with what is known of their future, which of them are forecast (all), and from where.

    Raises:
        InputError: where a covariate is missing within the horizon, and for times beyond the calendar.
    """
    if future is not None:
        chosen = future_of(task, chosen, future)
    check_ahead(chosen, task.scheme, task.horizon)
    for series in chosen:
        end = len(series.values)
        series.times(end, end + task.horizon)  # refuses times beyond the calendar
    return chosen, np.arange(len(chosen)), np.array([len(one.values) for one in chosen])


def future_of(task: Any, chosen: list[Series], future: Any) -> list[Series]:
    """Series with covariates of the horizon from a table of their own.

    Raises:
        InputError: as ``table_of``, and for rows that do not go with the series.
    """
    if not task.scheme.ahead:
        raise InputError(
            "future: the model knows no covariates ahead, expected none; fit again with future_cols, such as "
            "--future-cols promo"
        )
    table = read_ahead(future, _reading(task), lambda table: _check(task, table))
    _say_unknown(task, table)
    names = {one.name for one in chosen}
    foreign = [name for name in table.series if name and name not in names]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        LOG.warning(
            f"future: not read: the rows of series {foreign[0]!r}{more}, of which there are no values to go on from"
        )
    return with_future(chosen, table, task.horizon)


def _reading(task: Any) -> Reading:
    frequency = task.series[0].frequency
    reading = Reading.of(task.options, numbered=frequency.units > 0)
    return task.scheme.reading(replace(reading, local=frequency.daily))  # type: ignore[no-any-return]


def _check(task: Any, table: Table) -> None:
    """Days may name a zone or none: they are those of the clocks."""
    if not task.series[0].frequency.daily:
        check_zone(table, task.table)


def _say_unknown(task: Any, table: Table) -> None:
    for sentence in task.scheme.unknown(table.columns):
        LOG.warning(sentence)
