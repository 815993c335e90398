"""The forecaster end to end: it learns, repeats itself to the bit, saves, loads, resumes, and never peeks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise
from gatewise.tasks import InputError, load
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.objective import DirectObjective
from gatewise.tasks.forecast.table import Table, read

SMALL: dict[str, Any] = {"horizon": 6, "hidden_size": 8, "max_steps": 60}


def figures(forecaster: Forecaster) -> list[tuple[int, int, float, float]]:
    return [(e.epoch, e.steps, e.loss, e.value) for e in forecaster.history.epochs]


def same_weights(one: Forecaster, other: Forecaster) -> bool:
    pairs = zip(one.fitted().parameters(), other.fitted().parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    t = np.arange(120)
    values = 50 + 0.2 * t + 4 * np.sin(2 * np.pi * t / 12) + np.random.default_rng(0).normal(0, 0.3, 120)
    values[[17, 50]] = np.nan
    return Table({"": ((np.datetime64("2010-01") + t).astype("datetime64[s]"), values)}, "sales")


@pytest.fixture(scope="module")
def small(table: Table) -> Forecaster:
    return Forecaster(**SMALL).fit(table)


def test_the_embedded_series_is_forecast_far_better_than_naively() -> None:
    forecaster = Forecaster(max_steps=200).fit()
    assert (forecaster.horizon, forecaster.season) == (52, 52)
    naive, model = forecaster.scores["seasonal naive"], forecaster.scores["gru"]
    assert 1.0 < naive["MASE"] < 1.3
    assert model["MASE"] < 0.5 * naive["MASE"]
    assert model["sMAPE"] < 0.5 * naive["sMAPE"]


def test_same_seed_same_bits(small: Forecaster, table: Table) -> None:
    again, other = Forecaster(**SMALL).fit(table), Forecaster(**SMALL, seed=1).fit(table)
    assert figures(again) == figures(small)
    assert same_weights(again, small)
    assert again.scores == small.scores
    assert not same_weights(other, small)


@pytest.mark.parametrize("cell", ["lstm", "rnn", "mgu"])
def test_any_cell(table: Table, cell: str) -> None:
    forecaster = Forecaster(**SMALL, cell=cell, num_layers=2, dropout=0.1).fit(table)
    assert math.isfinite(forecaster.scores[cell]["MASE"])


def test_a_cell_of_ones_own_is_saved_by_its_equations(table: Table, tmp_path: Path) -> None:
    @gatewise.cell
    def leaky(gate: Any, x: Any, h: Any) -> Any:
        """My own."""
        return 0.5 * h + 0.5 * gatewise.tanh(gate.n(x, h))

    forecaster = Forecaster(**SMALL, cell=leaky).fit(table)
    forecaster.save(tmp_path / "m")
    assert np.array_equal(load(tmp_path / "m").predict()["y"], forecaster.predict()["y"])


def test_training_never_sees_the_held_out_horizon(small: Forecaster, table: Table) -> None:
    times, values = table.series[""]
    changed = np.concatenate([values[:-6], 1e3 * np.arange(6)])
    other = Forecaster(**SMALL).fit(Table({"": (times, changed)}, "sales"))
    assert figures(other) == figures(small)
    assert same_weights(other, small)
    assert other.scores != small.scores


def test_training_steps_never_see_the_validation_part(table: Table) -> None:
    times, values = table.series[""]
    changed = np.concatenate([values[:-18], 1e3 * np.arange(12), values[-6:]])
    fits = [Forecaster(**{**SMALL, "max_steps": 25}).fit(Table({"": (times, v)}, "y")) for v in (values, changed)]
    assert fits[0].history.epochs[0].loss == fits[1].history.epochs[0].loss
    assert fits[0].history.epochs[0].value != fits[1].history.epochs[0].value
    assert same_weights(*fits)


def test_a_forecast_beyond_the_end_uses_the_last_observation(small: Forecaster, table: Table) -> None:
    times, values = table.series[""]
    raised = values.copy()
    raised[-1] += 1
    before, after = small.predict(table)["y"], small.predict(Table({"": (times, raised)}, "y"))["y"]
    assert (before != after).all()
    assert str(small.predict()["ds"][0])[:10] == "2020-01-01"


def test_several_series_of_different_lengths(table: Table) -> None:
    times, values = table.series[""]
    panel = Table({"a": (times, values), "b": (times[40:], 2 * values[40:])}, "y")
    forecaster = Forecaster(**SMALL).fit(panel)
    forecast = forecaster.predict()
    assert forecast["unique_id"].tolist() == ["a"] * 6 + ["b"] * 6
    np.testing.assert_allclose(forecast["y"][6:], 2 * forecast["y"][:6], rtol=0.05)
    assert set(forecaster.scores) == {"gru", "seasonal naive", "last value"}


def test_a_season_that_repeats_exactly_has_no_mase_and_still_trains(tmp_path: Path) -> None:
    times = (np.datetime64("2020-01-01") + np.arange(60)).astype("datetime64[s]")
    forecaster = Forecaster(horizon=4, hidden_size=6, max_steps=10).fit(Table({"": (times, np.arange(60.0) % 7)}, "y"))
    forecaster.save(tmp_path / "m")
    for scores in (forecaster.scores, load(tmp_path / "m").scores):
        assert math.isnan(scores["seasonal naive"]["MASE"])
        assert scores["seasonal naive"]["sMAPE"] == 0


def test_saved_and_loaded_is_the_same_model(small: Forecaster, tmp_path: Path) -> None:
    small.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert isinstance(loaded, Forecaster)
    assert loaded.scores == small.scores
    assert loaded.score() == small.scores
    assert loaded.label == "sales"
    assert np.array_equal(loaded.predict()["y"], small.predict()["y"])
    assert json.loads((tmp_path / "m" / "config.json").read_text())["cell"] == gatewise.cells.gru.text
    with pytest.raises(InputError, match="already holds a run"):
        small.save(tmp_path / "m")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "data.csv"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_damaged_directories_get_a_sentence(small: Forecaster, tmp_path: Path, name: str, damage: str) -> None:
    small.save(tmp_path / "m")
    path = tmp_path / "m" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:9] if damage == "truncated" else b'{"task": "other", "format": 1}')
    with pytest.raises(InputError) as caught:
        load(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_weights_of_another_size_get_a_sentence(small: Forecaster, table: Table, tmp_path: Path) -> None:
    small.save(tmp_path / "m")
    Forecaster(**{**SMALL, "hidden_size": 9}).fit(table).save(tmp_path / "n")
    (tmp_path / "n" / "model.safetensors").replace(tmp_path / "m" / "model.safetensors")
    with pytest.raises(InputError, match="do not fit"):
        load(tmp_path / "m")


class Interrupting:
    """A reporter that presses Ctrl-C at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, *_: object) -> Interrupting:
        return self

    def __enter__(self) -> Interrupting:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, step: int, loss: float, per_second: float) -> None:
        if step == self.at:
            raise KeyboardInterrupt

    def epoch(self, history: object, note: str) -> None: ...


def test_interrupted_and_resumed_equals_uninterrupted(small: Forecaster, table: Table, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Forecaster(**SMALL).fit(table, directory=tmp_path, report=Interrupting(at=33))
    assert math.isfinite(load(tmp_path).score()["gru"]["MASE"])  # the best so far can be used
    resumed = Forecaster.resume(tmp_path, table, hidden_size=8)
    assert figures(resumed) == figures(small)
    assert same_weights(resumed, small)
    assert resumed.scores == small.scores
    assert not (tmp_path / "checkpoint.safetensors").exists()
    assert Forecaster.resume(tmp_path).scores == small.scores  # a finished run stays as it is


def test_resuming_with_other_data_or_options_gets_a_sentence(small: Forecaster, tmp_path: Path) -> None:
    small.save(tmp_path / "m")
    with pytest.raises(InputError, match=r"hidden_size: the run in .* was started with 8, got 9"):
        Forecaster.resume(tmp_path / "m", hidden_size=9)
    with pytest.raises(InputError, match=r"cell: the run in .* was started with gru, got lstm"):
        Forecaster.resume(tmp_path / "m", cell="lstm")
    with pytest.raises(InputError, match="data: differs"):
        Forecaster.resume(tmp_path / "m", read(None))


def bad_tables(table: Table) -> Iterator[tuple[dict[str, Any], Table, str]]:
    times, values = table.series[""]
    yield {"horizon": 120}, table, "horizon of 120 is too long: the series has only 120 values"
    yield {"horizon": 31}, table, "expected at least 124"
    short = Table({"a": (times, values), "b": (times[:8], values[:8])}, "y")
    yield {"horizon": 6, "strategy": "steps"}, short, "series 'b' has 8 values"
    yield {"horizon": 6}, Table({"": (times, np.where(np.arange(120) < 114, values, np.nan))}, "y"), "no values"


def test_unusable_series_get_a_sentence_before_anything_is_written(table: Table, tmp_path: Path) -> None:
    for options, data, sentence in bad_tables(table):
        with pytest.raises(InputError) as caught:
            Forecaster(**options).fit(data, directory=tmp_path / "run")
        assert sentence in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [{"horizon": 0}, {"season": -1}, {"hidden_size": 0}, {"epochs": 0}, {"max_steps": 0}, {"dropout": 1.0}]
    + [{"learning_rate": 0.0}, {"seed": -1}, {"num_layers": 1.5}, {"cell": "gro"}],
    ids=str,
)
def test_options_out_of_range_get_a_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Forecaster(**options)


def test_data_of_another_frequency_get_a_sentence(small: Forecaster) -> None:
    with pytest.raises(InputError, match="has one value every week, expected one every month"):
        small.predict(read(None))


def test_an_unfitted_forecaster_says_so() -> None:
    with pytest.raises(InputError, match="not fitted"):
        Forecaster().predict()


def test_validation_is_the_error_of_forecasts_from_every_step(small: Forecaster) -> None:
    objective = small.objective()
    assert isinstance(objective, DirectObjective)
    values, errors = small.series[0].values, []
    for end in range(120 - 18, 120 - 12 + 1):
        errors.append(values[end : end + 6] - small.continue_series(small.series[0], end))
    expected = np.mean(np.nanmean(np.abs(errors), 1)) / objective.units[0]
    assert objective.validate() == pytest.approx(expected, rel=1e-6)


def test_a_cell_with_keyword_inputs_is_refused() -> None:
    with pytest.raises(InputError, match="cell: augru takes attention at every step, the data provide mask, gap, last"):
        Forecaster(cell="augru")


def test_a_cell_for_gaps_is_told_where_they_are(table: Table) -> None:
    forecaster = Forecaster(cell="gru_d", horizon=4, hidden_size=5, max_steps=3).fit(table)
    module = forecaster.fitted()
    encoder = next(m for m in module.modules() if isinstance(m, gatewise.nn.Recurrent))
    seen: list[dict[str, Any]] = []
    encoder.register_forward_pre_hook(lambda _, __, words: seen.append(words), with_kwargs=True)
    forecaster.continue_series(forecaster.series[0], 60)
    words = seen[0]
    known = ~np.isnan(table.series[""][1][60 - forecaster.context : 60])
    assert not known.all()
    np.testing.assert_array_equal(words["mask"][0].flatten().numpy() > 0, known)
    assert set(words) == {"mask", "gap", "last"}
    with pytest.raises(InputError, match="num_layers must be 1 for gru_d"):
        Forecaster(cell="gru_d", num_layers=2)
