"""Covariates as the network reads them, against what one would write down by hand for each window."""

from __future__ import annotations

import numpy as np

from gatewise.tasks.forecast.beside import Covariates, Stretch, widths
from gatewise.tasks.forecast.calendars import features
from gatewise.tasks.forecast.covariates import Covariate
from gatewise.tasks.forecast.frequency import Frequency
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.panel import Panel
from gatewise.tasks.forecast.scaling import naive, scale
from gatewise.tasks.forecast.scheme import Scheme, learnt

COLUMNS = (
    Covariate("price", "past"),
    Covariate("promo", "future"),
    Covariate("colour", "future", ("red", "blue", "new")),
    Covariate("size", "static"),
    Covariate("town", "static", ("x", "y")),
)
WINDOW, HORIZON, END = 6, 4, 20
DAILY = Frequency(seconds=86400)


def series(name: str, seed: int, count: int = 30) -> Series:
    """Values, and covariates that go on for a horizon; the word ``new`` comes behind the training part alone."""
    random = np.random.default_rng(seed)
    extras = np.stack([random.normal(5, 2, count + HORIZON), random.normal(size=count + HORIZON)], 1)
    extras[[3, 11], [0, 1]] = np.nan
    words = np.where(np.arange(count + HORIZON) < END, random.integers(0, 2, count + HORIZON), 2).astype(float)
    words[5] = np.nan
    rest = np.stack([words, np.full(len(words), seed), np.full(len(words), seed % 2)], 1)
    whole = np.concatenate([extras, rest], 1)
    return Series(name, np.datetime64("2020-01-01", "s"), random.normal(size=count), DAILY, whole, COLUMNS)


def covered(scheme: Scheme, both: list[Series]) -> tuple[Panel, Covariates]:
    panel = Panel([one.values for one in both], WINDOW, HORIZON)
    return panel, Covariates(scheme, panel, [Stretch(one, 0, len(one.values)) for one in both])


def test_each_window_has_what_stands_beside_it() -> None:
    both = [series("a", 0), series("b", 1, 24)]
    scheme = Scheme(learnt(both, [END, END]).features, ("week",))
    panel, covariates = covered(scheme, both)
    prices = np.concatenate([one.extras[:END, 0] for one in both])
    mean, spread = np.nanmean(prices), np.nanstd(prices)
    promos = np.concatenate([one.extras[:END, 1] for one in both])
    for which, origin in ((0, 30), (0, 13), (1, 4), (1, 24)):
        at = np.array([which]), np.array([origin])
        view = scale(panel.windows(*at), HORIZON, [1, -2])
        past, future, static = (part[0] for part in covariates.of(*at, view))
        one = both[which]
        for step in range(WINDOW):
            row = one.extras[origin - WINDOW + step] if origin - WINDOW + step >= 0 else np.full(5, np.nan)
            numbers = np.array([(row[0] - mean) / spread, (row[1] - promos_mean(promos)) / np.nanstd(promos)])
            time = one.start + np.timedelta64(origin - WINDOW + step, "D")
            week = features(np.array([time]), ("week",))[0] if origin - WINDOW + step >= 0 else np.zeros(6)
            code = {0.0: 2, 1.0: 3, 2.0: 1}.get(float(row[2]), 0)  # a word that training did not see is 1
            expected = [*np.nan_to_num(numbers), *~np.isnan(numbers), *week, code]
            np.testing.assert_allclose(past[step], expected, atol=1e-5)
        promo = (one.extras[:, 1] - promos_mean(promos)) / np.nanstd(promos)
        window = np.concatenate([np.full(WINDOW, np.nan), promo])[None, origin : origin + WINDOW]
        known, ahead = ~np.isnan(window), promo[origin : origin + HORIZON]
        filled = carried_slowly(window[0])[None]
        alike = sum(w[0] * naive(filled, known, HORIZON, lag)[0] for lag, w in zip([1, -2], view.weights, strict=True))
        np.testing.assert_allclose(future[:, 0], np.nan_to_num(ahead), atol=1e-5)
        np.testing.assert_allclose(future[:, 1], np.nan_to_num(ahead - alike), atol=1e-4)
        np.testing.assert_array_equal(future[:, 2], ~np.isnan(ahead))
        size = (which - 0.5) / 0.5
        np.testing.assert_allclose(static, [size, 1, which + 2], atol=1e-6)


def promos_mean(promos: np.ndarray) -> float:
    return float(np.nanmean(promos))


def carried_slowly(values: np.ndarray) -> np.ndarray:
    known = values[~np.isnan(values)]
    found, last = [], known[0] if len(known) else 0.0
    for value in values:
        last = last if np.isnan(value) else value
        found.append(last)
    return np.array(found)


def test_the_widths_are_those_of_the_arrays() -> None:
    both = [series("a", 0), series("b", 1)]
    for calendar in ((), ("week", "year")):
        scheme = Scheme(learnt(both, [END, END]).features, calendar)
        panel, covariates = covered(scheme, both)
        at = np.array([0, 1]), np.array([20, 25])
        found = covariates.of(*at, scale(panel.windows(*at), HORIZON, [1]))
        for part, width in zip(found, widths(scheme), strict=True):
            assert part.dtype == np.float32
            assert part.shape[-1] == width.numbers + len(width.words)


def test_a_target_that_is_its_covariate_has_the_error_of_the_covariates_naive_forecast() -> None:
    """What ``apart`` is for: whatever the lags, target and naive forecast differ as the covariate and its own do."""
    random = np.random.default_rng(0)
    x = random.normal(size=60)
    windows, future = 3 * x[None, :50] + 7, 3 * x[None, 50:] + 7
    view = scale(windows, 10, [1, 7, -7])
    np.testing.assert_allclose(3 * (x[50:] - view.alike(x[None, :50, None])[0, :, 0]), (future - view.base)[0])
