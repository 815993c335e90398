"""Quantile loss and conformal calibration against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gatewise.tasks.forecast import intervals


def test_columns_and_quantiles_stand_in_one_order() -> None:
    assert intervals.quantiles([80, 95]) == pytest.approx([0.5, 0.1, 0.9, 0.025, 0.975])
    assert intervals.names([80, 97.5], "y") == ["y", "y-lo-80", "y-hi-80", "y-lo-97.5", "y-hi-97.5"]


def test_the_quantile_loss_is_least_at_the_quantile() -> None:
    values = torch.arange(101.0)
    shares = torch.tensor([0.5, 0.1, 0.9])
    losses = torch.stack([intervals.pinball(torch.full((101, 3), v), values, shares).mean(0) for v in range(101)])
    assert losses.argmin(0).tolist() == [50, 10, 90]
    assert intervals.pinball(torch.tensor([3.0]), torch.tensor(5.0), shares[:1]).item() == 2  # the absolute error
    expected = losses[30, 1].item()
    assert intervals.quantile_loss(values.numpy(), np.full(101, 30.0), 0.1) == pytest.approx(expected)


def test_calibrated_intervals_hold_what_they_promise_on_the_calibration_values() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(200, 5))
    truth[3, 2] = np.nan
    said = np.zeros((200, 5, 5)) + [0, -0.1, 0.3, -5.0, 5.0]  # too narrow, too wide
    factors = intervals.calibrated(truth, said, [80, 95])
    wide = intervals.stretched(said, factors)
    count = 999
    for k, level in enumerate((80, 95)):
        inside = intervals.coverage(truth, wide[..., 1 + 2 * k], wide[..., 2 + 2 * k])
        assert inside == pytest.approx(100 * math.ceil((count + 1) * level / 100) / count)
    assert factors[0] > 1 > factors[1]


def test_quantiles_that_cross_are_put_in_order() -> None:
    found = intervals.ordered(np.array([1.0, 2.0, 0.5, -1.0, 3.0]))
    assert found.tolist() == [1.0, 1.0, 1.0, -1.0, 3.0]
