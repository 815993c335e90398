"""Windows and futures of many series, against slices of each."""

from __future__ import annotations

import numpy as np

from gatewise.tasks.forecast.panel import Origins, Panel

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
