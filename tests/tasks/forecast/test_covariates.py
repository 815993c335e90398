"""Further columns of a table: what they are taken as, what they hold, and what is refused."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.covariates import Covariate, recoded
from gatewise.tasks.forecast.table import Table, read, read_ahead, read_saved, to_csv

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
INFER = Reading(infer=True)
LONG = """unique_id,ds,y,price,promo,shop,colour
a,2020-01-01,1,9.5,0,17,red
a,2020-01-02,2,,1,17,blue
a,2020-01-03,,,0,17,red
b,2020-01-01,3,8,1,18,N/A
b,2020-01-02,4,7.5,0,18,green
b,2020-01-03,,,1,18,
"""


def csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "data.csv").write_text(text)
    return tmp_path / "data.csv"


def said(table: Table) -> dict[str, tuple[str, str]]:
    return {column.name: (column.role, column.kind) for column in table.columns}


def test_a_column_is_taken_as_what_it_shows(tmp_path: Path) -> None:
    table = read(csv(tmp_path, LONG), INFER)
    assert said(table) == {
        "price": ("past", "numbers"),
        "promo": ("future", "numbers"),
        "shop": ("static", "numbers"),
        "colour": ("past", "3 words"),  # b has none behind its last value
    }
    np.testing.assert_array_equal(table.extras["b"][:, 0], [8, 7.5, np.nan])
    assert table.columns[3].words == ("red", "blue", "green")
    np.testing.assert_array_equal(table.extras["b"][:, 3], [np.nan, 2, np.nan])
    assert not read(tmp_path / "data.csv").columns


def test_what_is_named_is_taken_as_that_and_nothing_else_is(tmp_path: Path) -> None:
    reading = Reading(covariates={"shop": "static", "price": "future"}, words=("shop",), infer=True)
    table = read(csv(tmp_path, LONG), reading)
    assert said(table) == {"shop": ("static", "2 words"), "price": ("future", "numbers")}
    assert table.columns[0].words == ("17", "18")
    assert table.ignored == ("promo", "colour")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("1;2;3", [1, 2, 3]),
        ("1,5;2;3", [1.5, 2, 3]),
        ("yes;no;", [1, 0, np.nan]),
        ("True;False;FALSE", [1, 0, 0]),
        ("?;2;-1e3", [np.nan, 2, -1000]),
        ("A1;b ;A1", "A1 b"),
        ("1;two;1", "1 two"),
        ("12 %;9 %;", "12 % 9 %"),
    ],
)
def test_numbers_truths_and_words(tmp_path: Path, texts: str, expected: Any) -> None:
    rows = [f"{i};{i};{text}" for i, text in enumerate(texts.split(";"))]
    table = read(csv(tmp_path, "\n".join(["ds;y;x", *rows])), Reading(covariates={"x": "past"}))
    if isinstance(expected, str):
        assert " ".join(table.columns[0].words or ()) == expected
    else:
        assert table.columns[0].words is None
        np.testing.assert_array_equal(table.extras[""][:, 0], expected)


def test_frames_hold_numbers_truths_words_and_dates() -> None:
    days = [datetime(2020, 1, 1 + i) for i in range(4)]
    columns = {"ds": [1, 2, 3, 4], "y": [1, 2, 3, 4], "n": [1.0, None, 3, 4], "b": [True, False, True, True]}
    columns |= {
        "w": ["x", "y", None, "x"],
        "store": [3, 4, 3, 3],
        "when": days,
        "day": ["2020-01-01"] * 3 + ["2020-02-01"],
    }
    for library in (pandas, polars):
        table = read(library.DataFrame(columns), Reading(infer=True, words=("store",)))
        assert said(table) == {name: ("past", kind) for name, kind in zip("nb", ["numbers"] * 2, strict=True)} | {
            "w": ("past", "2 words"),
            "store": ("past", "2 words"),
        }
        assert sorted(table.ignored) == ["day", "when"]
        assert table.columns[3].words == ("3", "4")
        np.testing.assert_array_equal(table.extras[""][:, 0], [1, np.nan, 3, 4])
    categories = pandas.DataFrame({"ds": [1, 2], "y": [1, 2], "c": pandas.Categorical(["1", "2"])})
    assert said(read(categories, INFER)) == {"c": ("past", "2 words")}


def test_columns_that_say_nothing_are_listed_as_not_read(tmp_path: Path) -> None:
    rows = [f"a,{i},{i},,7,remark {i},{'x' * 300},{i % 3}" for i in range(30)]
    table = read(csv(tmp_path, "\n".join(["unique_id,ds,y,empty,same,text,long,good", *rows])), INFER)
    assert list(said(table)) == ["good"]
    assert table.ignored == ("empty", "same", "text", "long")


def test_a_name_for_each_series_is_static_however_many_there_are(tmp_path: Path) -> None:
    rows = [f"{s},{i},{i},town {s}" for s in range(30) for i in range(3)]
    table = read(csv(tmp_path, "\n".join(["unique_id,ds,y,town", *rows])), INFER)
    assert said(table) == {"town": ("static", "30 words")}


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        (Reading(covariates={"cost": "past"}), "past_cols: .* has no column 'cost'; its columns are unique_id"),
        (Reading(covariates={"y": "past"}), "past_cols: 'y' is no covariate, expected a column beside"),
        (
            Reading(covariates={"promo": "static"}),
            "static_cols: 'promo' has several values in series 'a', expected one",
        ),
        (Reading(covariates={"shop": "static"}, words=("size",)), "cat_cols: .* has no column 'size'"),
        (
            Reading(covariates={"colour": "past"}, settled=True),
            "line 2, column 'colour', has the value 'red'; expected",
        ),
    ],
    ids=["unknown", "target", "varies", "words", "settled"],
)
def test_a_column_that_cannot_be_what_is_asked_gets_a_sentence(tmp_path: Path, reading: Reading, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read(csv(tmp_path, LONG), reading)


def test_a_number_that_may_be_two_is_refused_in_a_covariate_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2, column 'x', has the value '1,234', whose comma may part"):
        read(csv(tmp_path, "ds;y;x\n1;1;1,234\n2;2;2,345\n"), INFER)


def test_dates_in_a_frame_are_no_covariate_that_can_be_named() -> None:
    frame = pandas.DataFrame({"ds": [1, 2], "y": [1, 2], "when": pandas.date_range("2020", periods=2)})
    with pytest.raises(InputError, match="the column 'when' holds times, expected numbers or words"):
        read(frame, Reading(covariates={"when": "past"}))


def test_a_table_with_covariates_is_written_and_read_back(tmp_path: Path) -> None:
    table = read(csv(tmp_path, LONG), INFER)
    (tmp_path / "saved.csv").write_text(to_csv(table))
    names = {column.name: column.role for column in table.columns}
    again = read_saved(tmp_path / "saved.csv", Reading(covariates=names, words=("colour",)))
    assert again == table
    assert again.columns == table.columns
    for name, values in table.extras.items():
        np.testing.assert_array_equal(again.extras[name], values)


def test_a_table_of_the_future_needs_no_target(tmp_path: Path) -> None:
    path = csv(tmp_path, "DS,promo,other,y\n2020-01-04,1,5,0\n2020-01-05,0,5,0\n")
    reading = Reading(covariates={"promo": "future", "price": "past"}, target_col="sales")
    table = read_ahead(path, reading)
    np.testing.assert_array_equal(table.extras[""][:, 0], [1, 0])
    assert table.ignored == ("other",)
    with pytest.raises(InputError, match=r"^future: .* has the columns a; expected ds, or time_col"):
        read_ahead(csv(tmp_path, "a\n1\n"), reading)
    with pytest.raises(InputError, match=r"^future: there is no file"):
        read_ahead(tmp_path / "no.csv", reading)
    with pytest.raises(InputError, match=r"^future: .*line 2 has no unique_id") as caught:
        read_ahead(csv(tmp_path, "unique_id,ds,promo\n,1,1\na,1,1\n"), reading)
    assert "data:" not in str(caught.value)
    with pytest.raises(InputError, match=r"^future_cols: .* has no column 'promo'"):
        read_ahead(csv(tmp_path, "ds,y\n1,1\n"), reading)


def test_codes_of_one_table_become_those_of_another_with_new_words_behind() -> None:
    own = [Covariate("c", "past", ("red", "white")), Covariate("n", "past")]
    other = [Covariate("n", "past"), Covariate("c", "past", ("blue", "red"))]
    values, longer = recoded(np.array([[0, 5.0], [1, np.nan], [np.nan, 7]]), own, other)
    np.testing.assert_array_equal(values, [[5, 1], [np.nan, 2], [7, np.nan]])
    assert longer[1].words == ("blue", "red", "white")
