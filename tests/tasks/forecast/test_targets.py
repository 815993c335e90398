"""Several targets: read, forecast as series of their own or together, kept, continued, and refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loads import loads

from gatewise.tasks import InputError, load
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.verbs import PredictForecast, ScoreForecast

pandas = pytest.importorskip("pandas")
TARGETS = ["load", "oil"]
SMALL: dict[str, Any] = {"horizon": 3, "hidden_size": 8, "max_steps": 50, "n_models": 1}
BOTH = pytest.mark.parametrize("channels", ["independent", "mixed"])
COLUMNS = ["load", "load-lo-80", "load-hi-80", "oil", "oil-lo-80", "oil-hi-80"]


@pytest.fixture(scope="module")
def table() -> Any:
    return loads(gaps=0.05)


@pytest.fixture(scope="module")
def models(table: Any) -> dict[str, Forecaster]:
    how = {**SMALL, "level": 80, "target_col": TARGETS, "test_size": 9}
    return {channels: Forecaster(**how, channels=channels).fit(table) for channels in ("independent", "mixed")}


def test_independent_targets_are_the_same_columns_as_separate_series(models: Any, table: Any) -> None:
    parts = [
        pandas.DataFrame({"unique_id": f"{name} {target}", "ds": rows.ds, "y": rows[target]})
        for name, rows in table.groupby("unique_id")
        for target in TARGETS
    ]
    several, apart = models["independent"], Forecaster(**SMALL, level=80, test_size=9).fit(pandas.concat(parts))
    assert several.scores == apart.scores
    said, alone = several.predict(), apart.predict()
    assert list(said) == ["unique_id", "ds", *COLUMNS]
    assert said.unique_id.tolist() == ["a"] * 3 + ["b"] * 3
    for target in TARGETS:
        mine = alone[alone.unique_id.str.endswith(target)]
        for end in ("", "-lo-80", "-hi-80"):
            np.testing.assert_array_equal(said[f"{target}{end}"], mine[f"y{end}"])
    rolled, each = several.cross_validation(n_windows=3), apart.cross_validation(n_windows=3)
    for target in TARGETS:
        mine = np.array([name.endswith(target) for name in each["unique_id"]])
        np.testing.assert_array_equal(rolled[f"{target}-y"], each["y"][mine])
        np.testing.assert_array_equal(rolled[f"{target}-lo-80"], each["gru-lo-80"][mine])
        np.testing.assert_array_equal(rolled["cutoff"], each["cutoff"][mine])


@BOTH
def test_figures_are_means_over_the_targets_and_there_for_each(models: Any, channels: str) -> None:
    model = models[channels]
    whole, each = model.score(windows=2), model.target_scores(windows=2)
    assert list(each) == TARGETS
    for name in ("gru", "last value"):
        for metric in ("MASE", "RMSSE"):
            mean = np.mean([each[target][name][metric] for target in TARGETS])
            assert whole[name][metric] == pytest.approx(mean)
    assert "coverage 80" in each["oil"]["gru"]


@BOTH
def test_saved_loaded_and_resumed_they_are_the_same(models: Any, table: Any, channels: str, tmp_path: Path) -> None:
    model = models[channels]
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert isinstance(again, Forecaster)
    for name in COLUMNS:
        np.testing.assert_array_equal(again.predict()[name], model.predict()[name])
        np.testing.assert_array_equal(again.predict(table)[name], model.predict()[name])
    assert again.score() == model.score()
    how = {**SMALL, "target_col": "load,oil", "channels": channels}
    whole = Forecaster(**how).fit(table, directory=tmp_path / "run")
    for name in ("metrics.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    resumed = Forecaster.resume(tmp_path / "run", table)
    pairs = zip(resumed.fitted().state_dict().values(), whole.fitted().state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@BOTH
def test_updates_are_as_if_the_rows_had_been_there(models: Any, table: Any, channels: str, tmp_path: Path) -> None:
    models[channels].save(tmp_path / "m")
    live = load(tmp_path / "m")
    assert isinstance(live, Forecaster)
    longer = loads(152, "a", gaps=0.05).tail(2)
    longer.loc[longer.index[-1], "oil"] = np.nan
    live.update(longer)
    whole = pandas.concat([table, longer]).sort_values(["unique_id", "ds"], kind="stable")
    expected, found = models[channels].predict(whole), live.predict()
    assert (found["ds"] == expected["ds"]).all()
    for name in COLUMNS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    live.save(tmp_path / "n")
    np.testing.assert_array_equal(load(tmp_path / "n").predict()["oil"], found["oil"])


@BOTH
def test_a_series_may_lack_a_target_and_one_may_begin_late(table: Any, channels: str) -> None:
    table = table.copy()
    table.loc[table.unique_id == "b", "oil"] = np.nan
    table.loc[(table.unique_id == "a") & (table.ds < "2020-02-10"), "load"] = np.nan
    model = Forecaster(**SMALL, target_col=TARGETS, channels=channels).fit(table)
    assert [tuple(one) for one in model.unusable] == [
        ("b", "has missing values only, expected at least one number (target 'oil')")
    ]
    found = model.predict()
    assert found.oil.isna().tolist() == [False] * 3 + [True] * 3
    assert np.isfinite(found.load).all()
    assert np.isfinite(model.cross_validation()["load"]).all()
    model.update(pandas.DataFrame({"unique_id": ["b"], "ds": ["2020-05-30"], "load": [50.0], "oil": [np.nan]}))
    assert model.predict().ds.iloc[-1] == pandas.Timestamp("2020-06-02")
    with pytest.raises(InputError, match="there is no series 'b  oil' in the model"):
        model.update(pandas.DataFrame({"unique_id": ["b"], "ds": ["2020-05-31"], "load": [50.0], "oil": [9.0]}))


@BOTH
def test_covariates_known_ahead_go_with_all_targets(channels: str) -> None:
    table = loads(156, "a")
    random = np.random.default_rng(0)
    table["promo"] = (random.random(156) < 0.3).astype(float)
    table["load"] += 30 * table.promo
    table.loc[150:, TARGETS] = np.nan
    table.loc[149, "oil"] = np.nan  # it ends a day before the other one: a gap
    how = {**SMALL, "max_steps": 200, "learning_rate": 0.02, "target_col": TARGETS, "channels": channels}
    how["test_size"] = 30
    model = Forecaster(**how).fit(table)
    assert [(f.name, f.role) for f in model.scheme.features] == [("promo", "future")]
    without = Forecaster(**how, covariates="none").fit(table.head(150))
    errors = [one.target_scores(windows=10)["load"]["gru"]["MASE"] for one in (model, without)]
    assert errors[0] < 0.6 * errors[1]
    said = model.predict()
    assert said.ds.iloc[0] == pandas.Timestamp("2020-05-30")
    assert np.isfinite(said[TARGETS]).all(axis=None)
    known, planned = table.head(150), table.tail(6)[["ds", "promo"]]
    pandas.testing.assert_frame_equal(model.predict(known, future=planned), said)
    new = table.iloc[150:153].assign(load=60.0)
    model.update(new)
    assert {len(one.values) for one in model.series} == {153}


@BOTH
def test_pictures_and_parts_of_a_table(models: Any, table: Any, channels: str) -> None:
    model = models[channels]
    figure = model.plot(ids=["b"])
    assert [axes.get_ylabel() for axes in figure.axes] == TARGETS
    held = model.held_out_of(model.series[2], model.series)
    rolled = model.cross_validation()
    np.testing.assert_allclose(held.forecasts["gru"], rolled["load"][3:], rtol=1e-6)
    np.testing.assert_allclose(held.forecasts["gru-hi-80"], rolled["load-hi-80"][3:], rtol=1e-6)
    part = model.predict_partition(table[table.unique_id == "b"])
    np.testing.assert_allclose(part[COLUMNS], model.predict()[COLUMNS].tail(3), rtol=1e-6)
    assert list(model.predict_partition(table.head(0))) == ["unique_id", "ds", *COLUMNS]


def test_independent_targets_are_exported_and_mixed_ones_not(models: Any) -> None:
    parts = models["independent"].verb("export")().parts(models["independent"])
    assert parts.about["series"] == {"a  load": 1, "a  oil": 2, "b  load": 3, "b  oil": 4}
    with pytest.raises(InputError, match="export: channels 'mixed' are not written; fit 'independent'"):
        models["mixed"].verb("export")().parts(models["mixed"])


def test_refitted_at_each_origin(table: Any) -> None:
    model = Forecaster(**SMALL, target_col=TARGETS, channels="mixed").fit(table)
    found = model.cross_validation(n_windows=2, refit=True)
    rows = table.groupby("unique_id").head(147)
    alone = Forecaster(**SMALL, target_col=TARGETS, channels="mixed").fit(rows).cross_validation()
    np.testing.assert_array_equal(found["oil"][:3], alone["oil"][:3])


def test_the_command_line_writes_a_column_a_target(models: Any, tmp_path: Path, capsys: Any) -> None:
    models["mixed"].save(tmp_path / "m")
    task = load(tmp_path / "m")
    PredictForecast(output=tmp_path / "out").run(task, tmp_path / "m", json=False)
    assert (tmp_path / "out" / "forecast.csv").read_text().startswith(",".join(["unique_id", "ds", *COLUMNS]))
    assert "load-lo-80" in capsys.readouterr().out
    ScoreForecast(windows=2).run(task, tmp_path / "m", json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["targets"]["oil"] == models["mixed"].target_scores(windows=2)["oil"]
    ScoreForecast().run(task, tmp_path / "m", json=False)
    assert "MASE of" in capsys.readouterr().out


def test_one_series_without_a_name_and_files(tmp_path: Path) -> None:
    loads(names="a").drop(columns="unique_id").to_csv(tmp_path / "one.csv", index=False)
    model = Forecaster(**SMALL, target_col="oil, load").fit(tmp_path / "one.csv")
    found = model.predict()
    assert list(found) == ["unique_id", "ds", "oil", "load"]
    assert found["unique_id"].tolist() == [""] * 3
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").predict()["load"], found["load"])


def test_a_target_may_have_a_comma_in_its_name() -> None:
    table = loads(names="a").rename(columns={"load": "load, kW"}).drop(columns="oil")
    model = Forecaster(**SMALL, target_col="load, kW").fit(table)
    assert list(model.predict()) == ["unique_id", "ds", "y"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target_col": "load,gas"}, "target_col: the data frame has no column 'gas'; its columns are unique_id, ds, "),
        ({"target_col": ["load", "load"]}, "target_col: expected each column once, got 'load' again"),
        (
            {"target_col": TARGETS, "past_cols": "oil"},
            "past_cols: 'oil' is no covariate, expected a column beside unique_id, ds and the targets",
        ),
        ({"target_col": ["load", 3]}, r"target_col must be names of columns, such as price,holiday, got \['load', 3\]"),
        ({"target_col": "load,word"}, "row 0 of the data frame, column 'word'"),
        ({"target_col": "load,ds"}, "id_col, time_col and target_col must be different columns"),
        ({"target_col": "load,load-lo-80", "level": 80}, "a forecast would have two columns 'load-lo-80'"),
        (
            {"target_col": TARGETS, "strategy": "recursive"},
            "target_col: several go with strategy 'direct', got them with 'recursive'",
        ),
        (
            {"target_col": TARGETS, "strategy": "steps"},
            "target_col: several go with strategy 'direct', got them with 'steps'",
        ),
        ({"target_col": "load", "channels": "mixed"}, "channels: 'mixed' reads several targets together, expected"),
        ({"wide": True, "channels": "mixed"}, "channels: 'mixed' goes with several target_col and .* got it with wide"),
        ({"channels": "joint"}, "channels must be one of independent, mixed, got 'joint'"),
    ],
    ids=str,
)
def test_what_cannot_be_gets_a_sentence(options: dict[str, Any], sentence: str) -> None:
    table = loads(names="a").assign(word="x")
    table["load-lo-80"] = 1.0
    with pytest.raises(InputError, match=sentence):
        Forecaster(**{"horizon": 3, "max_steps": 50, **options}).fit(table)


def test_new_data_must_have_all_targets(models: Any, table: Any) -> None:
    with pytest.raises(InputError, match="target_col: the data frame has no column 'oil'"):
        models["mixed"].predict(table.drop(columns="oil"))
