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
    factors = intervals.calibrated(truth, said, [80, 95], 200)
    both, count = intervals.stretched(said, factors), 999
    for k, level in enumerate((80, 95)):
        alone = intervals.stretched(said[..., [0, 1 + 2 * k, 2 + 2 * k]], factors[k : k + 1])
        inside = intervals.coverage(truth, alone[..., 1], alone[..., 2])
        assert inside == pytest.approx(100 * math.ceil((count + 1) * level / 100 * (1 + 1 / 200)) / count)
        assert intervals.coverage(truth, both[..., 1 + 2 * k], both[..., 2 + 2 * k]) >= inside
    assert factors[0] > 1 > factors[1]


def test_a_wider_level_holds_a_narrower_one_whatever_the_factors() -> None:
    said = np.zeros((3, 4, 5)) + [0.0, -1.0, 1.0, -2.0, 2.0]
    wide = intervals.stretched(said, [5.0, 1.5])
    np.testing.assert_array_equal(wide[0, 0], [0.0, -5.0, 5.0, -5.0, 5.0])
    np.testing.assert_array_equal(intervals.stretched(said, [1.0, 1.5])[0, 0], [0.0, -1.0, 1.0, -3.0, 3.0])


def horizons_of(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Horizons whose errors are much alike, as those of one origin are, and grow with a level; and quantiles that know
    the level but not how large errors are."""
    level = generator.uniform(10, 1000, (count, 1))
    error = 0.1 * level * (generator.normal(size=(count, 1)) + 0.3 * generator.normal(size=(count, 6)))
    return error + level, level[..., None] * (np.ones((count, 6, 1)) + [0, -0.02, 0.02, -0.3, 0.3])


@pytest.mark.parametrize(("windows", "levels"), [(4, [80]), (10, [80, 90]), (19, [80, 95])])
def test_few_horizons_whose_values_are_alike_hold_the_level(windows: int, levels: list[float]) -> None:
    """Over many draws: coverage of later horizons is at least the level but for 2.5 %, where the standard error is
    1.4 %, and the same quantile over single values holds less."""
    generator, held, single = np.random.default_rng(0), [], []
    for _ in range(800):
        truth, said = horizons_of(generator, windows + 1)
        before, later = (truth[:-1], said[:-1, :, : 1 + 2 * len(levels)]), (truth[-1:], said[-1:])
        for horizons, kept in ((windows, held), (10**9, single)):
            wide = intervals.stretched(later[1], intervals.calibrated(*before, levels, horizons))
            kept.append(
                [intervals.coverage(later[0], wide[..., 1 + 2 * k], wide[..., 2 + 2 * k]) for k in range(len(levels))]
            )
    assert (np.mean(held, 0) > np.array(levels) - 2.5).all()
    assert (np.mean(single, 0) < np.mean(held, 0)).all()


def test_too_few_horizons_make_nothing_narrower_and_are_said() -> None:
    truth, said = np.zeros((2, 5)) + 0.1, np.zeros((2, 5, 5)) + [0, -1.0, 1.0, -2.0, 2.0]
    assert intervals.calibrated(truth, said, [80, 95], 2) == [1, 1]
    assert intervals.calibrated(truth, said, [80, 95], 100) == pytest.approx([0.1, 0.05])
    sentence = intervals.few([80, 95], 2)
    assert "hold 2 horizons in all and intervals of 95 % need 19" in sentence
    assert "intervals of 80 % need 4" in intervals.few([80], 3.9)
    assert intervals.few([80], 4) == intervals.few([95], 19) == intervals.few([], 0) == ""


def test_an_end_upon_the_median_does_not_blow_up_the_others() -> None:
    said = np.zeros((50, 4, 3)) + [0.0, -1.0, 1.0]
    said[:, 2, 1] = 0.0
    truth = np.where(np.arange(50)[:, None] % 2, -0.5, 0.5) + np.zeros((50, 4))
    factor = intervals.calibrated(truth, said, [80], 50)[0]
    assert factor < 3
    assert intervals.coverage(truth, *np.moveaxis(intervals.stretched(said, [factor])[..., 1:], 2, 0)) >= 80


def test_quantiles_that_cross_are_put_in_order() -> None:
    found = intervals.ordered(np.array([1.0, 2.0, 0.5, -1.0, 3.0]))
    assert found.tolist() == [1.0, 1.0, 1.0, -1.0, 3.0]
