"""Channels mixed against a slow network in plain loops, and on data where one target leads another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from loads import BEHIND, loads

from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.beside import Covariates, Stretch, widths
from gatewise.tasks.forecast.covariates import Covariate
from gatewise.tasks.forecast.frequency import Frequency
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.panel import Panel
from gatewise.tasks.forecast.scaling import scale
from gatewise.tasks.forecast.scheme import learnt

TARGETS = ["load", "oil"]
HORIZON = 5
HOW: dict[str, Any] = {"target_col": TARGETS, "channels": "mixed", "hidden_size": 6, "level": [50, 80]}
HOW |= {"horizon": HORIZON, "season": 1, "window": 12, "segment": 4, "lags": [1, 7], "max_steps": 25, "n_models": 2}


def slowly(model: Any, values: np.ndarray, number: int) -> np.ndarray:
    """The forecast (targets, horizon, outputs) behind values (T, targets), step by step."""
    views = [scale(values[None, -12:, k], HORIZON, [1, 7]) for k in range(2)]
    total = torch.zeros(8, 2, 5)
    for net in model.module.members:
        state = None
        for start in range(0, 12, 4):
            segment = [views[k].x[0, step] for step in range(start, start + 4) for k in range(2)]
            read = torch.relu(net.project(torch.from_numpy(np.concatenate(segment))))
            _, state = net.encoder(read.view(1, 1, -1), state)
        for place in range(2):
            y, _ = net.encoder((net.place[place] + net.series[number]).view(1, 1, -1), state)
            total[4 * place : 4 * place + 4] += net.head(y[0, 0]).view(4, 2, 5)
    result, nearest = np.empty((2, HORIZON, 5)), np.empty((2, 4))
    for k, view in enumerate(views):
        for step in range(HORIZON):
            middle, *ends = (view.base[0, step] + view.scale[0] * total[step, k].double().numpy() / 2).tolist()
            result[k, step, 0] = middle
            for i, end in enumerate(ends):
                end = min(end, middle) if i % 2 == 0 else max(end, middle)
                result[k, step, 1 + i] = end
        for i in range(4):  # no end nearer to the median than a quarter of the mean distance of the two ends
            low, high = (result[k, :, 1 + i // 2 * 2 + j] for j in (0, 1))
            nearest[k, i] = 0.25 * float(np.mean(high - low)) / 2
        for step in range(HORIZON):
            for i in range(4):
                away = result[k, step, 1 + i] - result[k, step, 0]
                away = min(away, -nearest[k, i]) if i % 2 == 0 else max(away, nearest[k, i])
                result[k, step, 1 + i] = result[k, step, 0] + float(model.module.widths[k, i // 2]) * away
            for i, further in ((2, min), (3, max)):  # the interval of 80 % holds that of 50 %
                result[k, step, 1 + i] = further(result[k, step, 1 + i], result[k, step, 1 + i - 2])
    return result


@pytest.fixture(scope="module")
def table() -> Any:
    return loads(120, gaps=0.1)


@pytest.fixture(scope="module")
def model(table: Any) -> Forecaster:
    """With weights that are far from zero."""
    found = Forecaster(**HOW).fit(table)
    generator = torch.Generator().manual_seed(0)
    for parameter in found.fitted().parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=generator)
    return found


@torch.no_grad()
def test_every_forecast_is_the_slow_networks(model: Forecaster, table: Any) -> None:
    said, rolled = model.predict(), model.cross_validation(n_windows=3, step_size=2)
    factors = model.fitted().widths
    assert factors.shape == (2, 2)
    assert len(set(factors.flatten().tolist())) == 4  # each target has intervals of its own
    ends = ["", "-lo-50", "-hi-50", "-lo-80", "-hi-80"]
    for i, name in enumerate("ab"):
        values = table[table.unique_id == name][TARGETS].to_numpy()
        for found, row, known in ((said, i, 120), *((rolled, 3 * i + w, 120 - HORIZON - 4 + 2 * w) for w in range(3))):
            expected = slowly(model, values[:known], i + 1)
            for k, target in enumerate(TARGETS):
                part = slice(HORIZON * row, HORIZON * (row + 1))
                columns = np.stack([np.asarray(found[target + end])[part] for end in ends], 1)
                np.testing.assert_allclose(columns, expected[k], rtol=1e-5)


def test_each_target_reaches_the_forecast_of_each(model: Forecaster, table: Any) -> None:
    before = model.predict()
    for changed, other in (TARGETS, TARGETS[::-1]):
        after = model.predict(table.assign(**{changed: table[changed].where(table.ds != "2020-04-26", 3.0)}))
        assert (np.abs(after[other] - before[other]) > 1e-6).all()


def test_what_is_missing_of_a_target_counts_for_none_and_the_other_counts(model: Forecaster) -> None:
    objective: Any = model.objective()
    which, origins = np.repeat([0, 1], 40), np.tile(np.arange(20, 60), 2)
    batch = objective._batch(which, origins, 1)
    assert batch.weights.shape == (80, 1, HORIZON, 2)
    for row, (i, origin) in enumerate(zip(which, origins, strict=True)):
        for k in range(2):
            came = model.series[2 * i + k].values[origin : origin + HORIZON]
            np.testing.assert_array_equal(batch.weights[row, 0, :, k] == 0, np.isnan(came))
    said = torch.randn(80, 1, HORIZON, 10)
    loss = objective.loss(lambda *_: said, batch)
    missing = (batch.weights == 0).repeat_interleave(5, -1)
    torch.testing.assert_close(objective.loss(lambda *_: torch.where(missing, said + 9, said), batch), loss)


def test_it_learns_that_one_target_leads_the_other_which_independent_channels_cannot() -> None:
    how = {"horizon": BEHIND, "season": 1, "window": 12, "segment": 3, "lags": [1], "hidden_size": 32}
    how |= {"target_col": TARGETS, "max_steps": 250, "learning_rate": 0.02, "n_models": 1, "test_size": 60}
    table, found = loads(600), {}
    for channels in ("mixed", "independent"):
        model = Forecaster(**how, channels=channels).fit(table)
        found[channels] = {name: own["gru"]["MASE"] for name, own in model.target_scores(windows=20).items()}
    assert found["mixed"]["oil"] < 0.4 * found["independent"]["oil"]
    assert found["independent"]["oil"] > 1
    assert found["mixed"]["load"] > 0.9 * found["independent"]["load"]  # nothing leads this one


@pytest.mark.parametrize("how", [{"cell": "gru_d"}, {"cell": "lstm", "calendar": True, "num_layers": 2}], ids=str)
def test_other_cells_and_the_calendar(table: Any, how: dict[str, Any]) -> None:
    model = Forecaster(**{**HOW, **how}).fit(table)
    found = model.predict()
    assert np.isfinite(found[TARGETS]).all(axis=None)
    assert (found["oil-lo-80"] <= found["oil-hi-80"]).all()


def test_covariates_have_the_naive_forecast_of_each_target() -> None:
    random, columns = np.random.default_rng(0), (Covariate("promo", "future"), Covariate("size", "static"))
    extras = np.stack([random.normal(size=34), np.full(34, 7.0)], 1)
    whole = [
        Series(
            target, np.datetime64("2020-01-01", "s"), random.normal(size=30), Frequency(seconds=86400), extras, columns
        )
        for target in TARGETS
    ]
    scheme, origins = learnt(whole, [20, 20]), np.array([15, 30])
    stretches = [Stretch(one, 0, 30) for one in whole]

    def beside(series: list[int], targets: int) -> Any:
        panel = Panel([whole[i].values for i in series], 6, 4)
        place, at = np.tile(np.arange(targets), 2), np.repeat(origins, targets)
        own = Covariates(scheme, panel, [stretches[i] for i in series], targets)
        return own.of(np.zeros(2, np.int64), origins, scale(panel.windows(place, at), 4, [1, 3]))

    both, each = beside([0, 1], 2), [beside([k], 1) for k in range(2)]
    np.testing.assert_array_equal(both.past, each[0].past)
    np.testing.assert_array_equal(both.static, each[1].static)
    assert both.future.shape[-1] == widths(scheme, 2).future.numbers == 4
    np.testing.assert_array_equal(both.future[..., 0], each[0].future[..., 0])
    for k in range(2):
        np.testing.assert_array_equal(both.future[..., 1 + k], each[k].future[..., 1])
    np.testing.assert_array_equal(both.future[..., 3], each[0].future[..., 2])
