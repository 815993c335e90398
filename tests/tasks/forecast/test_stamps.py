"""Times read the same on every Python, by the column that they stand in."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.stamps import stamp_of, times_of, whole_seconds


def row(i: int) -> str:
    return f"row {i}"


@pytest.mark.parametrize(
    "text", ["20000101", "2000-W01", "2000-1-1", "2000-01-01T05:06:07,5", "٢٠٠٠", "2000-02-30", "2000Q5", ""]
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
    times = np.array(["2000-01-01T00:00:00.5"], "datetime64[ms]")
    with pytest.raises(InputError, match=r"row 0 has the time 2000-01-01T00:00:00.500; expected whole seconds"):
        whole_seconds(times, row)
    with pytest.raises(InputError, match="row 1 has no time"):
        whole_seconds(np.array(["2000-01-01", "NaT"], "datetime64[ns]"), row)
    assert whole_seconds(times + np.timedelta64(500, "ms"), row).dtype == "datetime64[s]"


COLUMNS = [
    (["2020-01-02", "2020-01-01 10:30"], ["2020-01-02T00:00:00", "2020-01-01T10:30:00"]),
    (["31/12/2020", "01/02/2020"], ["2020-12-31", "2020-02-01"]),
    (["12/31/2020", "01/02/2020"], ["2020-12-31", "2020-01-02"]),
    (["12/31/2020 1:05 PM", "12/31/2020 12:00 am"], ["2020-12-31T13:05:00", "2020-12-31T00:00:00"]),
    (["01.01.2020", "31.01.2020 23:59:01"], ["2020-01-01", "2020-01-31T23:59:01"]),
    (["2020/12/31", "2020/1/2"], ["2020-12-31", "2020-01-02"]),
    (["2020-1-2"], ["2020-01-02"]),
    (["02/02/2020", "03/03/2020"], ["2020-02-02", "2020-03-03"]),  # the same either way
    (["20201231", "20200101"], ["2020-12-31", "2020-01-01"]),
    (["202012", "202101"], ["2020-12-01", "2021-01-01"]),
    (["2020", "2021"], ["2020-01-01", "2021-01-01"]),
    (["2020Q1", "2020-Q4"], ["2020-01-01", "2020-10-01"]),
]
INTEGERS = [["1", "2", "10"], ["-1", "0", "1"], ["20201231", "20201232"], ["202012", "202013"], ["999", "1000"], ["0"]]


@pytest.mark.parametrize(("texts", "expected"), COLUMNS, ids=str)
def test_a_column_of_dates(texts: list[str], expected: list[str]) -> None:
    times, zoned = times_of(texts, row)
    assert times.tolist() == np.array(expected, "datetime64[s]").tolist()
    assert times.dtype == "datetime64[s]"
    assert not zoned


@pytest.mark.parametrize("texts", INTEGERS, ids=str)
def test_a_column_of_integers(texts: list[str]) -> None:
    times, _ = times_of(texts, row)
    assert times.dtype == np.int64
    assert times.tolist() == [int(text) for text in texts]


def test_digits_of_a_saved_table_are_integers() -> None:
    assert times_of(["2020", "2021"], row, numbered=True)[0].tolist() == [2020, 2021]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["01/02/2020", "03/04/2020"], "row 0 has the time '01/02/2020', which may begin with the day or the month"),
        (["03/03/2020", "01/02/2020"], "row 1 has the time '01/02/2020', which .*; date_order, dmy or mdy, says which"),
        (["31/12/2020", "12/31/2020"], "row 1 has the time '12/31/2020', whose day and month stand the other way"),
        (["31/12/20"], "row 0 has the time '31/12/20'; expected a year of four digits"),
        (["31/02/2020"], "row 0 has the time '31/02/2020', and there is no such day; expected a date"),
        (["12/31/2020 13:00 PM"], "row 0 has the time '12/31/2020 13:00 PM'"),
        (["2020/31/12"], "row 0 has the time '2020/31/12'"),
        (["1", "2", "2020-01-01"], "row 0 has the time '1'; expected a date .* or integers in every row"),
        (["1.5"], "row 0 has the time '1.5'"),
        (["2020-01-01", "2020-02-30"], "row 1 has the time '2020-02-30'"),
        (["2020-01-01", ""], "row 1 has no time"),
        (["0000-01-01"], "row 0 has the time '0000-01-01'"),
        (["0001-01-01T00:00:00+02:00"], "row 0 has the time '0001-01-01"),
        (["2020-01-01T00:00:00+25:00"], "row 0 has the time '2020-01-01T00:00:00.25:00'"),
        (["today"], "row 0 has the time 'today'"),  # NumPy would take it
        (["2020-01-01", "2020-01-01", "2020-01-02T00Z"], "row 2 has a time zone"),
    ],
    ids=str,
)
def test_what_is_no_time_gets_a_sentence(texts: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        times_of(texts, row)


@pytest.mark.parametrize(("order", "expected"), [("dmy", "2020-02-01"), ("mdy", "2020-01-02")])
def test_the_order_that_is_asked_for(order: str, expected: str) -> None:
    assert str(times_of(["01/02/2020"], row, order)[0][0])[:10] == expected


@given(st.lists(st.datetimes().map(lambda t: t.replace(microsecond=0)), min_size=1), st.sampled_from(["T", " "]))
def test_any_date_and_time_is_read_back(stamps: list[object], separator: str) -> None:
    expected = np.array(stamps, "datetime64[s]")
    texts = [str(time).replace("T", separator) for time in expected]
    assert times_of(texts, row)[0].tolist() == expected.tolist()


@given(st.lists(st.tuples(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-1439, 1439)), min_size=1))
def test_any_time_with_a_zone_is_read_in_utc(stamps: list[tuple[datetime, int]]) -> None:
    zoned = [t.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=m))) for t, m in stamps]
    expected = [t.astimezone(timezone.utc).replace(tzinfo=None) for t in zoned]
    assert times_of([t.isoformat() for t in zoned], row)[0].tolist() == expected


@given(st.lists(st.dates(), min_size=1), st.sampled_from([("dmy", "%d/%m/{}"), ("mdy", "%m/%d/{}")]))
def test_any_date_is_read_back_in_its_order(days: list[object], form: tuple[str, str]) -> None:
    texts = [day.strftime(form[1]).format(f"{day.year:04}") for day in days]  # type: ignore[attr-defined]
    assert times_of(texts, row, form[0])[0].tolist() == np.array(days, "datetime64[s]").tolist()
