"""Distributions of the next value: likelihoods beside scipy's, moments of what is drawn, and which one is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from gatewise.tasks import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.distributions import DISTRIBUTIONS, LEAST_EXCESS, NARROWEST, likely
from gatewise.tasks.forecast.table import Table

GENERATOR = np.random.default_rng(0)
LEVEL, SCALE = GENERATOR.normal(0, 50, 40), GENERATOR.uniform(1.0, 30, 40)


def said(name: str) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1.5, (40, len(DISTRIBUTIONS[name].start)))


def frozen(name: str, raw: np.ndarray) -> Any:
    """The same distribution by scipy, in units of the data."""
    soft = np.log1p(np.exp(raw))
    if name == "negative_binomial":
        mean, excess = SCALE * soft[:, 0] + LEAST_EXCESS, soft[:, 1] / np.sqrt(SCALE) + LEAST_EXCESS
        return stats.nbinom(1 / excess, 1 / (1 + excess * mean))
    where, width = LEVEL + SCALE * raw[:, 0], SCALE * (soft[:, 1] + NARROWEST)
    return stats.norm(where, width) if name == "gaussian" else stats.t(2 + soft[:, 2], where, width)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_loss_is_the_negative_log_likelihood(name: str) -> None:
    kind, raw = DISTRIBUTIONS[name], said(name)
    values = np.asarray(frozen(name, raw).rvs(random_state=3), np.float64)
    target = torch.from_numpy(kind.target(values, LEVEL, SCALE))
    loss = kind.loss(torch.from_numpy(raw), target, torch.from_numpy(SCALE)).numpy()
    if kind.counts:
        np.testing.assert_allclose(loss, -frozen(name, raw).logpmf(values), rtol=1e-8)
    else:  # in units of the scale
        np.testing.assert_allclose(loss, -frozen(name, raw).logpdf(values) - np.log(SCALE), rtol=1e-8)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_gradient_of_the_loss_is_that_of_differences(name: str) -> None:
    kind, raw = DISTRIBUTIONS[name], torch.from_numpy(said(name)).requires_grad_()
    target = torch.from_numpy(np.random.default_rng(2).poisson(5, 40).astype(np.float64))
    assert torch.autograd.gradcheck(lambda r: kind.loss(r, target, torch.from_numpy(SCALE)), (raw,))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_have_the_moments_of_the_distribution(name: str) -> None:
    """4,000 draws from the middles of equal parts; the deviation of Student's t near two degrees has no limit, so that
    quartiles are compared there."""
    kind, raw = DISTRIBUTIONS[name], said(name)
    at = (np.arange(4000) + 0.5) / 4000
    drawn = kind.drawn(raw, LEVEL, SCALE, np.broadcast_to(at[:, None], (4000, 40)))
    exact, mean = frozen(name, raw), kind.mean(raw, LEVEL, SCALE)
    np.testing.assert_allclose(mean, exact.mean(), rtol=1e-9)
    np.testing.assert_allclose(drawn.mean(0), mean, rtol=0.02, atol=1e-3)
    if name == "student_t":
        apart = np.quantile(drawn, [0.25, 0.75], axis=0) - [exact.ppf(0.25), exact.ppf(0.75)]
        np.testing.assert_allclose(apart / SCALE, 0, atol=2e-3)
    else:
        np.testing.assert_allclose(drawn.std(0), exact.std(), rtol=0.03)
    if kind.counts:
        assert (drawn == np.rint(drawn)).all()
        assert (drawn >= 0).all()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_extreme_numbers_of_a_network_stay_finite(name: str) -> None:
    kind, raw = DISTRIBUTIONS[name], np.full((2, len(DISTRIBUTIONS[name].start)), 60.0) * [[1.0], [-1.0]]
    scale, level, target = np.array([1.0, 1e6]), np.zeros(2), torch.tensor([7.0, 1e7], dtype=torch.float64)
    gradient = torch.from_numpy(raw).requires_grad_()
    loss = kind.loss(gradient, target, torch.from_numpy(scale))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert gradient.grad is not None
    assert torch.isfinite(gradient.grad).all()
    for at in (1e-6, 0.5, 1 - 1e-6):
        assert np.isfinite(kind.drawn(raw, level, scale, np.full(2, at))).all()


def test_small_counts_are_told_by_the_data() -> None:
    counts = np.array([0.0, 3, 1, np.nan, 2])
    assert likely([counts, counts + 1]) == "negative_binomial"
    for other in (counts + 500, counts - 1, counts + 0.5):
        assert likely([other]) == "student_t"


def test_a_negative_binomial_for_what_is_no_count_gets_a_sentence() -> None:
    times = (np.datetime64("2020-01-01") + np.arange(40)).astype("datetime64[s]")
    table = Table({"a": (times, np.arange(40) % 7 + 0.5)}, "y")
    with pytest.raises(InputError, match=r"series 'a' has the value 0\.5, expected counts for a negative binomial"):
        Forecaster(strategy="recursive", horizon=4, distribution="negative_binomial").fit(table)
