"""Forecasters with covariates: what decides y is used, kept and asked for, and nothing of the future leaks."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.tasks import InputError, load
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.verbs import FitForecast, PredictForecast

pandas = pytest.importorskip("pandas")
HORIZON = 6
OPTIONS: dict[str, Any] = {"horizon": HORIZON, "season": 6, "hidden_size": 16, "max_steps": 250, "n_models": 1}
OPTIONS |= {"learning_rate": 0.02}


def shops(days: int = 150, names: str = "ab", behind: int = HORIZON) -> Any:
    """Sales of shops that follow the promotions, the flavour, and the size of the shop; a promotion is no habit."""
    parts = []
    for i, name in enumerate(names):
        random = np.random.default_rng(i)
        promo = (random.random(200) < 0.3).astype(float)[:days]
        flavour = random.choice(["plain", "mint", "plum"], 200)[:days]
        add = np.array([{"plain": 0.0, "mint": 4.0, "plum": -4.0}[word] for word in flavour])
        y = 30 + 10 * i + 8 * promo + add + random.normal(0, 0.3, 200)[:days]
        y[days - behind :] = np.nan
        when = pandas.date_range("2020-01-01", periods=days)
        parts.append(pandas.DataFrame({"unique_id": name, "ds": when, "y": y, "promo": promo, "flavour": flavour}))
        parts[-1]["size"] = i
    return pandas.concat(parts, ignore_index=True)


def weights(model: Forecaster) -> list[torch.Tensor]:
    return [p.clone() for p in model.fitted().state_dict().values()]


@pytest.fixture(scope="module")
def table() -> Any:
    return shops()


@pytest.fixture(scope="module")
def model(table: Any) -> Forecaster:
    return Forecaster(**OPTIONS, level=80).fit(table)


def test_what_decides_y_is_used(model: Forecaster, table: Any) -> None:
    known = table.dropna(subset=["y"])
    without = Forecaster(**OPTIONS, covariates="none").fit(known)
    assert model.scores["gru"]["MASE"] < 0.55 * without.scores["gru"]["MASE"]
    truth = shops(behind=0)
    came = np.concatenate([truth[truth.unique_id == name].y.to_numpy()[-HORIZON:] for name in "ab"])
    assert np.abs(model.predict()["y"] - came).mean() < 3  # a promotion is 8, a flavour 4
    assert not without.scheme


def test_the_calendar_is_used_where_it_is_asked_for() -> None:
    hours = np.arange(24 * 80)
    days = np.random.default_rng(0).permutation(np.arange(80) % 2)[hours // 24]  # so that the last days say nothing
    times = pandas.date_range("2020-01-06", periods=len(hours), freq="h")
    y = 5.0 * (times.day_of_week >= 5) + np.sin(hours / 24 * 2 * np.pi) + 0.2 * days
    frame = pandas.DataFrame({"ds": times, "y": y})
    options = {"horizon": 24, "window": 24, "lags": "1,24", "max_steps": 150, "hidden_size": 16, "test_size": 24 * 14}
    options["learning_rate"] = 0.02
    plain, told = (Forecaster(**options, calendar=calendar).fit(frame) for calendar in (False, True))
    errors = [m.score(windows=14)["gru"]["MASE"] for m in (plain, told)]
    assert errors[1] < 0.6 * errors[0]


def test_static_covariates_tell_series_apart_that_training_did_not_see() -> None:
    def panel(count: int, seed: int) -> Any:
        """What a promotion does depends on the kind of a shop; most windows have seen none."""
        parts = []
        for i in range(count):
            random, way = np.random.default_rng(seed + i), 1 if i % 2 else -1
            promo = (random.random(100) < 0.1).astype(float)
            promo[90:93] = [0, 0, 1] if count == 2 else promo[90:93]
            frame = pandas.DataFrame({"unique_id": f"s{seed + i}", "ds": np.arange(100), "promo": promo})
            frame["y"] = 6 * way * promo + random.normal(0, 1, 100)
            parts.append(frame.assign(kind="loved" if i % 2 else "hated"))
        return pandas.concat(parts)

    options = {"horizon": 3, "window": 8, "max_steps": 350, "hidden_size": 16, "lags": "1", "learning_rate": 0.02}
    model = Forecaster(**options, future_cols="promo", static_cols="kind", n_models=1).fit(panel(100, 0))
    new = panel(2, 999)
    said = model.predict(new.assign(y=new.y.where(new.ds < 90)))["y"].to_numpy().reshape(2, 3)
    assert said[0, 2] - said[0, 1] < -1
    assert said[1, 2] - said[1, 1] > 1


def test_saved_loaded_and_pickled_it_is_the_same(model: Forecaster, table: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert isinstance(again, Forecaster)
    assert again.scheme == model.scheme
    assert again.scores == again.score() == model.scores
    for other in (again, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(np.asarray(other.predict()["y"]), model.predict()["y"])
        np.testing.assert_array_equal(other.predict(table)["y-lo-80"], model.predict()["y-lo-80"])
    assert json.loads((tmp_path / "m" / "covariates.json").read_text())["covariates"][0]["name"] == "promo"
    for text in ("{}", '{"covariates": [{"name": "promo"}]}', '{"covariates": 3}'):
        (tmp_path / "m" / "covariates.json").write_text(text)
        with pytest.raises(InputError, match="is damaged"):
            load(tmp_path / "m")


def test_resumed_it_is_the_same(table: Any, tmp_path: Path) -> None:
    how = {**OPTIONS, "max_steps": 50}
    whole = Forecaster(**how).fit(table, directory=tmp_path / "m")
    for name in ("metrics.json", "model.safetensors"):
        (tmp_path / "m" / name).unlink()
    again = Forecaster.resume(tmp_path / "m", table)
    assert all(torch.equal(a, b) for a, b in zip(weights(again), weights(whole), strict=True))
    with pytest.raises(InputError, match="data: differs"):
        Forecaster.resume(tmp_path / "m", table.assign(promo=1 - table.promo))


def test_what_lies_behind_training_does_not_reach_it(table: Any) -> None:
    """Neither the scheme nor the weights know of covariates of the past, or words, that the held-out part alone has."""
    how = {**OPTIONS, "max_steps": 25}
    end = table.groupby("unique_id").cumcount() >= 144 - HORIZON
    table = table.dropna(subset=["y"])
    first = Forecaster(**how, past_cols="promo,flavour").fit(table)
    other = table.assign(promo=table.promo.where(~end, 50), flavour=table.flavour.where(~end, "lemon"))
    second = Forecaster(**how, past_cols="promo,flavour").fit(other)
    assert first.scheme == second.scheme
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    assert first.scores == second.scores  # the window before the held-out horizon is the same


def test_past_covariates_are_read_up_to_the_origin_and_no_further(table: Any) -> None:
    model = Forecaster(**{**OPTIONS, "max_steps": 25}, past_cols="promo").fit(table.dropna(subset=["y"]))
    series = model.series[0]
    end = len(series.values) - 2 * HORIZON
    before = model.continue_series(series, end)
    assert series.extras is not None
    series.extras[end:] = 9
    np.testing.assert_array_equal(model.continue_series(series, end), before)
    series.extras[end - 1] = 9
    assert not np.array_equal(model.continue_series(series, end), before)


def test_the_horizon_comes_from_a_table_of_its_own(model: Forecaster, table: Any, tmp_path: Path) -> None:
    ahead = table[table.y.isna()].drop(columns=["y", "size"])
    expected = model.predict()["y"].to_numpy()
    known = table.dropna(subset=["y"])
    np.testing.assert_array_equal(model.predict(known, future=ahead)["y"], expected)
    np.testing.assert_array_equal(
        model.predict(future=table.drop(columns="size"))["y"], expected
    )  # more rows do no harm
    turned = ahead.assign(promo=1 - ahead.promo)
    change = model.predict(future=turned)["y"].to_numpy() - expected
    assert (np.sign(change) == np.sign(turned.promo - ahead.promo)).all()
    assert (np.abs(change) > 3).all()
    ahead.to_csv(tmp_path / "ahead.csv", index=False)
    known.to_csv(tmp_path / "known.csv", index=False)
    verb = PredictForecast(history=tmp_path / "known.csv", future=tmp_path / "ahead.csv", output=tmp_path / "out")
    verb.run(model, tmp_path, json=True)
    found = pandas.read_csv(tmp_path / "out" / "forecast.csv")
    np.testing.assert_array_equal(found["y"], expected)
    both = PredictForecast(data=tmp_path / "known.csv", history=tmp_path / "known.csv")
    with pytest.raises(InputError, match=r"history: got .* beside DATA .*, expected one of them"):
        both.run(model, tmp_path, json=True)


def test_what_is_missing_ahead_gets_a_sentence(model: Forecaster, table: Any) -> None:
    known = table.dropna(subset=["y"])
    ahead = table[table.y.isna()].drop(columns=["y", "size"])
    with pytest.raises(InputError, match="future: series 'a' has no 'promo' for 2020-05-24, expected the covariates"):
        model.predict(known)
    gap = ahead.drop(ahead[(ahead.unique_id == "b") & (ahead.ds == "2020-05-26")].index)
    with pytest.raises(InputError, match="future: series 'b' has no 'promo' for 2020-05-26"):
        model.predict(known, future=gap)
    blank = ahead.assign(flavour=ahead.flavour.where(ahead.ds != "2020-05-25", None))
    with pytest.raises(InputError, match="future: series 'a' has no 'flavour' for 2020-05-25"):
        model.predict(known, future=blank)
    with pytest.raises(InputError, match="future: series 'b' has no rows in it"):
        model.predict(known, future=ahead[ahead.unique_id == "a"])
    with pytest.raises(InputError, match="future_cols: the data frame has no column 'promo'"):
        model.predict(known, future=ahead.drop(columns="promo"))
    with pytest.raises(InputError, match="future: series 'a' has integers for times"):
        model.predict(known, future=ahead.assign(ds=np.arange(len(ahead))))
    with pytest.raises(InputError, match="future_cols: the data frame has no column 'promo'"):
        model.predict(known.drop(columns=["promo", "flavour"]))
    with pytest.raises(InputError, match="static_cols: the data frame has no column 'size'"):
        model.predict(known.drop(columns="size"), future=ahead)
    plain = Forecaster(horizon=6, hidden_size=3, max_steps=1, covariates="none").fit(known)
    with pytest.raises(InputError, match="future: the model knows no covariates ahead, expected none"):
        plain.predict(future=ahead)


def test_missing_covariates_are_masked(table: Any) -> None:
    random = np.random.default_rng(0)
    holes = table.assign(promo=table.promo.where(random.random(len(table)) > 0.2))
    model = Forecaster(**OPTIONS).fit(holes)
    assert [f.gaps for f in model.scheme.features] == [True, False, False]
    assert np.isfinite(model.predict()["y"]).all()  # some of its promotions are unknown
    assert model.scores["gru"]["MASE"] < model.scores["seasonal naive"]["MASE"]
    none = holes.assign(promo=holes.promo.where(~holes.y.isna()))
    assert np.isfinite(model.predict(none)["y"]).all()
    with pytest.raises(InputError, match="no 'promo' for 2020-05-24"):
        model.predict(none.assign(flavour=none.flavour.where(~none.y.isna(), None)))


def test_a_word_that_training_did_not_see_is_said_once(
    model: Forecaster, table: Any, caplog: pytest.LogCaptureFixture
) -> None:
    strange = table.assign(flavour=table.flavour.replace("plum", "fig"))
    with caplog.at_level(logging.WARNING, "gatewise"):
        said = model.predict(strange)["y"]
    assert [r.getMessage() for r in caplog.records] == [
        "data: the column flavour has a word that training did not see, such as 'fig'"
    ]
    assert np.isfinite(said).all()
    other = table.assign(flavour=table.flavour.replace("plum", "kiwi"))
    np.testing.assert_array_equal(model.predict(other)["y"], said)  # all of them are one code


def test_updates_bring_covariates(model: Forecaster, table: Any, tmp_path: Path) -> None:
    truth = shops(170, behind=0)
    days = truth.groupby("unique_id").cumcount()
    live = pickle.loads(pickle.dumps(model))
    one, two = (truth[(days >= 144 + k) & (days < 145 + k)] for k in (0, 1))
    ahead = truth[(days > 145) & (days < 152)].assign(y=np.nan, flavour="fig")
    live.update(one).update(pandas.concat([two, ahead]))
    now = pandas.concat([truth[days < 146], ahead]).sort_values(["unique_id", "ds"], kind="stable")
    expected = model.predict(now)
    np.testing.assert_array_equal(live.predict()["y"], expected["y"])
    assert live.predict()["ds"].iloc[0] == pandas.Timestamp("2020-05-26")
    live.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert isinstance(again, Forecaster)
    np.testing.assert_array_equal(again.predict()["y"], expected["y"])
    assert again.scheme == model.scheme


def test_many_origins_take_the_covariates_of_the_table(model: Forecaster, table: Any) -> None:
    found = model.cross_validation(n_windows=3, step_size=2)
    truth = shops(behind=0)
    last = truth[truth.unique_id == "a"].y.to_numpy()[144 - HORIZON : 144]
    np.testing.assert_array_equal(found["y"].to_numpy().reshape(2, 3, HORIZON)[0, 2], last)
    one = model.continue_series(model.series[1], 144 - HORIZON - 4)
    np.testing.assert_allclose(found["gru"].to_numpy().reshape(2, 3, HORIZON)[1, 0], one, rtol=1e-6)
    again = Forecaster(**{**OPTIONS, "max_steps": 25}).fit(table).cross_validation(n_windows=2, refit=True)
    assert np.isfinite(again["gru"]).all()
    np.testing.assert_array_equal(again["y"].to_numpy().reshape(2, 2, HORIZON)[0, 1], last)


def test_a_cell_for_gaps_takes_covariates(table: Any) -> None:
    found = Forecaster(**OPTIONS, cell="gru_d").fit(table)
    assert found.scores["gru_d"]["MASE"] < 0.7 * found.scores["seasonal naive"]["MASE"]


def test_what_was_taken_is_said_and_printed(
    model: Forecaster, table: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {**OPTIONS, "max_steps": 1}
    with caplog.at_level(logging.WARNING, "gatewise"):
        Forecaster(**short).fit(table)
        Forecaster(**short, past_cols=["promo"]).fit(table.dropna(subset=["y"]))
    assert [r.getMessage() for r in caplog.records if r.getMessage().startswith("data: ")] == [
        "data: taken as covariates: promo (future, numbers), flavour (future, words), size (static, numbers)",
        "data: not read: the columns flavour, size",
    ]
    verb = FitForecast()
    verb.after(model)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == [["promo", "known", "ahead", "numbers"], ["flavour", "known", "ahead", "3", "words"]]
    assert verb.also(model) == {
        "covariates": [
            {"column": "promo", "taken as": "known ahead", "holds": "numbers", "missing": ""},
            {"column": "flavour", "taken as": "known ahead", "holds": "3 words", "missing": ""},
            {"column": "size", "taken as": "static, one value a series", "holds": "numbers", "missing": ""},
        ],
        "not_read": [],
        "unusable": [],
        "remarks": [],
    }


def test_options_of_covariates_that_make_no_sense_get_a_sentence(table: Any) -> None:
    for options, sentence in [
        ({"past_cols": ["a,b"]}, "past_cols must be names of columns, such as price,holiday, got"),
        ({"past_cols": 3}, "past_cols must be names of columns"),
        ({"past_cols": "a,b", "future_cols": "b"}, "expected each column once, got 'b' again"),
        ({"wide": True, "future_cols": "b"}, "wide: every column but the times is a series, expected no covariates"),
        ({"strategy": "steps", "past_cols": "a"}, "past_cols needs strategy 'direct'"),
        ({"strategy": "steps", "calendar": True}, "calendar needs strategy 'direct'"),
        ({"covariates": "all"}, "covariates must be one of infer, none, got 'all'"),
    ]:
        with pytest.raises(InputError, match=sentence):
            Forecaster(**options)
    with pytest.raises(InputError, match="calendar: one value a step has none"):
        Forecaster(**OPTIONS, calendar=True).fit(pandas.DataFrame({"ds": np.arange(90), "y": np.arange(90) % 7}))
    assert Forecaster(past_cols="a, b", future_cols=["c", "d"]).options.future_cols == "c,d"
