"""The long table: grouped by series, with those that cannot be used named, written and read back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.table import Table, Unusable, like, read, read_saved, rows, to_csv

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
    table = read(csv(tmp_path, LONG))
    assert list(table.series) == ["a", "b"]
    assert table.series["a"][1][0] == 1.5
    assert math.isnan(table.series["a"][1][1])
    assert table.series["b"][1].tolist() == [-300.0]
    assert rows(table)[2] == ("b", "2020-01-01", -300.0)


def test_rows_in_any_order_and_series_in_the_order_of_their_first_rows(tmp_path: Path) -> None:
    table = read(csv(tmp_path, "unique_id,ds,y\nb,3,3\na,1,4\nb,1,1\n a ,0,5\nb,2,2\n"))
    found = {name: (times.tolist(), values.tolist()) for name, (times, values) in table.series.items()}
    assert found == {"b": ([1, 2, 3], [1, 2, 3]), "a": ([0, 1], [5, 4])}


def test_a_series_with_a_time_twice_is_named_and_stops_no_other(tmp_path: Path) -> None:
    path = csv(tmp_path, "unique_id,ds,y\na,2020-01-02,1\nb,2020-01-01,1\na,2020-01-01,1\n\na,2020-01-02,1\n")
    table = read(path)
    assert list(table.series) == ["b"]
    assert table.unusable == (Unusable("a", f"repeats the time 2020-01-02 in {path} line 6; expected each time once"),)
    assert table.unusable[0].sentence.startswith("series 'a' repeats")


def test_a_wide_table_has_one_series_a_column(tmp_path: Path) -> None:
    table = read(csv(tmp_path, "date,north,south\n2020-01-02,2,\n2020-01-01,1,5\n"), Reading(wide=True))
    assert rows(table)[:2] == [("north", "2020-01-01", 1.0), ("north", "2020-01-02", 2.0)]
    assert math.isnan(table.series["south"][1][1])
    other = read(csv(tmp_path, "north,DS\n1,2020-01-01\n"), Reading(wide=True))
    assert rows(other) == [("north", "2020-01-01", 1.0)]


def test_columns_that_are_not_read_are_listed(tmp_path: Path) -> None:
    path = csv(tmp_path, "unique_id,ds,price,y,promo\na,2020-01-01,9,1,0\n")
    assert read(path).ignored == ("price", "promo")
    assert read(path, Reading(target_col="price")).ignored == ("y", "promo")
    assert read(path, Reading(target_col="price")).label == "price"
    assert read(csv(tmp_path, ",ds,y,\n0,2020-01-31,1.5,\n")).ignored == ("1 without a name", "4 without a name")


@pytest.mark.parametrize("text", [LONG, "ds,y\n2020-01-01 10:30,1\n2020-01-01 11:30,0.1\n", "ds,y\n1,1\n2,3\n"])
def test_writing_and_reading_gives_the_same_table(tmp_path: Path, text: str) -> None:
    table = read(csv(tmp_path, text))
    assert read_saved(csv(tmp_path, to_csv(table))) == table
    assert read(csv(tmp_path, to_csv(table))) == table


def test_integers_of_a_saved_table_are_no_years(tmp_path: Path) -> None:
    table = Table({"a": (np.arange(2000, 2010), np.ones(10))}, "y")
    assert read_saved(csv(tmp_path, to_csv(table))) == table
    assert read(csv(tmp_path, to_csv(table))) != table


NUMBERS = st.floats(-1e30, 1e30) | st.just(math.nan)
DATES = st.integers(-30_000_000_000, 250_000_000_000).map(lambda s: np.datetime64(s, "s"))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1).map(str.strip).filter(bool)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kind = draw(st.sampled_from([DATES, st.integers(-(10**15), 10**15)]))
    series = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        values = draw(st.dictionaries(kind, NUMBERS, min_size=1))
        series[name] = (np.array(sorted(values)), np.array([values[key] for key in sorted(values)], np.float64))
    return Table(series, "y")


@given(table=tables())
def test_any_table_is_written_and_read_back(table: Table, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("saved") / "data.csv"
    path.write_text(to_csv(table), encoding="utf-8", newline="")
    again = read_saved(path)
    assert list(again.series) == list(table.series)
    for name, (times, values) in table.series.items():
        assert again.series[name][0].tolist() == times.tolist()
        np.testing.assert_array_equal(again.series[name][1], values)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("unique_id,ds,y\n", "no rows below its header"),
        ("ds,y\n2020-01-01,1\n2020-01-01,2\n", "the series repeats the time 2020-01-01 in"),
        ("ds,y,shop\n1,1,a\n1,2,b\n", "line 3; expected each time once; id_col names the column that tells series"),
        (
            "unique_id,ds,y\na,1,1\na,1,1\nb,1,1\nb,1,1\n",
            "'a' repeats.*; none of the other 1 series can be used either",
        ),
        ("unique_id,ds,y\na,1,1\n,1,1\n", "line 3 has no unique_id"),
    ],
)
def test_tables_of_which_nothing_can_be_used_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read(csv(tmp_path, text))


def test_forecasts_of_a_file_are_columns(tmp_path: Path) -> None:
    assert like(read(csv(tmp_path, LONG)), {"y": [1.0]}) == {"y": [1.0]}
