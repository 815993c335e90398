"""The columns of forecasts as users get them: those of several targets of a series beside each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gatewise.tasks.forecast.evaluation import Forecasts
from gatewise.tasks.forecast.intervals import CAME, names
from gatewise.tasks.forecast.panel import Places
from gatewise.tasks.forecast.table import Values


def predicted(found: Forecasts) -> dict[str, Any]:
    """``unique_id``, ``ds`` and the forecast with its intervals: ``y``, ``y-lo-80`` … or those of each target; NaN for
    a target that a series does not have."""
    if not found.targets:
        return found.columns()
    rows, heads = _rows(found)
    parts = [_of(found, target, rows) for target in found.targets]
    return _keys(heads) | {name: column for part in parts for name, column in part.items()}


def rolled(found: Forecasts, model: str) -> dict[str, Any]:
    """The same with ``cutoff`` and with what came: ``y``, beside which the forecast is named by its model, or for each
    of several targets ``HUFL-y`` beside ``HUFL``."""
    if not found.targets:
        columns = found.columns(model)
        first = {name: columns.pop(name) for name in ("unique_id", "ds")}
        return {**first, "cutoff": found.cutoffs(), "y": found.truth().reshape(-1), **columns}
    rows, heads = _rows(found)
    result, truth = _keys(heads) | {"cutoff": heads.cutoffs()}, found.truth()
    for target in found.targets:
        result[target + CAME] = _laid(truth[..., None], _mine(found, target), rows)[:, 0]
        result |= _of(found, target, rows)
    return result


def _rows(found: Forecasts) -> tuple[Places, Forecasts]:
    """The row of each forecast, one for each series and end of what was known; and a forecast of each row."""
    place: dict[tuple[str, Any], int] = {}
    ids = (found.series[i].unique_id for i in found.which)
    keys = zip(ids, found.cutoffs()[:: found.horizon].tolist(), strict=True)
    rows = np.array([place.setdefault(key, len(place)) for key in keys], np.int64)
    heads = np.unique(rows, return_index=True)[1]
    return rows, replace(found, which=found.which[heads], origins=found.origins[heads], values=found.values[heads])


def _keys(heads: Forecasts) -> dict[str, Any]:
    columns = heads.columns()
    return {name: columns[name] for name in ("unique_id", "ds")}


def _mine(found: Forecasts, target: str) -> Places:
    """Which forecasts are of a target."""
    return np.flatnonzero([found.series[i].target == target for i in found.which])


def _of(found: Forecasts, target: str, rows: Places) -> dict[str, Any]:
    flat = _laid(found.values, _mine(found, target), rows)
    return {name: flat[:, k] for k, name in enumerate(names(found.levels, target))}


def _laid(values: Values, mine: Places, rows: Places) -> Values:
    """Values (n, horizon, Q) of some forecasts in their rows: (rows · horizon, Q)."""
    wide = np.full((rows.max() + 1, *values.shape[1:]), np.nan)
    wide[rows[mine]] = values[mine]
    return wide.reshape(-1, values.shape[2])
