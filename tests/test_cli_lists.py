"""Options that take several values: with commas, behind each other, or the option again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gatewise.cli.arguments import as_command

Run = Callable[..., tuple[int, str, str]]
FIT = ["--horizon", "4", "--hidden-size", "4", "--max-steps", "2", "--n-models", "1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a table of data that is named by a number, and two covariates of the past."""
    days = np.datetime64("2020-01-01") + np.arange(60)
    rows = [f"{day},{i % 7 + i * i % 11},{i % 5},{i % 3}" for i, day in enumerate(days)]
    (tmp_path / "2020").write_text("\n".join(["ds,y,rain,wind", *rows]) + "\n")
    (tmp_path / "data.csv").write_text((tmp_path / "2020").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--level", "80", "95", "data.csv", "-o", "m"], {"level": "80,95"}),
        (["data.csv", "-o", "m", "--level=80", "95"], {"level": "80,95"}),
        (["data.csv", "--level", "80, 95", "-o", "m"], {"level": "80,95"}),
        (["data.csv", "--level", "80,", "95", "-o", "m"], {"level": "80,95"}),
        (["data.csv", "-o", "m", "--level", "95", "--level", "80", "50,60"], {"level": "50,60,80,95"}),
        (["--lags", "1", "-7", "7", "data.csv", "-o", "m"], {"lags": "-7,1,7"}),
        (["--lags", "1", "--level", "80", "90", "-o", "m", "data.csv"], {"lags": "1", "level": "80,90"}),
        (["data.csv", "-o", "m", "--past-cols", "rain", "--past-cols", "wind"], {"past_cols": "rain,wind"}),
        (["data.csv", "-o", "m", "--past-cols", "rain,wind"], {"past_cols": "rain,wind"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_several_values(run: Run, place: Path, words: list[str], kept: dict[str, str]) -> None:
    code, _, err = run("fit", "forecast", *words, *FIT)
    assert code == 0, err
    options = json.loads((place / "m" / "config.json").read_text())["options"]
    assert {name: options[name] for name in kept} == kept


def test_a_number_that_is_a_file_is_data(run: Run, place: Path) -> None:
    code, _, err = run("fit", "forecast", "--level", "80", "2020", "-o", "m", *FIT)
    assert code == 0, err
    assert json.loads((place / "m" / "config.json").read_text())["options"]["level"] == "80"
    assert "rain" in (place / "m" / "covariates.json").read_text()


@pytest.mark.parametrize("words", [["--level"], ["--level", "80", "--level"]])
def test_an_option_without_a_value(run: Run, place: Path, words: list[str]) -> None:
    code, _, err = run("fit", "forecast", "data.csv", "-o", "m", *words)
    assert (code, err) == (2, "gatewise: Option '--level' requires an argument.\n")


def test_other_options_take_one_number() -> None:
    given = []

    def command(*, size: int = 1) -> None:
        given.append(size)

    assert as_command(command, "one")(["--size", "3"], standalone_mode=False) is None
    assert given == [3]
