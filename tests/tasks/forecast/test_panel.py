"""Windows and futures of many series, against slices of each."""

from __future__ import annotations

import numpy as np

from gatewise.tasks.forecast.panel import Origins, Panel, apart, merged, places

SERIES = [np.arange(10.0), 100 + np.arange(3.0), 200 + np.arange(7.0)]


def padded(values: np.ndarray, origin: int, window: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The slow way."""
    long = np.concatenate([np.full(window, np.nan), values, np.full(2 * horizon + 9, np.nan)])
    return long[origin : origin + window], long[origin + window : origin + window + horizon]


def test_windows_and_futures_are_slices_with_nothing_beyond_a_series() -> None:
    panel = Panel(SERIES, window=4, horizon=3)
    for which, values in enumerate(SERIES):
        for origin in range(len(values) + 1):
            at = np.array([which]), np.array([origin])
            window, future = padded(values, origin, 4, 3)
            np.testing.assert_array_equal(panel.windows(*at)[0], window)
            np.testing.assert_array_equal(panel.futures(*at)[0], future)


def test_origins_are_those_of_one_series_after_the_other() -> None:
    origins = Origins([4, 1, 3], [7, 1, 5])
    which, at = origins.at(np.arange(len(origins)))
    assert list(zip(which.tolist(), at.tolist(), strict=True)) == [(0, 4), (0, 5), (0, 6), (2, 3), (2, 4)]


def test_targets_go_beside_each_other_and_apart_again() -> None:
    x = np.arange(2 * 3 * 4 * 5).reshape(2 * 3, 4, 5)  # two series of three targets, four steps, five columns
    beside = merged(x, 3)
    assert beside.shape == (2, 4, 15)
    for series in range(2):
        for target in range(3):
            np.testing.assert_array_equal(beside[series, :, 5 * target : 5 * target + 5], x[3 * series + target])
    np.testing.assert_array_equal(apart(beside, 3), x)
    assert merged(x[..., :0], 3).shape == (2, 4, 0)
    np.testing.assert_array_equal(places(np.array([1, 0]), 3), [3, 4, 5, 0, 1, 2])
