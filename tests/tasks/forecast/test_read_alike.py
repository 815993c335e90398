"""New data are read as those of the fit were: by the decimal mark and the order of dates that these showed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.table import read, rows

SMALL: dict[str, Any] = {"horizon": 4, "hidden_size": 4, "max_steps": 2, "n_models": 1}
DAYS = np.datetime64("2020-01-01") + np.arange(80)


def written(tmp_path: Path, text: str, name: str = "data.csv") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def model_of(tmp_path: Path, lines: list[str], separator: str = ";", saved: bool = False, **options: Any) -> Forecaster:
    model = Forecaster(**SMALL, **options).fit(written(tmp_path, "\n".join([f"ds{separator}y", *lines])))
    if not saved:
        return model
    model.save(tmp_path / "m")
    return Forecaster.load(tmp_path / "m")


@pytest.mark.parametrize("saved", [False, True])
def test_the_decimal_mark_of_the_fit_is_kept(tmp_path: Path, saved: bool) -> None:
    model = model_of(tmp_path, [f"{day};{1000 + i % 7},5" for i, day in enumerate(DAYS)], saved=saved)
    assert model.options.decimal == ","
    model.update(written(tmp_path, "ds;y\n2020-03-21;1.020\n", "new.csv"))
    assert model.series[0].values[-1] == 1020
    with pytest.raises(InputError, match=r"has the value '10.25'; expected a number with a decimal comma"):
        model.update(written(tmp_path, "ds;y\n2020-03-22;10.25\n", "new.csv"))


@pytest.mark.parametrize("saved", [False, True])
def test_the_order_of_dates_of_the_fit_is_kept(tmp_path: Path, saved: bool) -> None:
    lines = [f"{day.astype(object):%d/%m/%Y},{i % 7}" for i, day in enumerate(DAYS)]
    model = model_of(tmp_path, lines, ",", saved)
    assert model.options.date_order == "dmy"
    with pytest.raises(InputError, match=r"the time '03/21/2020'; expected a date .* of the order dmy"):
        model.update(written(tmp_path, "ds,y\n03/21/2020,20\n", "new.csv"))
    model.update(written(tmp_path, "ds,y\n11/04/2020,20\n", "new.csv"))
    assert str(model.series[0].times()[-1])[:10] == "2020-04-11"


def test_what_the_data_do_not_show_stays_open(tmp_path: Path) -> None:
    model = model_of(tmp_path, [f"{day},{i % 7}" for i, day in enumerate(DAYS)], ",")
    assert (model.options.decimal, model.options.date_order) == (None, None)


GERMAN = "ds;y\n30.01.2020;1.234\n31.01.2020;2.345\n"


def test_a_point_that_may_part_thousands_is_refused(tmp_path: Path) -> None:
    for text in (GERMAN, GERMAN.replace(";", ","), GERMAN.replace("2.345", "")):
        with pytest.raises(InputError, match=r"line 2 has the value '1.234', whose point may part .*; decimal, '.'"):
            read(written(tmp_path, text))
    for mark, expected in ((".", 1.234), (",", 1234)):
        assert rows(read(written(tmp_path, GERMAN), Reading(decimal=mark)))[0][2] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.234.567", 1234), ("2.345,5", 1234), ("0.345", 1.234), ("12.5", 1.234)],
)
def test_another_value_settles_it(tmp_path: Path, text: str, expected: float) -> None:
    assert rows(read(written(tmp_path, GERMAN.replace("2.345", text))))[0][2] == expected


def test_the_mark_of_the_values_settles_a_covariate(tmp_path: Path) -> None:
    text = "ds;y;x\n2020-01-30;1,5;1.234\n2020-01-31;2,5;2.345\n"
    assert read(written(tmp_path, text), Reading(infer=True)).extras[""][:, 0].tolist() == [1234, 2345]


def test_points_of_other_files_are_decimal(tmp_path: Path) -> None:
    assert rows(read(written(tmp_path, "ds,y\n2020-01-30,1.234\n2020-01-31,2.345\n")))[0][2] == 1.234
