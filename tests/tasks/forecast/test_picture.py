"""The picture is drawn for one and several series, with and without a held-out part."""

from pathlib import Path

import numpy as np

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
