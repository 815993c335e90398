"""Many origins, updates, refitting, and panels of many, short and constant series."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks import InputError, load
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.metrics import mase, naive_error, rmsse, smape
from gatewise.tasks.forecast.table import Table
from gatewise.tasks.forecast.verbs import ScoreForecast

SMALL: dict[str, Any] = {"horizon": 6, "hidden_size": 8, "max_steps": 60}
MONTHS = (np.datetime64("2010-01") + np.arange(140)).astype("datetime64[s]")


def values(count: int = 120, seed: int = 0) -> np.ndarray:
    t = np.arange(count)
    noise = np.random.default_rng(seed).normal(0, 0.5, count)
    return 50 + 0.2 * t + 4 * np.sin(2 * np.pi * t / 12) + noise


def panel(**series: np.ndarray) -> Table:
    return Table({name: (MONTHS[: len(v)], v) for name, v in series.items()}, "y")


DATA = panel(a=values(), b=values(100, 1))


@pytest.fixture(scope="module")
def model() -> Forecaster:
    return Forecaster(**SMALL, level=[80, 95], test_size=18, n_models=2).fit(DATA)


def test_cross_validation_is_predict_on_what_was_known(model: Forecaster) -> None:
    found = model.cross_validation(n_windows=3, step_size=4)
    assert list(found) == ["unique_id", "ds", "cutoff", "y", "gru", "gru-lo-80", "gru-hi-80", "gru-lo-95", "gru-hi-95"]
    assert len({len(column) for column in found.values()}) == 1
    row = 0
    for name, (times, known) in DATA.series.items():
        for back in (14, 10, 6):
            end = len(known) - back
            alone = model.predict(Table({name: (times[:end], known[:end])}, "y"))
            part = slice(row, row := row + 6)
            assert (found["unique_id"][part] == name).all()
            assert (found["cutoff"][part] == times[end - 1]).all()
            np.testing.assert_array_equal(found["ds"][part], alone["ds"])
            np.testing.assert_array_equal(found["y"][part], known[end : end + 6])
            for column in ("", "-lo-80", "-hi-80", "-lo-95", "-hi-95"):
                np.testing.assert_allclose(found[f"gru{column}"][part], alone[f"y{column}"], rtol=1e-6)


def test_scores_are_those_of_the_rolling_forecasts(model: Forecaster) -> None:
    found, score = model.cross_validation(n_windows=3), model.score(windows=3)
    expected = []
    for name, (_, known) in DATA.series.items():
        mine = found["unique_id"] == name
        y, said, past = found["y"][mine], found["gru"][mine], known[:-18]
        expected.append([mase(y, said, naive_error(past, 12)), smape(y, said), rmsse(y, said, past, 12)])
    gru, naive = score["gru"], score["seasonal naive"]
    assert [gru[m] for m in ("MASE", "sMAPE", "RMSSE")] == pytest.approx(np.mean(expected, 0).tolist())
    assert gru["OWA"] == pytest.approx((gru["MASE"] / naive["MASE"] + gru["sMAPE"] / naive["sMAPE"]) / 2)
    inside = (found["gru-lo-80"] <= found["y"]) & (found["y"] <= found["gru-hi-80"])
    assert gru["coverage 80"] == pytest.approx(100 * (inside[:18].mean() + inside[18:].mean()) / 2)
    assert gru["coverage 95"] >= gru["coverage 80"] > 30


def test_intervals_hold_the_point_and_wider_levels_hold_narrower_ones(model: Forecaster) -> None:
    found = model.predict()
    assert (found["y-lo-80"] <= found["y"]).all()
    assert (found["y"] <= found["y-hi-80"]).all()
    assert (found["y-lo-95"] <= found["y-lo-80"]).all()
    assert (found["y-hi-80"] <= found["y-hi-95"]).all()
    assert (found["y-hi-95"] - found["y-lo-95"]).mean() > (found["y-hi-80"] - found["y-lo-80"]).mean()


def test_nothing_of_the_test_part_is_seen() -> None:
    changed = panel(a=np.r_[values()[:-18], np.arange(18.0)], b=np.r_[values(100, 1)[:-18], np.arange(18.0)])
    one, other = (Forecaster(**SMALL, test_size=18, level=80).fit(data) for data in (DATA, changed))
    assert [(e.loss, e.value) for e in one.history.epochs] == [(e.loss, e.value) for e in other.history.epochs]


def test_updates_are_as_if_the_rows_had_been_there(model: Forecaster, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    live = load(tmp_path / "m")
    assert isinstance(live, Forecaster)
    new = values(126)[120:]
    for k in range(6):
        live.update(Table({"a": (MONTHS[120 + k : 121 + k], new[k : k + 1])}, "y"))
    expected = model.predict(panel(a=np.r_[values(), new], b=values(100, 1)))
    found = live.predict()
    np.testing.assert_array_equal(found["ds"], expected["ds"])
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-6)
    live.update(Table({"b": (MONTHS[102:103], np.array([51.0]))}, "y"))  # a step was left out
    assert np.isnan(live.series[1].values[100:102]).all()
    live.save(tmp_path / "n")
    np.testing.assert_array_equal(load(tmp_path / "n").predict()["y"], live.predict()["y"])


def test_updates_that_do_not_fit_are_refused_and_nothing_is_taken(model: Forecaster) -> None:
    before = model.predict()["y"]
    for name, start, sentence in (("c", 130, "no series 'c'"), ("a", 119, "is not after its end")):
        with pytest.raises(InputError, match=sentence):
            model.update(
                Table({"b": (MONTHS[101:102], np.ones(1)), name: (MONTHS[start : start + 1], np.ones(1))}, "y")
            )
    days = np.array(["2020-02-03", "2020-02-20"], "datetime64[s]")
    with pytest.raises(InputError, match="must lie on different steps"):
        model.update(Table({"a": (days, np.ones(2))}, "y"))
    np.testing.assert_array_equal(model.predict()["y"], before)


def test_refitting_trains_by_what_was_known_at_each_origin() -> None:
    data = panel(a=values())
    model = Forecaster(**SMALL, level=80).fit(data)
    found = model.cross_validation(n_windows=2, refit=True)
    for k, end in enumerate((108, 114)):
        alone = Forecaster(**SMALL, level=80).fit(panel(a=values()[: end + 6]))
        np.testing.assert_array_equal(found["gru"][6 * k : 6 * k + 6], alone.cross_validation()["gru"])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"n_windows": 0}, "n_windows must be an integer of at least 1, got 0"),
        ({"step_size": 0}, "step_size must be an integer of at least 1, got 0"),
        ({"n_windows": 17}, "begins 102 steps before the end, but series 'b' has 100 values"),
    ],
)
def test_windows_that_do_not_fit_get_a_sentence(model: Forecaster, how: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model.cross_validation(**how)


def test_short_constant_and_late_series_are_forecast_beside_others() -> None:
    late = np.r_[np.nan, np.nan, values(80, 2)]
    late[-6:] = np.nan
    late[-1] = 60.0
    data = panel(a=values(), short=values(5, 3), flat=np.full(90, 3.0), one=np.r_[1.0, 2.0], late=late)
    model = Forecaster(**SMALL, level=80).fit(data)
    found = model.predict()
    assert np.isfinite(found["y"]).all()
    assert (found["y"][found["unique_id"] == "flat"] == 3).all()
    assert np.isfinite(model.scores["gru"]["MASE"])


def test_thousands_of_series_train_in_memory_of_their_own_size() -> None:
    generator = np.random.default_rng(0)
    data = Table({f"s{i}": (MONTHS[:30], generator.normal(10, 1, 30)) for i in range(3000)}, "y")
    model = Forecaster(horizon=2, hidden_size=4, max_steps=3, season=4).fit(data)
    assert len(model.predict()["y"]) == 6000
    objective: Any = model.objective()
    assert objective.panel.flat.nbytes < 3000 * 8 * (30 + model.context + 3)
    assert len(objective.which) <= 2048


def test_options_that_the_data_decide_are_kept_and_may_be_given() -> None:
    model = Forecaster(**SMALL).fit(DATA)
    assert (model.options.segment, model.options.n_models) == (12, 3)
    assert model.context % 12 == 0
    asked = Forecaster(**SMALL, window=17, segment=5, lags=[1], n_models=1).fit(DATA)
    assert (asked.context, asked.options.repeats, asked.options.n_models) == (20, [1], 1)


def test_origins_that_the_fit_has_seen_are_said(caplog: pytest.LogCaptureFixture) -> None:
    model = Forecaster(**SMALL).fit(panel(a=values()))
    caplog.clear()
    model.cross_validation()
    model.cross_validation(n_windows=2, refit=True)
    model.cross_validation(panel(a=values()), n_windows=2)
    assert not [r for r in caplog.records if "no test of it" in r.message]
    for call in (lambda: model.cross_validation(n_windows=3), lambda: model.score(windows=3)):
        caplog.clear()
        call()
        said = [r.message for r in caplog.records if "no test of it" in r.message]
        assert said == [
            "The fit has seen all but the last 6 steps: forecasts from origins before them are no test of it "
            "(fit with a test_size of 18)."
        ]


def test_the_command_says_so_too(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = Forecaster(**SMALL).fit(panel(a=values()))
    caplog.clear()
    ScoreForecast(windows=3).run(model, tmp_path, json=False)
    assert "(fit with a test_size of 18)." in capsys.readouterr().out
    assert not caplog.records  # it is said once
    ScoreForecast(windows=3).run(model, tmp_path, json=True)
    assert [text[-29:] for text in json.loads(capsys.readouterr().out)["remarks"]] == ["(fit with a test_size of 18)."]
    assert len(caplog.records) == 1


def test_a_better_naive_forecast_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    data = panel(a=np.random.default_rng(0).permutation(np.tile(np.arange(12.0), 9)))
    model = Forecaster(horizon=6, strategy="steps", hidden_size=2, max_steps=1).fit(data)
    worse = [r.message for r in caplog.records if r.message.startswith("The model is worse than the naive baseline")]
    assert len(worse) == (model.scores["gru"]["MASE"] > min(model.scores[n]["MASE"] for n in list(model.scores)[1:]))
    assert len(worse) == 1
