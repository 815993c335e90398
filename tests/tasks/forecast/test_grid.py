"""The regular grid: frequencies are seen, gaps are filled, future time stamps are right."""

from __future__ import annotations

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.grid import infer_frequency, regular
from gatewise.tasks.forecast.table import Table, Times


def every(start: str, step: np.timedelta64, count: int = 40) -> Times:
    return (np.datetime64(start) + step * np.arange(count)).astype("datetime64[s]")


def months(start: str, step: int = 1, count: int = 40) -> Times:
    return (np.datetime64(start, "M") + step * np.arange(count)).astype("datetime64[s]")


MONTH_ENDS = months("2020-02").astype("datetime64[D]").astype("datetime64[s]") - np.timedelta64(1, "D")


@pytest.mark.parametrize(
    ("times", "name", "season"),
    [
        (every("2020-01-01", np.timedelta64(7, "D")), "week", 52),
        (every("2020-01-01", np.timedelta64(1, "D")), "day", 7),
        (every("2020-01-01", np.timedelta64(1, "h")), "hour", 24),
        (every("2020-01-01", np.timedelta64(30, "m")), "30 minutes", 48),
        (every("2020-01-01", np.timedelta64(10, "s")), "10 seconds", 1),
        (months("2020-01"), "month", 12),
        (MONTH_ENDS, "month", 12),
        (months("2020-01", 3), "quarter", 4),
        (months("2000-01", 12), "year", 1),
    ],
)
def test_frequency_season_and_future(times: Times, name: str, season: int) -> None:
    frequency = infer_frequency(times[:-1])
    assert (frequency.name, frequency.season) == (name, season)
    with_gaps = np.delete(times[:-1], [3, 4, 11])
    assert infer_frequency(with_gaps) == frequency
    (series,) = regular(Table({"": (with_gaps, np.ones(len(with_gaps)))}, "y"))
    assert np.flatnonzero(np.isnan(series.values)).tolist() == [3, 4, 11]
    assert (series.times(0, len(times)) == times).all()


def test_jitter_and_business_days() -> None:
    jitter = np.random.default_rng(0).integers(-90, 90, 40).astype("timedelta64[s]")
    assert infer_frequency(every("2020-01-01", np.timedelta64(1, "h")) + jitter).name == "hour"
    days = every("2020-01-06", np.timedelta64(1, "D"), 30)
    assert infer_frequency(days[np.arange(30) % 7 < 5]).name == "day"


def test_leading_gaps_are_cut() -> None:
    (series,) = regular(Table({"": (months("2020-01", count=4), np.array([np.nan, np.nan, 1.0, np.nan]))}, "y"))
    assert str(series.start)[:7] == "2020-03"
    assert len(series.values) == 2


def test_two_values_on_one_grid_point_get_a_sentence() -> None:
    times = np.concatenate([every("2020-01-01", np.timedelta64(1, "D")), [np.datetime64("2020-01-20T06:00", "s")]])
    times.sort()
    with pytest.raises(InputError, match="fall on the same day"):
        regular(Table({"": (times, np.ones(len(times)))}, "y"))


def test_too_sparse_or_single_time_stamps_get_a_sentence() -> None:
    times = np.append(every("2020-01-01", np.timedelta64(1, "s"), 5), np.datetime64("2021-01-01", "s"))
    with pytest.raises(InputError, match="at least one value in 50 points"):
        regular(Table({"": (times, np.ones(6))}, "y"))
    with pytest.raises(InputError, match="one time stamp only"):
        regular(Table({"": (times[:1], np.ones(1))}, "y"))
