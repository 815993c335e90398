"""What one tries with data as they are: short months, rows of pandas, a lone Saturday, offsets as frequencies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.frequency import infer_frequency
from gatewise.tasks.forecast.table import read

pandas = pytest.importorskip("pandas")
SMALL: dict[str, Any] = {"horizon": 4, "hidden_size": 4, "max_steps": 2, "n_models": 1}


def said(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if word in record.getMessage()]


@pytest.mark.parametrize("day", [29, 30])
@pytest.mark.parametrize("start", ["2019-02", "2020-02", "2019-05"])
def test_months_on_a_day_that_february_may_lack(day: int, start: str) -> None:
    months = pandas.period_range(start, periods=40, freq="M")
    days = [np.datetime64(f"{m.year}-{m.month:02}-{min(day, m.days_in_month):02}", "s") for m in months]
    times = np.array(days)
    found = infer_frequency(times[:-4])
    assert found.name == "month"
    assert (found.times(times[0], np.arange(40)) == times).all()
    model = Forecaster(**SMALL).fit(pandas.DataFrame({"ds": times[:-4], "y": np.arange(36) % 12.0}))
    assert list(model.predict()["ds"]) == list(pandas.DatetimeIndex(times[-4:]))


@pytest.mark.parametrize(
    ("freq", "text"),
    [(2, "2"), (np.int64(2), "2"), (pandas.offsets.Day(), "D"), (pandas.offsets.Week(weekday=6), "W-SUN")],
)
def test_numbers_and_offsets_are_frequencies(freq: Any, text: str) -> None:
    assert Forecaster(freq=freq).options.freq == text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"level": [0.8]}, r"level must be at least 1 per cent, got 0.8; was 80 meant\?"),
        ({"level": "0.95,80"}, r"level must be at least 1 per cent, got 0.95; was 95 meant\?"),
        ({"freq": True}, "freq must be one of"),
        ({"date_order": "dym"}, "date_order must be dmy or mdy, got 'dym'"),
    ],
)
def test_options_that_are_meant_otherwise(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        Forecaster(**options)


def test_names_twice_in_a_frame_get_a_sentence() -> None:
    frame = pandas.DataFrame([[1, 1.0, 2.0]] * 9, columns=["ds", "y", "y"])
    with pytest.raises(InputError, match="the data frame has two columns 'y'; expected each name once"):
        read(frame)
    indexed = pandas.DataFrame({"ds": [1, 2], "y": [1, 2]}, index=pandas.Index([1, 2], name="ds"))
    with pytest.raises(InputError, match="the data frame has the name 'ds' in its columns and its index; expected one"):
        read(indexed)


def test_numbers_of_rows_are_no_covariate() -> None:
    frame = pandas.DataFrame({"ds": range(40), "y": np.arange(40) % 5, "x": np.arange(40) % 3})
    table = read(frame.reset_index(), Reading(infer=True))
    assert ([column.name for column in table.columns], table.ignored) == (["x"], ("index",))


def test_a_saturday_among_business_days_is_said(caplog: pytest.LogCaptureFixture) -> None:
    days = pandas.bdate_range("2020-01-01", periods=79)
    with_one = days.append(pandas.DatetimeIndex(["2020-03-07"])).sort_values()
    for times, freq, count in ((with_one, None, 1), (with_one, "D", 0), (days, None, 0)):
        caplog.clear()
        Forecaster(**SMALL, freq=freq).fit(pandas.DataFrame({"ds": times, "y": np.arange(len(times)) % 5.0}))
        assert len(said(caplog, "few times are at a weekend, the first of them 2020-03-07")) == count


def test_rows_of_the_future_that_nothing_takes_are_said(caplog: pytest.LogCaptureFixture) -> None:
    days = pandas.date_range("2024-01-01", periods=64)
    frame = pandas.DataFrame({"unique_id": "a", "ds": days, "y": np.arange(64) % 7.0, "promo": np.arange(64) % 3.0})
    model = Forecaster(**SMALL, future_cols="promo").fit(frame[:-4])
    future = pandas.concat([frame[-4:], frame[-4:].assign(unique_id="b")])
    model.predict(future=future)
    assert said(caplog, "future: ") == [
        "future: not read: the rows of series 'b', of which there are no values to go on from"
    ]
    without = Forecaster(**SMALL, covariates="none").fit(frame[:-4])
    with pytest.raises(InputError, match="expected none; fit again with future_cols, such as --future-cols promo"):
        without.predict(future=future)


def test_why_a_column_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    frame = pandas.DataFrame({"ds": np.arange(60), "y": np.arange(60) % 7.0, "visitors": np.arange(60) % 3.0})
    Forecaster(horizon=4, hidden_size=2, max_steps=1, strategy="recursive").fit(frame)
    assert said(caplog, "not read") == [
        "data: not read: the column visitors, known up to the forecast; strategy 'recursive' reads what is known for "
        "the horizon too"
    ]


def test_a_day_that_is_none(tmp_path: Path) -> None:
    for text in ("2020-02-30", "2020-04-31 10:00", "31.04.2020"):
        (tmp_path / "data.csv").write_text(f"ds;y\n{text};1\n")
        with pytest.raises(InputError, match=f"line 2 has the time '{text}', and there is no such day"):
            read(tmp_path / "data.csv", Reading(date_order="dmy"))
