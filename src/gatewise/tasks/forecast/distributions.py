"""Distributions of the next value: what a network says of it, its likelihood, and values drawn from it.

A network says some numbers for every step. They are in units of a level and a scale, which follow from the values
before; a draw is the inverse of the distribution function at a number between 0 and 1, so that whoever gives the same
numbers gets the same draws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gatewise.tasks.errors import need
from gatewise.tasks.forecast.table import Values

NARROWEST = 1e-3
"""The least deviation, in units of the scale: what repeats exactly has no likelihood otherwise."""
LEAST_EXCESS = 1e-5
"""The least excess of a variance of counts, in units of the squared mean; beyond it counts are Poisson's."""
MOST_COUNT = 30.0
"""Counts of which half are above it are numbers like others."""


class Distribution(ABC):
    """A distribution with as many parameters as ``start`` is long.

    start: what an untrained network says. counts: whether values are counts, which have a scale and no level.
    """

    name: str
    start: tuple[float, ...]
    counts: bool = False

    def target(self, values: Values, level: Values, scale: Values) -> Values:
        """What ``loss`` takes of values in units of the data."""
        return (values - level) / scale

    @abstractmethod
    def loss(self, said: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        """The negative log-likelihood (…) of targets (…), in nats, from what a network said (…, parameters)."""

    @abstractmethod
    def mean(self, said: Values, level: Values, scale: Values) -> Values:
        """The mean (…) in units of the data."""

    @abstractmethod
    def drawn(self, said: Values, level: Values, scale: Values, at: Values) -> Values:
        """The quantiles (…) at shares in (0, 1), in units of the data."""


class Gaussian(Distribution):
    """N(m, d²) with d = softplus(·) + NARROWEST."""

    name = "gaussian"
    start: tuple[float, ...] = (0.0, -0.5)

    def loss(self, said: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        deviation = F.softplus(said[..., 1]) + NARROWEST
        away = (target - said[..., 0]) / deviation
        return 0.5 * away**2 + deviation.log() + 0.5 * float(np.log(2 * np.pi))

    def mean(self, said: Values, level: Values, scale: Values) -> Values:
        return level + scale * said[..., 0]

    def drawn(self, said: Values, level: Values, scale: Values, at: Values) -> Values:
        deviation = scale * (softplus(said[..., 1]) + NARROWEST)
        return np.asarray(self.mean(said, level, scale) + deviation * special().ndtri(at))


class StudentT(Gaussian):
    """Student's t about m with deviation d and 2 + softplus(·) degrees of freedom: a Gaussian with heavier tails."""

    name = "student_t"
    start = (0.0, -0.5, 2.0)

    def loss(self, said: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        deviation, freedom = F.softplus(said[..., 1]) + NARROWEST, 2 + F.softplus(said[..., 2])
        away = (target - said[..., 0]) / deviation
        tails = (freedom + 1) / 2 * torch.log1p(away**2 / freedom)
        peak = torch.lgamma((freedom + 1) / 2) - torch.lgamma(freedom / 2) - 0.5 * (np.pi * freedom).log()
        return tails + deviation.log() - peak

    def drawn(self, said: Values, level: Values, scale: Values, at: Values) -> Values:
        deviation, freedom = softplus(said[..., 1]) + NARROWEST, 2 + softplus(said[..., 2])
        return np.asarray(self.mean(said, level, scale) + scale * deviation * special().stdtrit(freedom, at))


class NegativeBinomial(Distribution):
    """Counts of mean m and variance m + a·m², with m = scale·softplus(·) and a = softplus(·) / √scale (DeepAR)."""

    name = "negative_binomial"
    start = (0.5413248546129181, 0.0)  # softplus of the first is 1: the mean is the scale
    counts = True

    def target(self, values: Values, level: Values, scale: Values) -> Values:
        return values

    def loss(self, said: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        said, target, scale = said.double(), target.double(), scale.double()  # differences of large logarithms
        mean = scale * F.softplus(said[..., 0]) + LEAST_EXCESS
        size = 1 / (F.softplus(said[..., 1]) / scale.sqrt() + LEAST_EXCESS)
        ways = torch.lgamma(target + size) - torch.lgamma(size) - torch.lgamma(target + 1)
        return (size + target) * torch.log1p(mean / size) - target * (mean / size).log() - ways

    def mean(self, said: Values, level: Values, scale: Values) -> Values:
        return np.asarray(scale * softplus(said[..., 0]) + LEAST_EXCESS)

    def drawn(self, said: Values, level: Values, scale: Values, at: Values) -> Values:
        mean = self.mean(said, level, scale)
        size = 1 / (softplus(said[..., 1]) / np.sqrt(scale) + LEAST_EXCESS)
        need("scipy")
        from scipy.stats import nbinom

        return np.asarray(nbinom.ppf(at, size, size / (size + mean)))


DISTRIBUTIONS: dict[str, Distribution] = {kind.name: kind for kind in (StudentT(), Gaussian(), NegativeBinomial())}


def special() -> Any:
    """The module of inverse distribution functions."""
    need("scipy")
    import scipy.special

    return scipy.special


def softplus(values: NDArray[np.float64]) -> Values:
    """log(1 + eˣ), number by number the same in any array."""
    return np.asarray(np.logaddexp(0.0, values))


def likely(series: Sequence[Values]) -> str:
    """The distribution for series: of counts where all values are whole, none is negative and half are small."""
    for values in series:
        known = values[~np.isnan(values)]
        if (known < 0).any() or (known != np.rint(known)).any():
            return StudentT.name
    middle = float(np.median(np.concatenate([values[~np.isnan(values)] for values in series])))
    return NegativeBinomial.name if middle <= MOST_COUNT else StudentT.name


def check_counts(values: Values) -> str | None:
    """Why values are no counts, where they are not."""
    known = values[~np.isnan(values)]
    wrong = (known < 0) | (known != np.rint(known))
    if not wrong.any():
        return None
    return f"has the value {known[wrong][0]:g}, expected counts for a negative binomial distribution"
