"""Scaling in torch operations against that in NumPy, on windows of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.tasks.forecast import intervals, scaling, scaling_torch


def windows(width: int, seed: int) -> Any:
    """Walks, with gaps, cut at the start, without change, with one value, with none, and far from zero."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(8, width)).cumsum(1)
    rows[1, generator.random(width) < 0.4] = np.nan
    rows[2, : width // 2] = np.nan
    rows[3] = 5.0
    rows[4, :-1] = np.nan
    rows[5] = np.nan
    rows[6] += 1e6
    rows[7] = np.arange(width) % 4
    return rows


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    width=st.integers(2, 40),
    horizon=st.integers(1, 9),
    lags=st.lists(st.sampled_from([1, 2, 3, 7, 12, -2, -3, -7, -12, 50, -50]), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 1000),
)
def test_as_in_numpy(width: int, horizon: int, lags: list[int], seed: int) -> None:
    rows = windows(width, seed)
    expected = scaling.scale(rows, horizon, lags)
    x, base, size = scaling_torch.scale(torch.from_numpy(rows), horizon, lags)
    np.testing.assert_allclose(x.numpy(), expected.x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(base.numpy(), expected.base, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(size.numpy(), np.where(expected.moving, expected.scale, 0), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_stretched_as_in_numpy(levels: int) -> None:
    said = np.random.default_rng(levels).normal(size=(3, 5, 1 + 2 * levels))
    factors = np.array([2.5, 1.0, 0.5])[:levels]
    found = scaling_torch.stretched(torch.from_numpy(said), torch.from_numpy(factors))
    np.testing.assert_allclose(found.numpy(), intervals.stretched(said, factors.tolist()), rtol=1e-12)
