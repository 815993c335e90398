"""The picture is drawn for one and several series, with and without a held-out part."""

from pathlib import Path

import numpy as np
import pytest

from gatewise.tasks import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.picture import draw
from gatewise.tasks.forecast.table import Table


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_a_panel_for_each_of_the_first_four_series(tmp_path: Path) -> None:
    times = (np.datetime64("2020-01-01") + np.arange(60)).astype("datetime64[s]")
    series = {name: (times, np.sin(np.arange(60) + i)) for i, name in enumerate("abcdef")}
    forecaster = Forecaster(horizon=5, hidden_size=4, max_steps=2, level=80).fit(Table(series, "height (m)"))
    draw(forecaster, tmp_path / "six.png", forecaster.forecast(forecaster.series))
    short = Table({"a": (times[:4], np.arange(4.0))}, "height (m)")
    chosen = forecaster.chosen_series(short)
    draw(forecaster, tmp_path / "short.png", forecaster.forecast(chosen))
    six, one = (size((tmp_path / name).read_bytes()) for name in ("six.png", "short.png"))
    assert six[0] == one[0]
    assert six[1] > 2.5 * one[1]


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    times = (np.datetime64("2020-01-01") + np.arange(60)).astype("datetime64[s]")
    series = {name: (times, np.sin(np.arange(60) + i)) for i, name in enumerate("abcdef")}
    return Forecaster(horizon=5, hidden_size=4, max_steps=2, level=[80, 95]).fit(Table(series, "height (m)"))


def test_plot_draws_history_held_out_part_forecast_and_intervals(forecaster: Forecaster) -> None:
    drawn = forecaster.plot(ids=["c", "a"])
    panels = drawn.axes
    assert [axes.get_title(loc="left")[0] for axes in panels] == ["c", "a"]
    assert all(axes.get_ylabel() == "height (m)" for axes in panels)
    lines = {line.get_label(): line.get_ydata() for line in panels[0].get_lines()}
    said = forecaster.predict()
    np.testing.assert_allclose(lines["forecast beyond the end"], said["y"][10:15], rtol=1e-6)
    np.testing.assert_array_equal(lines["observed"], forecaster.series[2].values[-19:])
    held_out = forecaster.continue_series(forecaster.series[2], 55)
    np.testing.assert_allclose(lines["gru on the held-out horizon"], held_out, rtol=1e-6)
    bands = [collection.get_paths()[0].vertices[:, 1] for collection in panels[0].collections]
    assert len(bands) == 4
    assert bands[3].max() == pytest.approx(said["y-hi-95"][10:15].max(), rel=1e-6)


def test_plot_is_of_the_first_series_and_as_much_history_as_asked_for(forecaster: Forecaster) -> None:
    assert len(forecaster.plot().axes) == 4
    drawn = forecaster.plot(max_ids=2, max_insample_length=7).axes
    assert len(drawn) == 2
    assert len(drawn[0].get_lines()[0].get_ydata()) == 7
    only = forecaster.plot(max_ids=1, max_insample_length=3).axes[0]  # too little to hold something out of
    assert "gru on the held-out horizon" not in [line.get_label() for line in only.get_lines()]
    short = Table({"x": (np.arange(8).astype("datetime64[D]").astype("datetime64[s]"), np.arange(8.0))}, "y")
    assert forecaster.plot(short).axes[0].get_title(loc="left").startswith("x")


def test_plot_of_what_is_not_there_gets_a_sentence(forecaster: Forecaster) -> None:
    with pytest.raises(InputError, match="ids: there is no series 'z', expected some of 6 that can be forecast"):
        forecaster.plot(ids=["a", "z"])
    for name in ("max_ids", "max_insample_length"):
        with pytest.raises(InputError, match=f"{name} must be an integer of at least 1, got -1"):
            forecaster.plot(**{name: -1})
