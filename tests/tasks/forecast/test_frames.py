"""Data frames and Parquet files read as CSV files do, and forecasts come back as the frame that went in."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.table import like, read, rows

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
LIBRARIES = pytest.mark.parametrize("library", [pandas, polars], ids=["pandas", "polars"])
START = datetime(2020, 1, 1)
COLUMNS: dict[str, list[Any]] = {
    "unique_id": ["a", "a", "b"],
    "ds": [START, START + timedelta(days=1), START],
    "y": [1.5, None, -300.0],
}
BERLIN = "Datetime(time_unit='us',time_zone='Europe/Berlin')"
ROWS = "[('a', '2020-01-01', 1.5), ('a', '2020-01-02', nan), ('b', '2020-01-01', -300.0)]"


@LIBRARIES
def test_data_frames_read_as_files_do(library: Any) -> None:
    table = read(library.DataFrame(COLUMNS))
    assert str(rows(table)) == ROWS
    assert table.origin == library.__name__


@LIBRARIES
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([date(2020, 1, 1), date(2020, 1, 2)], ["2020-01-01", "2020-01-02"]),
        (["31/01/2020", "01/02/2020"], ["2020-01-31", "2020-02-01"]),
        ([20200101, 20200102], ["2020-01-01", "2020-01-02"]),
        ([7, 8], ["7", "8"]),
        ([7.0, 8.0], ["7", "8"]),
        ([START, START + timedelta(hours=1)], ["2020-01-01 00:00:00", "2020-01-01 01:00:00"]),
    ],
    ids=["dates", "texts", "eight digits", "integers", "whole floats", "times"],
)
def test_kinds_of_time(library: Any, times: list[Any], expected: list[str]) -> None:
    table = read(library.DataFrame({"ds": times, "y": [1, 2]}))
    assert [row[1] for row in rows(table)] == expected


@pytest.mark.parametrize(
    "values",
    [
        pandas.array([1, pandas.NA, 3], dtype="Float64"),
        pandas.array([1, pandas.NA, 3], dtype="Int64"),
        np.array([1, np.nan, 3], np.float32),
        np.array([1, None, 3], object),
        ["1", "N/A", "3"],
        pandas.Categorical(["1", "?", "3"]),
    ],
    ids=["Float64", "Int64", "float32", "object", "texts", "categories"],
)
def test_kinds_of_values(values: Any) -> None:
    table = read(pandas.DataFrame({"ds": [1, 2, 3], "y": values}))
    assert str([row[2] for row in rows(table)]) == "[1.0, nan, 3.0]"


def test_the_index_of_pandas_is_a_column_where_it_says_something() -> None:
    days = pandas.date_range("2020-01-01", periods=2)
    expected = [("", "2020-01-01", 1.0), ("", "2020-01-02", 2.0)]
    assert rows(read(pandas.Series([1, 2], index=days))) == expected
    assert rows(read(pandas.DataFrame({"y": [1, 2]}, index=days.rename("ds")))) == expected
    months = pandas.period_range("2020-01", periods=2, freq="M")
    assert [row[1] for row in rows(read(pandas.DataFrame({"y": [1, 2]}, index=months)))] == ["2020-01-01", "2020-02-01"]
    wide = read(pandas.DataFrame({"a": [1, 2], "b": [3, 4]}, index=days), Reading(wide=True))
    assert [(row[0], row[2]) for row in rows(wide)] == [("a", 1), ("a", 2), ("b", 3), ("b", 4)]


@LIBRARIES
def test_times_with_a_zone_are_kept_in_utc_and_given_back_in_it(library: Any) -> None:
    utc = np.array(["2020-01-01T23", "2020-01-02T00"], "datetime64[us]")
    if library is pandas:
        zoned = pandas.Series(utc).dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    else:
        zoned = polars.Series(utc).dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    table = read(library.DataFrame({"ds": zoned, "y": [1.0, 2.0]}))
    assert [row[1] for row in rows(table)] == ["2020-01-01 23:00:00", "2020-01-02 00:00:00"]
    again = like(table, {"ds": table.series[""][0], "y": table.series[""][1]})
    assert read(again) == table
    assert read(again).clock == ("Europe/Berlin", False)
    assert str(again["ds"].dtype).replace(" ", "") in ("datetime64[us,Europe/Berlin]", BERLIN)


@LIBRARIES
@pytest.mark.parametrize(("zone", "last"), [("Europe/Berlin", "2024-10-26"), ("America/New_York", "2024-11-02")])
@pytest.mark.parametrize(("freq", "season"), [("h", 24), ("D", 7)])
def test_forecasts_come_back_in_their_zone_over_a_change_of_clocks(
    library: Any, freq: str, season: int, zone: str, last: str
) -> None:
    """Hours go on in UTC, one of them comes twice; days go on from midnight to midnight, one of them has 25 hours."""
    count = 24 * 12 if freq == "h" else 70
    times = pandas.date_range(end=last, periods=count, freq=freq, tz=zone)
    y = np.sin(np.arange(count) / season * 2 * np.pi)
    frame = pandas.DataFrame({"ds": times, "y": y})
    if library is polars:
        utc = polars.Series(times.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]"))
        frame = polars.DataFrame({"ds": utc.dt.replace_time_zone("UTC").dt.convert_time_zone(zone), "y": y})
    model = Forecaster(horizon=48 if freq == "h" else 3, hidden_size=3, max_steps=1).fit(frame)
    for found in (model.predict(), model.predict(frame)):
        expected = pandas.date_range(times[-1], periods=model.horizon + 1, freq=freq)[1:]
        assert [str(time) for time in found["ds"]] == [str(time) for time in expected]
    more = frame[-1:] if library is pandas else frame.tail(1)
    with pytest.raises(InputError, match="is not after its end"):
        model.update(more)


def test_a_midnight_that_is_none_gets_a_sentence() -> None:
    times = pandas.date_range(end="2018-11-02", periods=60, freq="D", tz="America/Sao_Paulo")
    model = Forecaster(horizon=3, hidden_size=3, max_steps=1).fit(
        pandas.DataFrame({"ds": times, "y": np.arange(60) % 7})
    )
    with pytest.raises(InputError, match="the forecast has a time that clocks of America/Sao_Paulo do not show"):
        model.predict()


@LIBRARIES
@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"ds": [1, 2], "y": [1.0, math.inf]}, "row 1 of the data frame has the value 'inf'"),
        ({"ds": [1, 2], "y": ["1", "much"]}, "row 1 of the data frame has the value 'much'; expected a number"),
        ({"ds": [1, 2], "y": [True, False]}, "row 0 of the data frame has the value 'True'; expected a number"),
        ({"ds": [START, None], "y": [1, 2]}, "row 1 of the data frame has no time"),
        ({"ds": [START, START + timedelta(microseconds=1)], "y": [1, 2]}, "row 1 .*; expected whole seconds"),
        ({"unique_id": ["a", None], "ds": [1, 2], "y": [1, 2]}, "row 1 of the data frame has no unique_id"),
        ({"ds": [], "y": []}, "the data frame has no rows"),
        ({"a": [1], "b": [1], "c": [1]}, "the data frame has the columns a, b, c; expected"),
    ],
    ids=["infinite", "text", "truth", "no time", "fraction", "no name", "empty", "other names"],
)
def test_frames_that_cannot_be_read_get_a_sentence(library: Any, columns: dict[str, list[Any]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read(library.DataFrame(columns))
    assert "\n" not in str(caught.value)


def test_what_is_no_data_gets_a_sentence() -> None:
    for data in (5, polars.LazyFrame(COLUMNS)):
        with pytest.raises(
            InputError, match=r"must be the path of a CSV file or an eager data frame, got (int|LazyFr)"
        ):
            read(data)


def test_parquet_files_read_as_frames_do(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    polars.DataFrame(COLUMNS).write_parquet(path)
    table = read(path)
    assert str(rows(table)) == ROWS
    assert table.origin == ""
    polars.DataFrame({"ds": [1], "y": ["much"]}).write_parquet(path)
    with pytest.raises(InputError, match=r"data.parquet row 0 has the value 'much'"):
        read(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"data.parquet cannot be read as Parquet"):
        read(path)


@LIBRARIES
def test_a_frame_in_a_frame_out(library: Any) -> None:
    steps = np.arange(40)
    frame = library.DataFrame({"ds": steps, "y": steps % 5 + steps**2 % 3.0})
    forecaster = Forecaster(horizon=np.int64(4), hidden_size=np.int32(3), max_steps=2).fit(frame)
    forecast = forecaster.predict()
    assert isinstance(forecast, library.DataFrame)
    assert list(forecast.columns) == ["unique_id", "ds", "y"]
    assert list(forecast["ds"]) == [40, 41, 42, 43]
    days = library.DataFrame({"ds": [START + timedelta(days=int(i)) for i in steps], "y": steps})
    with pytest.raises(InputError, match="has dates, expected integer time"):
        forecaster.predict(days)
