"""What of the data cannot be used is named, and the rest is fitted, forecast and scored."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from gatewise.tasks import InputError, load
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.notes import print_unusable
from gatewise.tasks.forecast.table import Unusable, read
from gatewise.tasks.forecast.verbs import PredictForecast

SMALL = {"horizon": 5, "hidden_size": 3, "max_steps": 2, "season": 5}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sales on business days of two shops; of c for nine days, of d none, of e twice on a day, and their price."""
    days = [f"{d:%d/%m/%Y}" for d in np.busday_offset("2020-01-02", np.arange(60)).tolist()]
    lines = ["Shop;DS;Y;price"]
    for shop, count in (("a", 60), ("b", 60), ("c", 9)):
        lines += [f"{shop};{day};{i % 5},{i * i % 7};9" for i, day in enumerate(days[:count])]
    lines += ["d;01/02/2020;?;9", "e;01/02/2020;1;9", "e;01/02/2020;1;9"]
    path = tmp_path_factory.mktemp("mixed") / "sales.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def fitted(mixed: Path) -> Forecaster:
    return Forecaster(**SMALL, id_col="Shop").fit(mixed)


def test_the_rest_is_fitted_and_what_is_left_out_is_said_once(mixed: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gatewise"):
        forecaster = Forecaster(**SMALL, id_col="Shop").fit(mixed)
    assert [series.name for series in forecaster.series] == [
        "a",
        "b",
        "c",
    ]  # c is short, and trained on beside the others
    assert [one.unique_id for one in forecaster.unusable] == ["e", "d"]
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "data: not read: the column price"
    assert second.startswith("data: 2 series cannot be used; series 'e' repeats the time 2020-02-01 in")


def test_forecasts_of_business_days_have_no_weekend(fitted: Forecaster) -> None:
    columns = fitted.predict()
    assert columns["unique_id"].tolist() == [*"aaaaabbbbbccccc"]
    assert np.is_busday(columns["ds"].astype("datetime64[D]")).all()


def test_a_saved_model_has_the_same_series_and_reads_new_data_alike(
    fitted: Forecaster, mixed: Path, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert isinstance(again, Forecaster)
    assert again.score() == fitted.score()
    assert again.predict(mixed)["unique_id"].tolist() == [*"aaaaabbbbbccccc"]
    assert [one.unique_id for one in again.unusable] == ["e", "d"]
    assert again.score(mixed) != again.score()  # shop c is scored there, and too short in training
    (tmp_path / "short.csv").write_text("Shop,DS,Y\nx,2020-01-02,1\ny,2020-01-02,1\n")
    with pytest.raises(InputError, match="series 'x' has 1 values, expected at least 2; none of the other 1 series"):
        again.predict(tmp_path / "short.csv")


def test_a_run_of_integer_time_that_looks_like_years_is_loaded_as_integers(tmp_path: Path) -> None:
    lines = [f"{i},{i % 5 + i * i % 3}" for i in range(990, 1050)]
    (tmp_path / "data.csv").write_text("\n".join(["ds,y", *lines]))
    forecaster = Forecaster(**SMALL).fit(tmp_path / "data.csv", directory=tmp_path / "run")
    assert read(tmp_path / "data.csv", Reading(numbered=True)) == forecaster.table
    later = tmp_path / "later.csv"
    later.write_text("\n".join(["ds,y", *lines[-30:]]))
    for task in (forecaster, load(tmp_path / "run")):
        assert task.predict()["ds"].tolist() == [1050, 1051, 1052, 1053, 1054]
        assert task.predict(later)["ds"].tolist() == task.predict()["ds"].tolist()  # by themselves they would be years


def test_options_that_contradict_the_data_get_a_sentence(mixed: Path) -> None:
    for options, sentence in [
        ({"freq": "W"}, "series 'a' has one value every business day, expected one every week"),
        ({"date_order": "mdy"}, "has the time '13/01/2020'; expected a date .* order mdy"),
        ({"id_col": "shop"}, "id_col: .* has no column 'shop'; its columns are Shop, DS, Y, price"),
    ]:
        with pytest.raises(InputError, match=sentence):
            Forecaster(**{**SMALL, "id_col": "Shop", **options}).fit(mixed)
    with pytest.raises(InputError, match="wide: every column but the times is a series, expected no target_col"):
        Forecaster(wide=True, target_col="y")


def test_ten_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_unusable([])
    assert capsys.readouterr().out == ""
    print_unusable([Unusable(f"s{i}", "has nothing") for i in range(12)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["cannot", "be", "used", "because", "it"]
    assert lines[10].split() == ["s9", "has", "nothing"]
    assert lines[11] == "… and 2 more series"


def test_the_command_lists_them(
    fitted: Forecaster, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = PredictForecast(data=mixed, output=tmp_path / "out")
    verb.run(fitted, tmp_path, json=True)
    unusable = json.loads(capsys.readouterr().out)["unusable"]
    assert [(one["unique_id"], one["reason"][:11]) for one in unusable] == [("e", "repeats the"), ("d", "has missing")]
    verb.run(fitted, tmp_path, json=False)
    assert "has missing values only" in capsys.readouterr().out
