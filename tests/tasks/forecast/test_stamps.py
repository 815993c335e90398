"""Time stamps read the same on every Python."""

from __future__ import annotations

import numpy as np
import pytest

from gatewise.tasks.forecast.stamps import stamp_of


@pytest.mark.parametrize(
    "text", ["20000101", "2000-W01", "2000-1-1", "2000-01-01T05:06:07,5", "٢٠٠٠", "2000-02-30", ""]
)
def test_other_forms_are_none(text: str) -> None:
    assert stamp_of(text) is None


def test_a_time_before_the_first_year_is_none() -> None:
    assert stamp_of("0001-01-01T00:00+02:00") is None


@pytest.mark.parametrize(
    ("text", "zoned", "exact"),
    [("2000-01-01", False, True), ("2000-01-01T05:06:07.000", False, True), ("2000-01-01T05:06:07.25", False, False)]
    + [("2000-01-01 05Z", True, True), ("2000-01-01 05:06:07.000000001+01:00", True, False)],
)
def test_zone_and_fraction_are_seen(text: str, zoned: bool, exact: bool) -> None:
    stamp = stamp_of(text)
    assert stamp is not None
    assert (stamp.zoned, stamp.exact) == (zoned, exact)


def test_numpy_times() -> None:
    stamp = stamp_of(np.datetime64("2000-01-01T00:00:00.5"))
    assert stamp is not None
    assert not stamp.exact
    assert stamp_of(np.datetime64("NaT")) is None
