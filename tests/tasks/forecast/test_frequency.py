"""Frequencies: seen in times, named by aliases, and contradicted by times that do not lie on their grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.frequency import Frequency, common_frequency, infer_frequency, named
from gatewise.tasks.forecast.stamps import Times


def every(start: str, step: np.timedelta64, count: int = 40) -> Times:
    return (np.datetime64(start) + step * np.arange(count)).astype("datetime64[s]")


def every_quarter() -> Times:
    return (np.datetime64("2020-01") + 3 * np.arange(9)).astype("datetime64[s]")


def months(start: str, step: int = 1, count: int = 40) -> Times:
    return (np.datetime64(start, "M") + step * np.arange(count)).astype("datetime64[s]")


def month_ends(start: str, step: int = 1) -> Times:
    firsts = (np.datetime64(start, "M") + 1 + step * np.arange(40)).astype("datetime64[D]")
    return (firsts - np.timedelta64(1, "D")).astype("datetime64[s]")


def business_days(start: str, count: int = 40) -> Times:
    return np.busday_offset(start, np.arange(count)).astype("datetime64[s]")


GRIDS: list[tuple[Times, str, int, str]] = [
    (every("2020-01-01", np.timedelta64(7, "D")), "week", 52, "W"),
    (every("2020-01-01", np.timedelta64(1, "D")), "day", 7, "D"),
    (every("2020-01-01", np.timedelta64(1, "h")), "hour", 24, "h"),
    (every("2020-01-01", np.timedelta64(15, "m")), "15 minutes", 96, "15min"),
    (every("2020-01-01", np.timedelta64(1, "m")), "minute", 60, "min"),
    (every("2020-01-01", np.timedelta64(10, "s")), "10 seconds", 1, "10s"),
    (business_days("2020-01-02"), "business day", 5, "B"),
    (months("2020-01"), "month", 12, "MS"),
    (month_ends("2020-01"), "month", 12, "ME"),
    (months("2020-01", 3), "quarter", 4, "QS"),
    (month_ends("2020-03", 3), "quarter", 4, "QE"),
    (months("2000-01", 12), "year", 1, "YS"),
    (np.arange(5, 45), "step", 1, "1"),
    (np.arange(0, 400, 10), "10 steps", 1, "10"),
]


@pytest.mark.parametrize(("times", "name", "season", "alias"), GRIDS, ids=[g[3] for g in GRIDS])
def test_frequency_season_alias_and_future(times: Times, name: str, season: int, alias: str) -> None:
    frequency = infer_frequency(times[:-1])
    assert (frequency.name, frequency.season) == (name, season)
    assert named("freq", alias) == frequency
    with_gaps = np.delete(times[:-1], [3, 4, 11])
    assert infer_frequency(with_gaps) == frequency
    assert frequency.off_grid(with_gaps) is None
    assert frequency.positions(with_gaps).tolist() == np.delete(np.arange(39), [3, 4, 11]).tolist()
    assert (frequency.times(times[0], np.arange(40)) == times).all()


def test_jitter() -> None:
    jitter = np.random.default_rng(0).integers(-90, 90, 40).astype("timedelta64[s]")
    assert infer_frequency(every("2020-01-01", np.timedelta64(1, "h")) + jitter).name == "hour"


def test_days_within_a_week_are_days() -> None:
    assert infer_frequency(every("2020-01-06", np.timedelta64(1, "D"), 5)).name == "day"
    assert infer_frequency(every("2020-01-06", np.timedelta64(1, "D"), 6)).name == "day"


def test_business_days_go_from_friday_to_monday_and_keep_the_time_of_day() -> None:
    frequency = Frequency(business=True)
    times = frequency.times(np.datetime64("2020-01-03T16:30:00", "s"), np.arange(3))
    assert [str(t) for t in times] == ["2020-01-03T16:30:00", "2020-01-06T16:30:00", "2020-01-07T16:30:00"]


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "0",
        "0D",
        "2B",
        "W-JAN",
        "D-SUN",
        "QE-SUN",
        "W-",
        "0W-SUN",
        "fortnight",
        "m",
        "-1D",
        "1.5h",
        3,
        None,
        "9" * 30,
    ],
    ids=str,
)
def test_what_names_no_frequency_gets_a_sentence(alias: Any) -> None:
    with pytest.raises(InputError, match="freq must be one of s, min, h, D, W, B, MS, QS, YS, ME, QE, YE, 15min"):
        named("freq", alias)


def test_older_names_of_pandas() -> None:
    older = {"H": "h", "T": "min", "S": "s", "M": "ME", "Q": "QE", "A": "YE", "Y": "YE", "2H": "2h", "AS": "YS"}
    assert [named("freq", a) for a in older] == [named("freq", a) for a in older.values()]


@pytest.mark.parametrize(
    ("alias", "times", "reason"),
    [
        ("B", every("2020-01-01", np.timedelta64(1, "D")), "has a value for 2020-01-04, a Saturday"),
        ("ME", months("2020-01"), "has the time 2020-01-01T00:00:00, which is not the end of a month"),
        ("QS", months("2020-01"), "has the time 2020-02-01T00:00:00, which is not a whole quarter from 2020-01-01"),
        ("2", np.arange(5), "has the time 1, which is not whole steps of 2 from 0"),
        ("D", np.arange(5), "has integers for times, expected dates"),
        ("1", months("2020-01"), "has dates, expected integer time"),
        ("W-SUN", every("2020-01-06", np.timedelta64(7, "D")), "has the time 2020-01-06T00:00:00, which is no Sunday"),
        (
            "QS-NOV",
            every_quarter(),
            "has the time 2020-01-01T00:00:00, which is in no month that a quarter of NOV begins",
        ),
        ("YS-APR", every_quarter()[::4], "has the time 2020-01-01T00:00:00, which is in no month that a year of APR"),
        ("QE-DEC", every_quarter(), "has the time 2020-01-01T00:00:00, which is not the end of a month"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_times_off_the_grid_are_named(alias: str, times: Times, reason: str) -> None:
    assert (named("freq", alias).off_grid(times) or "").startswith(reason)


@pytest.mark.parametrize(
    ("alias", "times"),
    [
        ("W-MON", every("2020-01-06", np.timedelta64(7, "D"))),
        ("2W-MON", every("2020-01-06", np.timedelta64(14, "D"))),
        ("QS-OCT", every_quarter()),
        ("2QS-JAN", every_quarter()[1::2]),
        ("YS-JAN", every_quarter()[::4]),
        ("Q-DEC", every_quarter() - np.timedelta64(1, "D")),
        ("QE-MAR", every_quarter() - np.timedelta64(1, "D")),
        ("YE-DEC", every_quarter()[::4] - np.timedelta64(1, "D")),
    ],
)
def test_anchored_aliases_are_taken_where_times_show_them(alias: str, times: Times) -> None:
    assert named("freq", alias).off_grid(times) is None
    plain = named("freq", alias.partition("-")[0])
    assert named("freq", alias).positions(times).tolist() == plain.positions(times).tolist() == list(range(len(times)))


def test_most_series_decide_and_long_ones_count_more() -> None:
    day, hour = np.timedelta64(1, "D"), np.timedelta64(1, "h")
    days, hours = every("2020-01-01", day), every("2020-01-01", hour)
    assert common_frequency([hours, days, days]).name == "day"
    assert common_frequency([hours, days, hours]).name == "hour"
    sparse = [days[[i, i + 2, i + 5]] for i in range(9)]
    assert common_frequency([*sparse, days]).name == "day"
    assert common_frequency([hours[:1], days]).name == "day"


def test_series_within_a_week_do_not_outvote_business_days() -> None:
    within = [every("2020-01-06", np.timedelta64(1, "D"), 5)] * 50
    assert common_frequency([*within, business_days("2020-01-06", 10)]).name == "business day"


def test_thousands_of_series_are_asked_by_sample() -> None:
    weeks = every("2020-01-01", np.timedelta64(7, "D"))
    assert common_frequency([weeks] * 5000).name == "week"
