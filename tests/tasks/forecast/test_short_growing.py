"""Intervals of one short series that grows: they hold their level on simulated data, or a sentence says why not."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.table import Table

TIMES = np.arange(40)
SMALL: dict[str, Any] = {"horizon": 4, "season": 1, "freq": 1, "hidden_size": 8, "n_models": 1, "max_steps": 50}


def growing(seed: int) -> Table:
    """A straight line whose noise grows with it."""
    noise = np.random.default_rng(seed).normal(size=40)
    return Table({"": (TIMES, (20 + 2 * TIMES) * (1 + 0.1 * noise))}, "y")


@pytest.mark.parametrize("strategy", ["direct", "recursive"])
def test_intervals_hold_their_level_behind_the_end(strategy: str) -> None:
    """Twelve series, each with a fit of its own: a standard error of about 6 % of the coverage."""
    held = []
    for seed in range(12):
        found = Forecaster(**SMALL, strategy=strategy, level=80).fit(growing(seed)).cross_validation()
        held.append((found["gru-lo-80"] <= found["y"]) & (found["y"] <= found["gru-hi-80"]))
    assert np.mean(held) >= 0.8


def test_a_sentence_says_where_horizons_are_too_few(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gatewise"):
        Forecaster(**SMALL, level=[80, 95]).fit(growing(0))
    assert "level: the validation parts hold 2 horizons in all and intervals of 95 % need 19" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "gatewise"):
        Forecaster(**SMALL, level=80, validation_size=16).fit(growing(0))
        Forecaster(**SMALL).fit(growing(0))
    assert "level:" not in caplog.text
