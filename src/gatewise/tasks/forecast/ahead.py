"""Covariates of the horizon: taken from a table of their own, and looked for before a forecast is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.covariates import recoded
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.scheme import Scheme
from gatewise.tasks.forecast.table import Table, time_text


def with_future(series: Sequence[Series], table: Table, horizon: int) -> list[Series]:
    """Series with the rows of a table that lie within the horizon; other rows of it say nothing.

    Raises:
        InputError: for a series without rows, or rows that do not lie on its grid.
    """
    return [_with_future(one, _rows_of(one, series, table), table, horizon) for one in series]


def _rows_of(one: Series, series: Sequence[Series], table: Table) -> str:
    """The name that a series has in a table; a single one may have none."""
    if one.unique_id in table.series:
        return one.unique_id
    if len({other.unique_id for other in series}) == 1 and list(table.series) == [""]:
        return ""
    raise InputError(f"future: {_named(one)} has no rows in it, expected one for each step of the horizon")


def _with_future(one: Series, name: str, table: Table, horizon: int) -> Series:
    times, count = table.series[name][0], len(one.values)
    same_kind = times.dtype.kind == np.asarray(one.start).dtype.kind
    together = np.concatenate([[one.start], times]) if same_kind else times
    wrong = one.frequency.off_grid(together)
    if wrong is not None:
        raise InputError(f"future: {_named(one)} {wrong}")
    steps = one.frequency.positions(together)[1:]
    extras, columns = one.extras, list(one.columns)
    assert extras is not None
    given = [column for column in one.columns if column.role == "future"]
    values, longer = recoded(table.extras[name], table.columns, given)
    within = (steps >= count) & (steps < count + horizon)
    laid = np.full((count + horizon, len(columns)), np.nan)
    laid[:count] = extras[:count]
    for value, column in zip(values.T, longer, strict=True):
        k = next(i for i, other in enumerate(columns) if other.name == column.name)
        laid[steps[within], k], columns[k] = value[within], column
    return replace(one, extras=laid, columns=tuple(columns))


def check_ahead(series: Sequence[Series], scheme: Scheme, horizon: int) -> None:
    """Look for the covariates that must be known for the horizon. One that had missing values in training may have some
    here, but not be missing together with all others.

    Raises:
        InputError: for the first that is missing, with the series and the time.
    """
    if not scheme.ahead:
        return
    for one in series:
        assert one.extras is not None
        places = [next(k for k, c in enumerate(one.columns) if c.name == f.name) for f in scheme.ahead]
        there = np.zeros((horizon, len(places)), np.bool_)
        found = one.extras[len(one.values) : len(one.values) + horizon, places]
        there[: len(found)] = ~np.isnan(found)
        strict = np.array([not feature.gaps for feature in scheme.ahead])
        lacking = ~there & (strict | ~there.any(1, keepdims=True))
        if lacking.any():
            step = int(lacking.any(1).argmax())
            name = scheme.ahead[int(lacking[step].argmax())].name
            time = time_text(one.times(len(one.values) + step, len(one.values) + step + 1))[0]
            raise InputError(
                f"future: {_named(one)} has no {name!r} for {time}, expected the covariates known ahead for all "
                f"{horizon} steps of the horizon"
            )


def _named(one: Series) -> str:
    return f"series {one.name!r}" if one.name else "the series"
