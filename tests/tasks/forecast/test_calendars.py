"""Calendar features: what they tell apart, and for which times there are some."""

from __future__ import annotations

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.calendars import cycles, features, width
from gatewise.tasks.forecast.frequency import named


@pytest.mark.parametrize(
    ("alias", "expected"),
    [("15min", "day week year"), ("h", "day week year"), ("D", "week year"), ("B", "week year"), ("W", "year")]
    + [("MS", "year"), ("QE", "year")],
)
def test_cycles_are_those_longer_than_a_step(alias: str, expected: str) -> None:
    assert cycles(named("freq", alias)) == tuple(expected.split())


@pytest.mark.parametrize("alias", ["YS", "3"])
def test_years_and_integers_have_no_calendar(alias: str) -> None:
    with pytest.raises(InputError, match=r"calendar: one value a .* has none, expected times within a year"):
        cycles(named("freq", alias))


def test_each_hour_and_weekday_has_features_of_its_own_that_come_again() -> None:
    hours = np.datetime64("2021-03-01", "s") + np.arange(24 * 14) * np.timedelta64(3600, "s")
    found = features(hours, ("day", "week"))
    assert found.shape == (336, width(("day", "week")))
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1
    np.testing.assert_allclose(found[:168], found[168:], atol=1e-5)
    assert len(np.unique(found[:168].round(3), axis=0)) == 168
    np.testing.assert_allclose(found[6, :2], [1, 0], atol=1e-6)  # a quarter of the day


def test_seven_weekdays_are_linearly_independent() -> None:
    days = np.datetime64("2021-03-01", "s") + np.arange(7) * np.timedelta64(86400, "s")
    waves = np.concatenate([features(days, ("week",)), np.ones((7, 1))], 1)
    assert np.linalg.cond(waves) < 3


def test_the_year_comes_again_and_no_time_is_nothing() -> None:
    times = np.array(["2019-07-01", "2021-07-01", "NaT"], "datetime64[s]")
    found = features(times, ("year",))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert not found[2].any()
