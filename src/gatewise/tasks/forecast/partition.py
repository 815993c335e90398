"""Forecasts of a part of a table that no single process holds: a data frame in, a data frame out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.forecast.notes import LOG
from gatewise.tasks.forecast.stamps import Clock
from gatewise.tasks.forecast.table import NoSeries, Table, like


def forecast_of(frame: Any, predict: Callable[[Any], Any], names: Sequence[str], integers: bool) -> Any:
    """The forecasts of the series of a data frame; of none where it has no rows, or no series that can be used.

    Args:
        predict: forecasts a frame with series. names: columns of a forecast. integers: whether time is counted.

    Raises:
        InputError: for what is no data frame, and for one that cannot be read.
    """
    narwhals = need("narwhals")
    try:
        eager = narwhals.from_native(frame, eager_only=True)
    except TypeError:
        raise InputError(f"data must be an eager data frame, got {type(frame).__name__}") from None
    if len(eager):
        try:
            return predict(frame)
        except NoSeries as error:
            LOG.warning(str(error))
    zones = [getattr(dtype, "time_zone", None) for dtype in eager.schema.values()]
    clock = Clock(next((zone for zone in zones if zone), ""))
    table = Table({}, "y", origin=eager.implementation.name.lower(), clock=clock)
    counted = next((d.is_integer() for name, d in eager.schema.items() if name.lower() == "unique_id"), False)
    columns = {
        "unique_id": np.array([], np.int64 if counted else str),
        "ds": np.array([], np.int64 if integers else "datetime64[s]"),
    }
    return like(table, columns | {name: np.array([], np.float64) for name in names})
