"""The recursive strategy end to end: it learns, repeats itself to the bit, never peeks, and does what direct does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.study.observe import reading
from gatewise.tasks import InputError, load
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.grid import regular
from gatewise.tasks.forecast.intervals import calibrated, quantiles
from gatewise.tasks.forecast.paths import drawn
from gatewise.tasks.forecast.recursive import first_of, lags_of, window_of
from gatewise.tasks.forecast.table import Table
from gatewise.tasks.forecast.verbs import FitForecast

pandas = pytest.importorskip("pandas")

SMALL: dict[str, Any] = {
    "strategy": "recursive",
    "horizon": 6,
    "hidden_size": 8,
    "max_steps": 50,
    "n_samples": 40,
    "n_models": 1,
}
MONTHS = (np.datetime64("2010-01") + np.arange(140)).astype("datetime64[s]")


def values(count: int = 120, seed: int = 0) -> np.ndarray:
    t = np.arange(count)
    noise = np.random.default_rng(seed).normal(0, 0.5, count)
    found = 50 + 0.2 * t + 4 * np.sin(2 * np.pi * t / 12) + noise
    found[[17, 50, 51, count - 8]] = np.nan
    return found


def panel(**series: np.ndarray) -> Table:
    return Table({name: (MONTHS[: len(v)], v) for name, v in series.items()}, "y")


DATA = panel(a=values(), b=values(100, 1))


@pytest.fixture(scope="module")
def model() -> Forecaster:
    return Forecaster(**SMALL, level=[80, 95], test_size=18).fit(DATA)


def test_it_learns_and_beats_the_naive_forecast(model: Forecaster) -> None:
    assert model.history.epochs[-1].loss < model.history.epochs[0].loss
    assert model.score(windows=3)["gru"]["MASE"] < 0.9 * model.score(windows=3)["seasonal naive"]["MASE"]


def test_same_seed_same_bits(model: Forecaster) -> None:
    again = Forecaster(**SMALL, level=[80, 95], test_size=18).fit(DATA)
    assert [(e.loss, e.value) for e in again.history.epochs] == [(e.loss, e.value) for e in model.history.epochs]
    np.testing.assert_array_equal(again.predict()["y-lo-95"], model.predict()["y-lo-95"])


def test_a_forecast_does_not_depend_on_the_series_beside_it(model: Forecaster) -> None:
    both, alone = model.predict(DATA), model.predict(panel(b=values(100, 1)))
    for name in ("y", "y-lo-80", "y-hi-95"):
        np.testing.assert_array_equal(both[name][6:], alone[name])


def test_cross_validation_is_predict_on_what_was_known(model: Forecaster) -> None:
    found, row = model.cross_validation(n_windows=4, step_size=4), 0
    for name, (times, known) in DATA.series.items():
        for back in (18, 14, 10, 6):
            end = len(known) - back
            alone = model.predict(Table({name: (times[:end], known[:end])}, "y"))
            part = slice(row, row := row + 6)
            np.testing.assert_array_equal(found["ds"][part], alone["ds"])
            for column in ("", "-lo-80", "-hi-80", "-lo-95", "-hi-95"):
                np.testing.assert_array_equal(found[f"gru{column}"][part], alone[f"y{column}"])


def test_updates_are_as_if_the_rows_had_been_there_and_go_with_the_model(model: Forecaster, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    live = load(tmp_path / "m")
    assert isinstance(live, Forecaster)
    new = values(140)[120:128]
    for k in range(8):
        live.update(Table({"a": (MONTHS[120 + k : 121 + k], new[k : k + 1])}, "y"))
    expected = model.predict(panel(a=np.r_[values(), new], b=values(100, 1)))
    found = live.predict()
    for name in ("ds", "y", "y-hi-95"):
        np.testing.assert_array_equal(found[name], expected[name])
    live.save(tmp_path / "n")
    np.testing.assert_array_equal(load(tmp_path / "n").predict()["y"], found["y"])


def test_what_is_long_ago_is_not_read(model: Forecaster) -> None:
    """So a forecast, and an update, take the same time however long the series."""
    reach = model.context * 2 + model.strategy.reader.lookback  # type: ignore[attr-defined]
    long = np.r_[values(), values(), values()]
    times = (np.datetime64("1990-01") + np.arange(360)).astype("datetime64[s]")
    changed = long.copy()
    changed[: 360 - reach] += 1000
    one, other = (model.predict(Table({"": (times, v)}, "y"))["y"] for v in (long, changed))
    np.testing.assert_array_equal(one, other)


def test_nothing_held_out_is_seen(model: Forecaster) -> None:
    changed = panel(a=np.r_[values()[:-18], np.arange(18.0)], b=np.r_[values(100, 1)[:-18], np.arange(18.0)])
    other = Forecaster(**SMALL, level=[80, 95], test_size=18).fit(changed)
    assert [(e.loss, e.value) for e in other.history.epochs] == [(e.loss, e.value) for e in model.history.epochs]


def test_training_never_sees_the_validation_part() -> None:
    ends = Forecaster(**SMALL)
    ends.read(DATA)
    end = ends.strategy.ends[0]  # type: ignore[attr-defined]
    changed = values()
    changed[end:-6] = 1e3 * np.arange(len(changed) - 6 - end)
    short = {**SMALL, "max_steps": 25, "distribution": "student_t"}
    one, other = (Forecaster(**short).fit(panel(a=v, b=values(100, 1))) for v in (values(), changed))
    assert one.history.epochs[0].loss == other.history.epochs[0].loss
    assert one.history.epochs[0].value != other.history.epochs[0].value
    pairs = zip(one.fitted().parameters(), other.fitted().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Interrupting:
    """A reporter that presses Ctrl-C at a step."""

    def __call__(self, *_: object) -> Interrupting:
        return self

    def __enter__(self) -> Interrupting:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, step: int, loss: float, per_second: float) -> None:
        if step == 33:
            raise KeyboardInterrupt

    def epoch(self, history: object, note: str) -> None: ...


def test_interrupted_and_resumed_equals_uninterrupted(model: Forecaster, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Forecaster(**SMALL, level=[80, 95], test_size=18).fit(DATA, directory=tmp_path, report=Interrupting())
    resumed = Forecaster.resume(tmp_path, DATA)
    assert [(e.loss, e.value) for e in resumed.history.epochs] == [(e.loss, e.value) for e in model.history.epochs]
    np.testing.assert_array_equal(resumed.predict()["y"], model.predict()["y"])
    assert json.loads((tmp_path / "config.json").read_text())["options"]["distribution"] == "student_t"


@pytest.mark.parametrize("cell", ["lstm", "rnn", "mgu"])
def test_any_cell_several_layers_and_networks(cell: str) -> None:
    how = {**SMALL, "max_steps": 3, "n_models": 2, "dropout": 0.1}
    model = Forecaster(**how, cell=cell, num_layers=2).fit(DATA)
    assert np.isfinite(model.predict()["y"]).all()
    assert len(model.fitted().members) == 2  # type: ignore[arg-type]


def test_counts_are_forecast_as_counts() -> None:
    generator = np.random.default_rng(0)
    counts = np.asarray(generator.poisson(2 + np.sin(np.arange(120) * np.pi / 6)), np.float64)
    model = Forecaster(**{**SMALL, "horizon": 3}, level=80).fit(panel(a=counts))
    assert model.options.distribution == "negative_binomial"
    assert model.strategy.sentences() == ["distribution negative_binomial: the values are small counts"]
    found = model.predict()
    for name in ("y", "y-lo-80", "y-hi-80"):
        assert (found[name] == np.rint(found[name])).all()
        assert (found[name] >= 0).all()
    with pytest.raises(InputError, match=r"has the value \d\.5, expected counts"):
        model.predict(panel(a=counts + 0.5))


def test_paths_are_what_the_forecast_is_made_of(model: Forecaster) -> None:
    found, said = model.sample_paths(), model.predict()
    assert found.shape == (2, 40, 6)
    np.testing.assert_array_equal(np.median(found, 1).reshape(-1), said["y"])
    direct = Forecaster(horizon=6, hidden_size=4, max_steps=1, n_models=1).fit(DATA)
    with pytest.raises(InputError, match="sample_paths needs strategy 'recursive', got 'direct'"):
        direct.sample_paths()


def test_few_horizons_make_intervals_narrower_with_caution(model: Forecaster) -> None:
    objective: Any = model.objective()
    objective.validate()
    found = drawn(
        objective.module, objective.past, objective.trial, objective.validation.which, objective.validation.at
    )
    said = np.moveaxis(np.quantile(found, quantiles([80, 95]), axis=1), 0, 2)
    asked = np.array(calibrated(objective.validation.truth, said, [80, 95], objective.validation.horizons))
    horizons = objective.validation.horizons
    assert horizons == pytest.approx(sum(n - end for n, end in zip((102, 82), objective.ends, strict=True)) / 6)
    trust = np.where(asked > 1, 1.0, horizons / (horizons + 2))
    np.testing.assert_allclose(objective.module.widths, asked**trust, rtol=1e-5)
    assert (asked < 1).any()


def test_the_point_is_the_median_or_the_mean(model: Forecaster) -> None:
    mean = Forecaster(**SMALL, level=[80, 95], test_size=18, point="mean").fit(DATA)
    one, other = model.predict(), mean.predict()
    assert (one["y"] != other["y"]).any()
    np.testing.assert_allclose(one["y"], other["y"], rtol=0.02)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"cell": "gru_d"},
            "gru_d is told where values are missing, .* expected a cell of x alone, such as gru, or strategy 'direct'",
        ),
        ({"segment": 4}, "segment needs strategy 'direct', got 'recursive'"),
        ({"lags": [-12]}, "lags of strategy 'recursive' must be above 0, got -12"),
        ({"n_samples": 0}, "n_samples must be an integer of at least 1"),
        ({"n_samples": 2, "n_models": 3}, "n_samples must be at least n_models, 3, got 2"),
        ({"distribution": "cauchy"}, "distribution must be one of student_t, gaussian, negative_binomial"),
        ({"strategy": "direct"}, "n_samples needs strategy 'recursive', got 'direct'"),
    ],
)
def test_options_that_make_no_sense_get_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Forecaster(**{**SMALL, **options})


def test_short_constant_and_unknown_series_are_forecast_beside_others() -> None:
    late = values(80, 2)
    late[-6:-1] = np.nan
    data = panel(a=values(), short=values(60, 3)[:5], flat=np.full(90, 3.1), one=np.r_[1.0, 2.0], late=late)
    model = Forecaster(**SMALL, level=80).fit(data)
    found = model.predict()
    assert np.isfinite(found["y"]).all()
    assert (found["y"][found["unique_id"] == "flat"] == 3.1).all()
    assert np.isfinite(model.predict(panel(other=values(70, 7)))["y"]).all()


def with_covariates(count: int = 150) -> Any:
    """Hours whose value follows a price that is known ahead, and a holiday; a weather that is not."""
    generator = np.random.default_rng(0)
    frame = pandas.DataFrame({"unique_id": "a", "ds": pandas.date_range("2024-01-01", periods=count, freq="h")})
    frame["price"], frame["weather"] = generator.normal(size=count), generator.normal(size=count)
    frame["day"] = np.where(generator.random(count) < 0.2, "holiday", "plain")
    frame["shop"] = "north"
    noise = generator.normal(0, 0.2, count)
    frame["y"] = 40 - 3 * frame["price"] + 4 * (frame["day"] == "holiday") + noise
    frame.loc[count - 6 :, ["y", "weather"]] = np.nan
    return frame


def test_what_is_known_ahead_is_read_and_what_is_not_is_named(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    frame = with_covariates()
    how = {**SMALL, "horizon": 6, "season": 1, "max_steps": 250, "learning_rate": 1e-2}
    model = Forecaster(**how).fit(frame)
    assert [feature.name for feature in model.scheme.features] == ["price", "day"]
    assert "weather" in caplog.text
    blind = Forecaster(**how, covariates="none").fit(frame.iloc[:-6])
    assert model.scores["gru"]["MASE"] < 0.4 * blind.scores["gru"]["MASE"]
    found = model.predict()
    known = 40 - 3 * frame["price"][-6:] + 4 * (frame["day"][-6:] == "holiday")
    assert np.abs(found["y"].to_numpy() - known.to_numpy()).mean() < 1.0
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").predict(frame)["y"], found["y"])
    lacking = frame.iloc[:-2]
    with pytest.raises(InputError, match="has no 'price' for"):
        model.predict(lacking)
    with pytest.raises(InputError, match="past_cols needs strategy 'direct', got 'recursive'"):
        Forecaster(**how, past_cols="weather")


def test_many_origins_have_their_own_covariates() -> None:
    frame = with_covariates()
    model = Forecaster(**{**SMALL, "test_size": 12, "max_steps": 5}).fit(frame)
    found = model.cross_validation(n_windows=2)["gru"]
    values = frame[frame["y"].notna()]
    for k, end in enumerate((len(values) - 12, len(values) - 6)):
        cut = frame.copy()
        cut.loc[end:, "y"] = np.nan
        np.testing.assert_array_equal(model.predict(cut.iloc[: end + 6])["y"], found[6 * k : 6 * k + 6])


def test_the_steps_that_are_read_have_their_times(model: Forecaster) -> None:
    found = reading(model)
    labels, shown = model.positions()
    assert found.labels == labels
    assert len(labels) == found.x.shape[0]
    assert labels[-1] == str(MONTHS[119])[:10]
    assert shown is not None
    assert model.sample_pass() is not None


def test_what_the_data_decide() -> None:
    assert lags_of(84, 12, None) == [1, 2, 3, 11, 12, 13, 24]
    assert lags_of(1000, 24, 168) == [1, 2, 3, 23, 24, 25, 48, 167, 168, 169]
    assert lags_of(84, 12, None, small=True) == [1, 12, 13]
    assert lags_of(7, 1, None) == [1, 2, 3]
    assert (window_of(84, 12, 12, None), window_of(1000, 24, 24, 168), window_of(5, 3, 1, None)) == (28, 333, 2)
    t, lags = np.arange(200), [1, 2, 3, 11, 12, 13]
    season = np.tile(np.random.default_rng(0).normal(0, 9, 12), 17)[:200]
    walk = np.cumsum(np.random.default_rng(1).normal(size=200))
    noise = np.random.default_rng(2).normal(size=200)
    for series, first in [
        (noise, [0, 0, 0, 0, 0, 0]),
        (walk, [1, 0, 0, 0, 0, 0]),
        (season + 0.1 * noise, [0, 0, 0, 0, 1, 0]),
        (season + 2.0 * t + 0.1 * walk, [1, 0, 0, 0, 1, -1]),
    ]:
        assert first_of([series], lags, 12, 6, 24) == first


def test_an_untrained_network_forecasts_as_its_first_weights_say() -> None:
    t = np.arange(120.0)
    data = panel(a=np.tile(np.random.default_rng(0).normal(0, 9, 12), 10) + 2 * t)
    model = Forecaster(**SMALL)
    model.read(data)
    model._untrained()
    series = regular(data).series[0]
    with torch.no_grad():
        model.fitted().members[0].head.bias[1] = -20  # type: ignore[index, union-attr]  # as good as certain
    found = model.strategy.forecasts(model.fitted().eval(), [series], np.zeros(1, np.int64), np.array([114]))
    np.testing.assert_allclose(found[0, :, 0], series.values[114:], atol=0.5)


def test_the_command_line_says_what_was_taken(model: Forecaster, capsys: pytest.CaptureFixture[str]) -> None:
    FitForecast(data=None).after(model)
    assert capsys.readouterr().out == "distribution student_t: the values are not small counts\n"
    asked = Forecaster(**SMALL, distribution="gaussian")
    asked.read(DATA)
    FitForecast(data=None).after(asked)
    assert capsys.readouterr().out == ""


def test_every_network_draws_a_path() -> None:
    few = Forecaster(**{**SMALL, "n_models": None, "n_samples": 2, "max_steps": 1}).fit(DATA)
    assert few.options.n_models == 2
    assert few.sample_paths().shape == (2, 2, 6)
