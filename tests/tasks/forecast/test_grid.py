"""The regular grid: gaps are filled, future times are right, and series that do not fit are named beside the others."""

from __future__ import annotations

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.frequency import named
from gatewise.tasks.forecast.grid import regular
from gatewise.tasks.forecast.stamps import Times
from gatewise.tasks.forecast.table import Table, Unusable


def every(start: str, step: np.timedelta64, count: int = 40) -> Times:
    return (np.datetime64(start) + step * np.arange(count)).astype("datetime64[s]")


DAY, HOUR, WEEK = np.timedelta64(1, "D"), np.timedelta64(1, "h"), np.timedelta64(7, "D")
DAYS, HOURS, WEEKS = (every("2020-01-01", step) for step in (DAY, HOUR, WEEK))
WORKING = DAYS[np.is_busday(DAYS.astype("datetime64[D]"))]


def table(**series: Times) -> Table:
    return Table({name: (times, np.ones(len(times))) for name, times in series.items()}, "y")


@pytest.mark.parametrize("times", [DAYS, HOURS, WEEKS, np.arange(7, 47)], ids=["D", "h", "W", "1"])
def test_gaps_are_missing_values(times: Times) -> None:
    (series,) = regular(table(a=np.delete(times[:-1], [3, 4, 11]))).series
    assert np.flatnonzero(np.isnan(series.values)).tolist() == [3, 4, 11]
    assert (series.times(0, len(times)) == times).all()


def test_no_forecast_for_a_saturday() -> None:
    (series,) = regular(table(a=WORKING)).series
    assert not np.isnan(series.values).any()
    future = series.times(len(WORKING), len(WORKING) + 20)
    assert np.is_busday(future.astype("datetime64[D]")).all()


def test_leading_gaps_are_cut() -> None:
    months = (np.datetime64("2020-01") + np.arange(4)).astype("datetime64[s]")
    (series,) = regular(Table({"": (months, np.array([np.nan, np.nan, 1.0, np.nan]))}, "y")).series
    assert str(series.start)[:7] == "2020-03"
    assert len(series.values) == 2


def test_two_values_on_one_grid_point_get_a_sentence() -> None:
    times = np.sort(np.append(DAYS, np.datetime64("2020-01-20T06:00", "s")))
    with pytest.raises(
        InputError, match=r"the series has the times .*20T00:00:00 and .*, which are nearest to the same step"
    ):
        regular(Table({"": (times, np.ones(len(times)))}, "y"))


def test_too_sparse_or_single_time_stamps_get_a_sentence() -> None:
    times = np.append(every("2020-01-01", np.timedelta64(1, "s"), 5), np.datetime64("2021-01-01", "s"))
    with pytest.raises(InputError, match="at least one value in 50 points"):
        regular(table(a=times))
    with pytest.raises(InputError, match="one time stamp only"):
        regular(table(a=times[:1]))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (HOURS, "has one value every hour, expected one every day"),
        (WEEKS, "has one value every week, expected one every day"),
        (WORKING, "has business days only, and most series have weekends too; a freq of D reads both"),
        (every("2020-01-01", 400 * DAY, 4), "has 4 values on 1201 points of the grid, one every day"),
        (np.arange(40), "has integers for times, expected dates"),
    ],
    ids=["hours", "weeks", "business days", "sparse", "integers"],
)
def test_a_series_of_another_frequency_is_named_and_stops_no_other(other: Times, reason: str) -> None:
    grid = regular(table(a=DAYS, b=other, c=DAYS))
    assert grid.frequency.name == "day"
    assert [series.name for series in grid.series] == ["a", "c"]
    ((name, found),) = grid.unusable
    assert name == "b"
    assert found.startswith(reason)


def test_a_weekend_among_business_days_is_named() -> None:
    grid = regular(table(a=WORKING, b=DAYS, c=WORKING))
    assert [u.sentence for u in grid.unusable] == [
        "series 'b' has a value for 2020-01-04, a Saturday, expected business days"
    ]


def test_missing_values_only_are_named() -> None:
    values = {"a": (DAYS, np.ones(40)), "b": (DAYS, np.full(40, np.nan))}
    grid = regular(Table(values, "y", unusable=(Unusable("c", "repeats"),)))
    assert [u.unique_id for u in grid.unusable] == ["c", "b"]


def test_short_series_are_on_the_grid_of_the_others() -> None:
    grid = regular(table(a=DAYS, b=DAYS[[3]], c=DAYS[[3, 5]], d=DAYS[[3, 5, 9, 11]]))
    assert [len(series.values) for series in grid.series] == [40, 1, 3, 9]


def test_the_frequency_that_is_asked_for() -> None:
    assert len(regular(table(a=WORKING), named("freq", "D")).series[0].values) > len(WORKING)
    with pytest.raises(InputError, match="data: the series has one value every hour, expected one every day"):
        regular(Table({"": (HOURS, np.ones(40))}, "y"), named("freq", "D"))
    with pytest.raises(
        InputError,
        match=r"series 'a' has one value every day, expected one every hour; none of the other 1 series can be",
    ):
        regular(table(a=DAYS, b=DAYS), named("freq", "h"))


def test_a_series_that_ends_too_late_has_no_future() -> None:
    (series,) = regular(table(a=every("9999-11-22", DAY))).series
    assert str(series.times(39, 40)[0])[:10] == "9999-12-31"
    with pytest.raises(InputError, match="series 'a' ends so late"):
        series.times(39, 41)
