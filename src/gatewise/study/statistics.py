"""Judging a claim from a few seeds: intervals, a paired comparison, and equivalence within a margin fixed beforehand.

"Not significant" is not "equal": two things are equal only where the interval of their difference lies inside the
margin (two one-sided tests, Schuirmann 1987), and differ only where it lies outside of zero and of the margin's middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gatewise.tasks.errors import InputError, need

Verdict = Literal["holds", "fails", "undecided", "too short to tell"]
"""``too short to tell``: a network on which the verdict would rest has not learnt its task within the budget."""
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its confidence interval by Student's t."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean of independent values and its two-sided confidence interval; unbounded for a single value.

    Raises:
        InputError: for no value, or one that is not finite.
    """
    need("scipy", "study")
    from scipy import stats

    array = np.asarray(values, np.float64)
    if not array.size or not np.isfinite(array).all():
        raise InputError(f"values must be one or more finite numbers, got {list(values)!r}")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(stats.t.ppf(0.5 + level / 2, array.size - 1)) * float(array.std(ddof=1)) / math.sqrt(array.size)
    return Interval(mean, mean - half, mean + half, int(array.size))


@dataclass(frozen=True)
class Paired:
    """``a - b`` seed by seed: its interval, the p-value of a paired t-test, and what follows for a margin."""

    difference: Interval
    p_value: float
    margin: float
    relation: Literal["equal", "lower", "higher", "undecided"]
    """``a`` beside ``b``; ``equal`` within the margin, ``lower`` or ``higher`` where the interval is beyond zero and
    the difference at least the margin, else undecided."""


def paired(a: Sequence[float], b: Sequence[float], margin: float) -> Paired:
    """Compare two lists of figures that belong together seed by seed.

    Equal: the 90 % interval of the mean difference lies within ± margin, which is the pair of one-sided tests at 5 %.
    Lower or higher: the 95 % interval leaves out zero, and the mean difference reaches the margin.

    Raises:
        InputError: for lists of different length, or a margin that is not above 0.
    """
    if len(a) != len(b):
        raise InputError(f"paired figures must be as many on both sides, got {len(a)} and {len(b)}")
    if not margin > 0:
        raise InputError(f"margin must be above 0, got {margin!r}")
    differences = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    wide, narrow = interval(differences), interval(differences, 2 * LEVEL - 1)
    relation: Literal["equal", "lower", "higher", "undecided"] = "undecided"
    if -margin < narrow.low and narrow.high < margin:
        relation = "equal"
    elif wide.high < 0 and wide.mean <= -margin:
        relation = "lower"
    elif wide.low > 0 and wide.mean >= margin:
        relation = "higher"
    return Paired(wide, _p_value(differences), margin, relation)


def _p_value(differences: list[float]) -> float:
    from scipy import stats

    if len(differences) < 2:
        return math.nan
    if np.ptp(differences) == 0.0:
        return 1.0 if differences[0] == 0.0 else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim that says several things at once: one that fails decides, then one that cannot tell."""
    order: tuple[Verdict, ...] = ("fails", "too short to tell", "undecided")
    return next((one for one in order if one in verdicts), "holds" if verdicts else "undecided")


def above(values: Interval, bound: float) -> Verdict:
    """Whether a figure is above a bound: holds or fails where its whole interval is on one side."""
    return "holds" if values.low > bound else "fails" if values.high < bound else "undecided"
