"""Forecasts come back in the form of the data: zones, dates and integers, from a loaded model too."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast import Forecaster

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
SMALL: dict[str, Any] = {"horizon": 4, "hidden_size": 4, "max_steps": 2, "n_models": 1}
COUNT = 24 * 8


def hours(zone: str | None, start: str = "2024-03-01", count: int = COUNT) -> Any:
    return pandas.date_range(start, periods=count, freq="h", tz=zone)


def zoned(zone: str | None) -> Any:
    return pandas.DataFrame({"ds": hours(zone), "y": np.arange(COUNT) % 24.0, "promo": np.arange(COUNT) % 5.0})


def saved(model: Forecaster, tmp_path: Path) -> Forecaster:
    model.save(tmp_path / "m")
    return Forecaster.load(tmp_path / "m")


def test_a_zone_is_kept_in_cross_validation_and_by_a_loaded_model(tmp_path: Path) -> None:
    model = Forecaster(**SMALL).fit(zoned("Europe/Berlin"))
    expected, windows = model.predict(), model.cross_validation()
    assert str(expected["ds"].dtype) == "datetime64[us, Europe/Berlin]"
    assert isinstance(windows, pandas.DataFrame)
    assert list(windows["ds"]) == list(hours("Europe/Berlin")[-4:])
    assert set(windows["cutoff"]) == {hours("Europe/Berlin")[-5]}
    again = saved(model, tmp_path)
    pandas.testing.assert_frame_equal(again.predict(), expected)
    pandas.testing.assert_frame_equal(again.cross_validation(), windows)
    again.update(zoned("Europe/Berlin").assign(ds=hours("Europe/Berlin", str(expected["ds"][0])[:10]))[:1])
    again.save(tmp_path / "n")
    assert str(Forecaster.load(tmp_path / "n").predict()["ds"].dtype) == "datetime64[us, Europe/Berlin]"


@pytest.mark.parametrize(("own", "other"), [("Europe/Berlin", None), (None, "Europe/Berlin")])
def test_new_hours_are_in_a_zone_where_those_of_the_fit_are(own: str | None, other: str | None, tmp_path: Path) -> None:
    model = saved(Forecaster(**SMALL, future_cols="promo").fit(zoned(own)), tmp_path)
    new = zoned(other).assign(ds=hours(other, "2024-03-09"))
    for given in (lambda: model.update(new), lambda: model.predict(new)):
        with pytest.raises(InputError, match=r"^data: its times are in .* zone"):
            given()
    with pytest.raises(InputError, match=r"^future: its times are in .* zone"):
        model.predict(future=new[["ds", "promo"]])
    right = zoned(own).assign(ds=hours(own, "2024-03-09"))[["ds", "promo"]]
    assert len(model.predict(future=right)) == 4


def test_days_may_name_no_zone() -> None:
    days = pandas.date_range("2024-01-01", periods=60, tz="Europe/Berlin")
    frame = pandas.DataFrame({"ds": days, "y": np.arange(60) % 7.0})
    model = Forecaster(**SMALL).fit(frame)
    model.update(pandas.DataFrame({"ds": [pandas.Timestamp("2024-03-01")], "y": [1.0]}))
    assert str(model.predict()["ds"][0]) == "2024-03-02 00:00:00+01:00"


@pytest.mark.parametrize("library", [pandas, polars])
def test_integers_and_dates_come_back_as_such(library: Any, tmp_path: Path) -> None:
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(60)]
    frame = library.DataFrame({"unique_id": [7] * 60 + [3] * 60, "ds": days * 2, "y": np.arange(120) % 7.0})
    model = Forecaster(**SMALL).fit(frame)
    for one in (model, saved(model, tmp_path)):
        for found in (one.predict(), one.cross_validation(), one.predict_partition(frame)):
            assert isinstance(found, library.DataFrame)
            assert list(found["unique_id"]) == [7] * 4 + [3] * 4
            if library is polars:
                assert found.schema["ds"] == polars.Date
    assert model.predict_partition(frame[:0])["unique_id"].dtype == model.predict()["unique_id"].dtype


def test_a_damaged_form_gets_a_sentence(tmp_path: Path) -> None:
    saved(Forecaster(**SMALL).fit(zoned("Europe/Berlin")), tmp_path)
    (tmp_path / "m" / "form.json").write_text("{}")
    with pytest.raises(InputError, match=r"form.json"):
        Forecaster.load(tmp_path / "m")
