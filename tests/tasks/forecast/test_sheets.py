"""What one tries first: files as people have them are read, or one sentence says what is the matter."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.table import Table, read, rows

PLAIN = [("", "2020-01-31", 1.5), ("", "2020-02-01", 2.0)]
NAMED = [("a", "2020-01-31", 1.5), ("a", "2020-02-01", 2.0)]
STEPS = [("", "7", 1.5), ("", "8", 2.0)]

READ: dict[str, tuple[str, dict[str, Any], list[tuple[str, str, float]]]] = {
    "standard": ("unique_id,ds,y\na,2020-01-31,1.5\na,2020-02-01,2\n", {}, NAMED),
    "capitals": ("Unique_ID,DS,Y\na,2020-01-31,1.5\na,2020-02-01,2\n", {}, NAMED),
    "two columns": ("day,load (MW)\n2020-01-31,1.5\n2020-02-01,2\n", {}, PLAIN),
    "two columns turned": ("Y,DS\n1.5,2020-01-31\n2,2020-02-01\n", {}, PLAIN),
    "two columns, one known": ("load,ds\n1.5,2020-01-31\n2,2020-02-01\n", {}, PLAIN),
    "two columns, one named": ("load,when\n1.5,2020-01-31\n2,2020-02-01\n", {"time_col": "when"}, PLAIN),
    "an index without a name": (",ds,y\n0,2020-01-31,1.5\n1,2020-02-01,2\n", {}, PLAIN),
    "a separator at the end": ("ds;y;\n2020-01-31;1,5;\n2020-02-01;2;\n", {}, PLAIN),
    "no header": ("2020-01-31,1.5\n2020-02-01,2\n", {}, PLAIN),
    "no header, blank lines": ("\n\n2020-01-31,1.5\n\n2020-02-01,2\n\n", {}, PLAIN),
    "spaces": ("ds, y\n2020-01-31, 1.5\n2020-02-01 ,2 \n", {}, PLAIN),
    "quotes": ('"ds","y"\n"2020-01-31","1.5"\n"2020-02-01","2"\n', {}, PLAIN),
    "Windows lines": ("ds,y\r\n2020-01-31,1.5\r\n2020-02-01,2\r\n", {}, PLAIN),
    "byte order mark": ("\ufeffds,y\n2020-01-31,1.5\n2020-02-01,2\n", {}, PLAIN),
    "semicolons, decimal commas": ("ds;y\n2020-01-31;1,5\n2020-02-01;2\n", {}, PLAIN),
    "semicolons, no header": ("2020-01-31;1,5\n2020-02-01;2,0\n", {}, PLAIN),
    "tabs": ("ds\ty\n2020-01-31\t1.5\n2020-02-01\t2\n", {}, PLAIN),
    "bars": ("ds|y\n2020-01-31|1.5\n2020-02-01|2\n", {}, PLAIN),
    "a semicolon within a name": ("ds,load; MW\n2020-01-31,1.5\n2020-02-01,2\n", {}, PLAIN),
    "quoted decimal commas": ('ds,y\n2020-01-31,"1,5"\n2020-02-01,"2"\n', {}, PLAIN),
    "thousands": ('ds,y\n2020-01-31,"1,500"\n2020-02-01,"2,000.0"\n', {}, [(*p[:2], 1000 * p[2]) for p in PLAIN]),
    "day first": ("ds,y\n31/01/2020,1.5\n01/02/2020,2\n", {}, PLAIN),
    "month first": ("ds,y\n01/31/2020,1.5\n02/01/2020,2\n", {}, PLAIN),
    "with points": ("ds,y\n31.01.2020,1.5\n01.02.2020,2\n", {}, PLAIN),
    "year first": ("ds,y\n2020/01/31,1.5\n2020/02/01,2\n", {}, PLAIN),
    "eight digits": ("ds,y\n20200131,1.5\n20200201,2\n", {}, PLAIN),
    "one digit": ("ds,y\n2020-1-31,1.5\n2020-2-1,2\n", {}, PLAIN),
    "order asked for": (
        "ds,y\n01/02/2020,1.5\n02/02/2020,2\n",
        {"date_order": "dmy"},
        [("", "2020-02-01", 1.5), ("", "2020-02-02", 2.0)],
    ),
    "spreadsheet": (
        "ds,y\n1/31/2020 1:30 PM,1.5\n2/1/2020 12:00 AM,2\n",
        {},
        [("", "2020-01-31 13:30:00", 1.5), ("", "2020-02-01 00:00:00", 2.0)],
    ),
    "zones": (
        "ds,y\n2020-03-04T05:06:07Z,1.5\n2020-03-04T05:06:07-02:00,2\n",
        {},
        [("", "2020-03-04 05:06:07", 1.5), ("", "2020-03-04 07:06:07", 2.0)],
    ),
    "months": ("Month,Passengers\n2020-01,1.5\n2020-02,2\n", {}, [("", "2020-01-01", 1.5), ("", "2020-02-01", 2.0)]),
    "years": ("ds,y\n2020,1.5\n2021,2\n", {}, [("", "2020-01-01", 1.5), ("", "2021-01-01", 2.0)]),
    "integer time": ("ds,y\n7,1.5\n8,2\n", {}, STEPS),
    "integer time, no header": ("7,1.5\n8,2\n", {}, STEPS),
    "columns by name": (
        "item,when,price,sold\na,2020-01-31,9,1.5\na,2020-02-01,9,2\n",
        {"id_col": "item", "time_col": "when", "target_col": "sold"},
        NAMED,
    ),
    "the time's column by name": ("unique_id,when,y\na,2020-01-31,1.5\na,2020-02-01,2\n", {"time_col": "when"}, NAMED),
    "wide": (
        "date,a,b\n2020-01-31,1.5,3\n2020-02-01,2,4\n",
        {"wide": True},
        NAMED + [("b", n[1], 3 + i) for i, n in enumerate(NAMED)],
    ),
    "wide, times elsewhere": ("a,date\n1.5,2020-01-31\n2,2020-02-01\n", {"wide": True, "time_col": "date"}, NAMED),
}


@pytest.mark.parametrize(("text", "options", "expected"), READ.values(), ids=READ)
def test_files_as_people_have_them(
    tmp_path: Path, text: str, options: dict[str, Any], expected: list[tuple[str, str, float]]
) -> None:
    (tmp_path / "data.csv").write_bytes(text.encode())
    assert rows(read(tmp_path / "data.csv", Reading(**options))) == expected


@pytest.mark.parametrize("missing", ["", "NA", "N/A", "n/a", "NaN", "null", "None", "?", "-", "<NA>", "#N/A"])
def test_words_for_missing_values(tmp_path: Path, missing: str) -> None:
    (tmp_path / "data.csv").write_text(f"ds,y\n1,1\n2,{missing}\n")
    assert math.isnan(rows(read(tmp_path / "data.csv"))[1][2])


def test_a_packed_file(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(b"ds,y\n2020-01-31,1.5\n2020-02-01,2\n"))
    assert rows(read(path)) == PLAIN
    path.write_bytes(gzip.compress(b"ds,y\n" + b"2020-01-31,1.5\n" * 99)[:40])
    with pytest.raises(InputError, match=r"data.csv.gz cannot be read: it is not a whole gzip file"):
        read(path)
    path.write_bytes(b"ds,y\n2020-01-31,1.5\n")
    with pytest.raises(InputError, match=r"data.csv.gz cannot be read: it is not a whole gzip file"):
        read(path)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "empty": ("", {}, "is empty"),
    "blank": ("\n \n", {}, "is empty"),
    "header alone": ("unique_id,ds,y\n", {}, "no rows below its header"),
    "other names": ("a,b,c\n1,2,3\n", {}, "has the columns a, b, c; expected unique_id, ds, y or two columns; id_col"),
    "looks wide": ("date,a,b\n1,2,3\n", {}, "two columns; id_col, time_col and target_col name them, and wide reads"),
    "index and others": (",date,sales\n0,2020-01-31,1.5\n", {}, "has the columns , date, sales; expected"),
    "names as times": ("unique_id,y\na,1\n", {}, "line 2 has the time 'a'"),
    "one column": ("y\n1\n", {}, "has the columns y; expected unique_id, ds, y or two columns"),
    "many columns": (",".join(f"c{i}" for i in range(30)) + "\n", {}, "c7 and 22 more; expected"),
    "time alone": ("when,b,c\n1,2,3\n", {"time_col": "when"}, "; target_col names the other one"),
    "no such column": ("ds,y\n1,1\n", {"time_col": "when"}, "time_col: .* has no column 'when'; its columns are ds, y"),
    "one column for two": ("ds,y\n1,1\n", {"id_col": "ds"}, "must be different columns"),
    "a name twice": ("ds,y,y\n1,1,1\n", {}, "has two columns 'y'"),
    "no date": ("ds,y\nyesterday,1\n", {}, "line 2 has the time 'yesterday'; expected a date"),
    "no such date": ("ds,y\n2020-01-01,1\n2020-13-01,1\n", {}, "line 3 has the time '2020-13-01'"),
    "no number": ("ds,y\n2020-01-01,much\n", {}, "line 2 has the value 'much'; expected a number"),
    "no number, wide": ("ds,a,city\n1,2,Rome\n", {"wide": True}, "line 2, column 'city', has the value 'Rome'"),
    "times alone, wide": ("ds\n1\n", {"wide": True}, "has the column ds alone; wide takes times and"),
    "a long text": ("ds,y\n1," + 99 * "x" + "\n", {}, "line 2 has the value 'x{60}…'; expected a number"),
    "a name of two lines": ('"0\n1"\n1\n', {}, "has the columns 0 1; expected"),
    "infinite": ("ds,y\n2020-01-01,inf\n", {}, "line 2 has the value 'inf'"),
    "too large": ("ds,y\n2020-01-01,1e300\n", {}, "line 2 has the value '1e300'; expected a number from -1e"),
    "ambiguous date": ("ds,y\n01/02/2020,1\n01/03/2020,1\n", {}, "line 2 has the time '01/02/2020'.* date_order"),
    "another order": ("ds,y\n31/01/2020,1\n", {"date_order": "mdy"}, "expected a date .*, or of the order mdy"),
    "ambiguous number": ('ds,y\n1,"1,234"\n', {}, "line 2 has the value '1,234'.* decimal"),
    "unquoted decimal comma": ("ds,y\n2020-01-01,1,5\n", {}, "line 2 has 3 fields, expected 2"),
    "a field more": ("\nds,y\n\n1,1\n2,2,2\n", {}, "line 5 has 3 fields, expected 2"),
    "a field less": ("ds,y\n1,1\n2\n", {}, "line 3 has 1 field, expected 2"),
    "fraction of a second": ("ds,y\n2020-01-01T00:00:00.5,1\n", {}, "expected whole seconds"),
    "zone later": (
        "ds,y\n2020-01-01,1\n2020-01-02T00:00Z,1\n",
        {},
        "line 3 has a time zone in '2020-01-02T00:00Z', but",
    ),
    "zone before": ("ds,y\n2020-01-01T00:00Z,1\n2020-01-02,1\n", {}, "line 3 has no time zone in '2020-01-02', but"),
    "endless field": (
        "ds,y\n2020-01-01," + "1" * 140_000 + "\n",
        {},
        "cannot be read as CSV after 1 rows: field larger",
    ),
}


@pytest.mark.parametrize(("text", "options", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_gets_a_sentence(tmp_path: Path, text: str, options: dict[str, Any], sentence: str) -> None:
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(InputError, match=sentence) as caught:
        read(tmp_path / "data.csv", Reading(**options))
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files_get_a_sentence(tmp_path: Path) -> None:
    for name in ("none.csv", "none.csv.gz", "none.parquet"):
        with pytest.raises(InputError, match=f"there is no file .*{name}"):
            read(tmp_path / name)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read(tmp_path / "b.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


CELLS = st.sampled_from(
    ["2020-01-31", "31/01/2020", "01/02/2020", "20200131", "7", "1,5", "1.5", "?", "", "ds", "y", "é"]
)
TEXTS = st.text(st.sampled_from(',;|\t\n\r"09-/:TZ+. dsyN\0\ufeff'), max_size=60) | st.lists(
    st.lists(CELLS, max_size=4).map(",".join), max_size=5
).map("\n".join)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "date_order": st.sampled_from(["dmy", "mdy", "ymd"]),
        "decimal": st.sampled_from([".", ","]),
        "wide": st.booleans(),
        "numbered": st.booleans(),
    },
)


@given(text=TEXTS, options=CHOICES)
def test_any_file_is_read_or_refused(
    text: str, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "data.csv"
    path.write_bytes(text.encode())
    table, sentence = Table({}, ""), ""
    try:
        table = read(path, Reading(**options))
    except InputError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert bool(table.series) != bool(sentence)
    for times, values in table.series.values():
        assert (times[1:] > times[:-1]).all()
        assert len(times) == len(values) > 0
