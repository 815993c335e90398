"""Windows in units of their own: exact inverses, the naive forecasts, gaps, and nothing of the future."""

from __future__ import annotations

import numpy as np
import pytest

from gatewise.tasks.forecast.metrics import seasonal_naive
from gatewise.tasks.forecast.scaling import CHANNELS, scale


def windows(rows: int = 4, width: int = 24) -> np.ndarray:
    generator = np.random.default_rng(0)
    season = 5 * np.sin(2 * np.pi * np.arange(width) / 6)
    return 100 + season + np.cumsum(generator.normal(size=(rows, width)), 1)


def test_targets_and_restored_are_inverse() -> None:
    future = np.random.default_rng(1).normal(100, 9, (4, 8))
    view = scale(windows(), 8, [1, 6])
    np.testing.assert_allclose(view.restored(view.targets(future)[..., None])[..., 0], future, rtol=1e-12)


@pytest.mark.parametrize("lag", [1, 6])
def test_an_output_of_zero_is_the_naive_forecast(lag: int) -> None:
    view = scale(windows(), 8, [lag])
    expected = [seasonal_naive(row, 8, lag) for row in windows()]
    np.testing.assert_allclose(view.restored(np.zeros((4, 8, 1)))[..., 0], expected)


def test_several_naive_forecasts_are_weighted_by_how_they_did() -> None:
    """Reference: the errors of each within the window, one value after the other."""
    window, horizon = windows(1)[0], 4
    errors = [np.mean([abs(window[t] - window[t - reach]) for t in range(reach, 24)]) for reach in (2, 6)]
    weights = np.array([1 / e**2 for e in errors])
    weights /= weights.sum()
    expected = sum(w * seasonal_naive(window, horizon, lag) for w, lag in zip(weights, (1, 6), strict=True))
    view = scale(window[None], horizon, [1, 6])
    np.testing.assert_allclose(view.base[0], expected)
    assert view.scale[0] == pytest.approx(1 / np.sum(weights / errors))


def test_a_season_with_its_drift_continues_a_trend() -> None:
    """A season upon a straight line is forecast exactly, over several seasons, and with a value missing."""
    t = np.arange(32)
    values = 3.0 * t + np.tile([0.0, 5.0, -2.0, 1.0], 8)
    window = values[None, :20].copy()
    window[0, 7] = np.nan
    view = scale(window, 12, [-4])
    np.testing.assert_allclose(view.base[0], values[20:])
    assert view.scale[0] == pytest.approx(0.05 * np.nanstd(window))  # its usual error is none: the floor


def test_units_and_offset_do_not_matter() -> None:
    one, other = scale(windows(), 8, [1, 6, -6]), scale(1000 * windows() - 5e4, 8, [1, 6, -6])
    np.testing.assert_allclose(one.x, other.x, atol=1e-4)
    np.testing.assert_allclose(1000 * one.base - 5e4, other.base, rtol=1e-9)


@pytest.mark.parametrize("units", [None, [0.3, 5.0, 1e6, np.nan]])
def test_units_of_the_series_have_an_exact_inverse(units: list[float] | None) -> None:
    future = np.random.default_rng(1).normal(100, 9, (4, 8))
    view = scale(windows(), 8, [1, 6], None if units is None else np.array(units))
    np.testing.assert_allclose(view.restored(view.targets(future)[..., None])[..., 0], future, rtol=1e-12)
    own = scale(windows(), 8, [1, 6])
    np.testing.assert_array_equal(view.base, own.base)  # only the unit is another
    expected = own.scale if units is None else np.where(np.isnan(units), own.scale, units)
    np.testing.assert_array_equal(view.scale, expected)


def test_a_series_that_never_moved_has_no_unit_of_its_own() -> None:
    view = scale(np.full((1, 24), 7.0), 8, [1, 6], np.zeros(1))
    assert not view.moving[0]
    assert (view.restored(np.ones((1, 8, 1))) == 7).all()


def test_gaps_are_marked_carried_and_filled_from_the_season_before() -> None:
    values = windows(1)
    values[0, [3, 20]] = np.nan
    view = scale(values, 6, [6])
    assert view.x.shape == (1, 24, CHANNELS)
    assert np.flatnonzero(view.x[0, :, -1] == 0).tolist() == [3, 20]
    assert view.x[0, 20, 0] == view.x[0, 19, 0]
    assert view.base[0, 2] == values[0, 14]  # 20 is missing, 14 is a season before
    assert view.base[0, 1] == values[0, 19]


def test_a_short_a_constant_and_an_empty_window_are_finite() -> None:
    values = np.stack([np.full(24, 7.0), np.full(24, np.nan), np.r_[np.full(22, np.nan), 3.0, 4.0]])
    view = scale(values, 8, [1, 6])
    assert view.moving.tolist() == [False, False, True]
    for array in (view.x, view.base, view.scale):
        assert np.isfinite(array).all()
    assert (view.restored(np.ones((3, 8, 1)))[0] == 7).all()  # whatever the network says
    assert np.isnan(view.targets(np.zeros((3, 8)))[:2]).all()
