"""Reading the long table: forms that are understood, and one sentence for each that is not."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.table import read, to_csv

LONG = "unique_id,ds,y\na,2020-01-01,1.5\na,2020-01-02,\nb,2020-01-01,-3e2\n"


def csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "data.csv").write_text(text)
    return tmp_path / "data.csv"


def test_embedded_series_has_the_weeks_and_gaps_of_the_source() -> None:
    table = read(None)
    ((times, values),) = table.series.values()
    assert (len(values), int(np.isnan(values).sum())) == (2284, 59)
    assert (str(times[0])[:10], values[0]) == ("1958-03-29", 316.1)
    assert (str(times[-1])[:10], values[-1]) == ("2001-12-29", 371.5)
    assert "ppm" in table.label


def test_long_table_with_missing_values(tmp_path: Path) -> None:
    series = read(csv(tmp_path, LONG)).series
    assert list(series) == ["a", "b"]
    assert series["a"][1][0] == 1.5
    assert math.isnan(series["a"][1][1])
    assert series["b"][1].tolist() == [-300.0]


@pytest.mark.parametrize(
    "text",
    [
        "ds,y\n2020-01-02,2\n2020-01-01,1\n",
        "day,load (MW)\n2020-01-02,2\n2020-01-01,1\n",
        "2020-01-01,1\n2020-01-02,2\n",
    ],
)
def test_two_columns_in_any_order_of_rows_with_or_without_header(tmp_path: Path, text: str) -> None:
    table = read(csv(tmp_path, text))
    times, values = table.series[""]
    assert [str(t)[:10] for t in times] == ["2020-01-01", "2020-01-02"]
    assert values.tolist() == [1, 2]
    assert table.label == ("load (MW)" if "load" in text else "y")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2020", "2020-01-01T00:00:00"), ("2020-03", "2020-03-01T00:00:00"), ("2020-03-04 05:06", "2020-03-04T05:06:00")]
    + [("2020-03-04T05:06:07Z", "2020-03-04T05:06:07"), ("2020-03-04T05:06:07+02:00", "2020-03-04T03:06:07")],
)
def test_forms_of_time(tmp_path: Path, text: str, expected: str) -> None:
    times, _ = read(csv(tmp_path, f"ds,y\n{text},1\n")).series[""]
    assert str(times[0]) == expected


@pytest.mark.parametrize("text", [LONG, "ds,y\n2020-01-01 10:30,1\n2020-01-01 11:30,0.1\n"])
def test_writing_and_reading_gives_the_same_table(tmp_path: Path, text: str) -> None:
    table = read(csv(tmp_path, text))
    assert read(csv(tmp_path, to_csv(table))) == table


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("unique_id,ds,y\n", "no rows below its header"),
        ("a,b,c\n1,2,3\n", "has the columns a, b, c; expected unique_id, ds, y or two columns"),
        ("ds,y\nyesterday,1\n", "line 2 has the time 'yesterday'; expected a date"),
        ("ds,y\n2020-01-01,1\n2020-13-01,1\n", "line 3 has the time '2020-13-01'"),
        ("ds,y\n2020-01-01,much\n", "line 2 has the value 'much'; expected a number"),
        ("ds,y\n2020-01-01,inf\n", "line 2 has the value 'inf'"),
        ("ds,y\n2020-01-01,1\n2020-01-01,2\n", "line 3 repeats the time 2020-01-01; expected each time once"),
        ("ds,y\n2020-01-01,1e300\n", "line 2 has the value '1e300'; expected a number from -1e+30 to 1e+30"),
        ("ds;y\n2020-01-01;1\n", "seems to be separated by semicolons; expected commas"),
        ("ds\ty\n2020-01-01\t1\n", "seems to be separated by tabs; expected commas"),
        ("ds,y\n20200101,1\n", "line 2 has the time '20200101'; expected a date such as 2001-12-29"),
        ("ds,y\n2020-01-01T00:00:00.5,1\n", "line 2 has the time '2020-01-01T00:00:00.5'; expected whole seconds"),
        ("ds,y\n2020-01-01,1\n2020-01-02T00:00Z,1\n", "line 3 has a time zone in '2020-01-02T00:00Z', but the rows"),
        ("ds,y\n2020-01-01T00:00Z,1\n2020-01-02,1\n", "line 3 has no time zone in '2020-01-02', but the rows before"),
        ("ds,y\n2020-01-01," + "1" * 140_000 + "\n", "cannot be read as CSV after 1 rows: field larger than"),
        ("ds,y\n2020-01-01,1,5\n", "line 2 has 3 fields, expected 2"),
    ],
)
def test_bad_files_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        read(csv(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read(tmp_path / "b.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_read_as_files_do(tmp_path: Path, library: str) -> None:
    frames = pytest.importorskip(library)
    start = datetime(2020, 1, 1)
    columns: dict[str, list[Any]] = {
        "unique_id": ["a", "a", "b"],
        "ds": [start, start + timedelta(days=1), start],
        "y": [1.5, None, -300.0],
    }
    assert read(frames.DataFrame(columns)) == read(csv(tmp_path, LONG))


def test_what_is_no_data_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="must be the path of a CSV file or an eager data frame, got int"):
        read(5)
