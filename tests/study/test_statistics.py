"""Intervals and verdicts: known cases, and that a claim can come out either way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gatewise.study.statistics import above, all_of, interval, paired
from gatewise.tasks import InputError


def test_an_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0, 4.5]
    found = interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert interval([3.0]).high == math.inf


def test_its_coverage_is_what_it_says() -> None:
    draws = np.random.default_rng(0).normal(5.0, 2.0, (2000, 5))
    inside = [found.low < 5.0 < found.high for found in map(interval, draws)]
    assert 0.935 < np.mean(inside) < 0.965


@pytest.mark.parametrize(
    ("difference", "spread", "relation"),
    [(0.0, 0.01, "equal"), (0.0, 1.0, "undecided"), (-1.0, 0.1, "lower"), (1.0, 0.1, "higher"), (0.11, 0.01, "higher")],
)
def test_relations(difference: float, spread: float, relation: str) -> None:
    b = np.array([1.0, 5.0, 3.0, 2.0, 9.0])
    a = b + difference + spread * np.array([-1.0, 1.0, -0.5, 0.5, 0.0])
    found = paired(a.tolist(), b.tolist(), 0.1)
    assert found.relation == relation
    assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue, nan_ok=True)


def test_a_small_but_certain_difference_is_within_the_margin() -> None:
    found = paired([1.02, 2.02, 3.021], [1.0, 2.0, 3.0], 0.1)
    assert found.p_value < 0.001
    assert found.relation == "equal"


def test_one_seed_decides_nothing() -> None:
    assert paired([1.0], [5.0], 0.1).relation == "undecided"


def test_verdicts() -> None:
    assert all_of(["holds", "holds"]) == "holds"
    assert all_of(["holds", "undecided"]) == "undecided"
    assert all_of(["undecided", "fails"]) == "fails"
    assert all_of([]) == "undecided"
    assert all_of(["holds", "too short to tell", "undecided"]) == "too short to tell"
    assert all_of(["too short to tell", "fails"]) == "fails"
    assert [above(interval(v), 1.0) for v in ([2.0, 2.1, 2.2], [0.1, 0.2, 0.1], [0.0, 2.1])] == [
        "holds",
        "fails",
        "undecided",
    ]


def test_bad_figures_get_a_sentence() -> None:
    with pytest.raises(InputError, match="finite"):
        interval([1.0, math.nan])
    with pytest.raises(InputError, match="as many on both sides"):
        paired([1.0], [1.0, 2.0], 0.1)
    with pytest.raises(InputError, match="margin must be above 0"):
        paired([1.0, 2.0], [1.0, 2.0], 0.0)
