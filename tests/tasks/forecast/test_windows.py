"""Windows see no future, miss no missing value, and the network answers at every step."""

from __future__ import annotations

import numpy as np
import torch

from gatewise import cells
from gatewise.tasks.forecast.network import ForecastNetwork
from gatewise.tasks.forecast.windows import FEATURES, TrainingWindows, scaled


def walk(count: int = 80) -> np.ndarray:
    values = 100 + np.cumsum(np.random.default_rng(0).normal(size=count))
    values[[7, 30, 31]] = np.nan
    return values


def test_features_and_scale_at_a_step_come_from_the_past() -> None:
    values, changed = walk(), walk()
    changed[50:] = 1e6
    before, after = (scaled(v, context=20, season=6) for v in (values, changed))
    assert np.array_equal(before.features[:70], after.features[:70])  # 20 steps of padding in front
    assert np.array_equal(before.level[:70], after.level[:70])
    assert np.array_equal(before.scale[:70], after.scale[:70])
    assert not np.array_equal(before.features[70], after.features[70])


def test_scaling_makes_units_and_offset_irrelevant() -> None:
    one, other = scaled(walk(), 20, 6), scaled(1000 * walk() - 5e4, 20, 6)
    np.testing.assert_allclose(one.features, other.features, atol=1e-4)


def test_missing_values_are_marked_and_carried() -> None:
    view = scaled(walk(), context=20, season=6)
    assert view.features[27, 0] == 0
    assert view.level[27] == view.level[26]
    assert view.features[:20].any() == False  # noqa: E712  the padding says nothing


def test_targets_are_the_next_values_and_end_where_training_ends() -> None:
    values, horizon, context, end = walk(), 5, 20, 60
    view = scaled(values, context, season=6)
    windows = TrainingWindows([view], [end], context, horizon)
    batch = windows.batch(200, np.random.default_rng(0))
    assert batch.inputs.shape == (200, context, FEATURES)
    assert batch.targets.shape == batch.counts.shape == (200, context // 2, horizon)
    inputs, targets = windows._window(view, 58, context + end)  # the window over the steps 38 … 57
    assert np.array_equal(inputs, view.features[58:78])
    at_50 = targets[50 - 48]
    np.testing.assert_allclose(view.level[70] + view.scale[70] * at_50, values[51:56])
    assert np.isnan(targets[-1]).tolist() == [False, False, True, True, True]  # 58 and 59 are before the end


def test_a_constant_series_has_no_targets_to_learn() -> None:
    view = scaled(np.full(50, 3.0), context=10, season=1)
    assert not view.known.any()
    assert np.isfinite(view.features).all()


def test_every_step_of_the_network_forecasts_the_whole_horizon_from_what_it_has_seen() -> None:
    torch.manual_seed(0)
    network = ForecastNetwork(cells.gru, hidden_size=9, num_layers=2, dropout=0.0, horizon=7)
    torch.nn.init.normal_(network.head.weight)
    x = torch.randn(1, 12, FEATURES)
    changed = x.clone()
    changed[0, 8] += 1
    before, after = network(x)[0], network(changed)[0]
    assert torch.equal(before[:8], after[:8])
    assert (before[8:] != after[8:]).all()  # all of the horizon, at the step itself and later


def test_an_untrained_network_forecasts_the_last_value() -> None:
    network = ForecastNetwork(cells.lstm, hidden_size=4, num_layers=1, dropout=0.0, horizon=3)
    assert not network(torch.randn(2, 5, FEATURES)).any()
