"""The tables of readings in the documentation are true: each row is read from a file as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.table import read, rows

PAGE = (Path(__file__).parents[3] / "docs" / "forecasting.md").read_text()


def documented(column: str) -> list[tuple[list[str], str]]:
    """The texts of a column and what is said of them."""
    table = PAGE.partition(f"| `{column}` of the rows | read as |\n|---|---|\n")[2].partition("\n\n")[0]
    found = []
    for line in table.splitlines():
        texts, said = line.strip("| ").split(" | ")
        found.append((re.findall(r"`(.*?)`", texts), said))
    return found


TIMES, VALUES = documented("ds"), documented("y")


def test_the_tables_are_found() -> None:
    assert (len(TIMES), len(VALUES)) == (17, 10)


@pytest.mark.parametrize(("texts", "said"), TIMES, ids=str)
def test_times(tmp_path: Path, texts: list[str], said: str) -> None:
    lines = [f"{i};{text};1" for i, text in enumerate(texts)]
    (tmp_path / "data.csv").write_text("\n".join(["unique_id;ds;y", *lines]))
    check(tmp_path, said, 1)


@pytest.mark.parametrize(("texts", "said"), VALUES, ids=str)
def test_values(tmp_path: Path, texts: list[str], said: str) -> None:
    lines = [f"{i};1;{text}" for i, text in enumerate(texts)]
    (tmp_path / "data.csv").write_text("\n".join(["unique_id;ds;y", *lines]))
    check(tmp_path, said, 2)


def check(place: Path, said: str, column: int) -> None:
    refused = said.removeprefix("refused: ")
    if refused != said:
        with pytest.raises(InputError, match=re.escape(refused)):
            read(place / "data.csv")
        return
    found = [str(row[column]) for row in rows(read(place / "data.csv"))]
    full = [f"{text} 00:00:00" if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text for text in found]
    assert found == said.split(", ") or full == said.split(", ")


@pytest.mark.parametrize("missing", ["NA", "N/A", "NaN", "null", "None", "?", "-"])
def test_words_for_missing_values(missing: str) -> None:
    assert f"`{missing}`" in PAGE  # test_sheets reads them
