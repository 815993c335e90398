"""What counts as a difference."""

import numpy as np
import pytest

from gatewise.errors import InputError
from gatewise.formats.onnx.check import TOLERANCE, difference, largest


def test_in_units_of_the_largest_number() -> None:
    assert difference(np.array([100.0, 1.0]), np.array([100.0, 1.5])) == 0.005
    assert difference(np.zeros(3), np.zeros(3)) == 0.0
    assert difference(np.zeros(0), np.zeros(0)) == 0.0


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([1.0, np.nan], [1.0, 2.0]),
        ([1.0, 2.0], [1.0, np.nan]),
        ([1.0, np.inf], [1.0, -np.inf]),
        ([1.0], [1.0, 1.0]),
    ],
)
def test_what_is_no_number_must_be_none_in_both(expected: list[float], found: list[float]) -> None:
    assert difference(np.array(expected), np.array(found)) == float("inf")


def test_no_number_in_both_is_no_difference() -> None:
    assert difference(np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf])) == 0.0


def test_the_largest_difference_is_given_or_refused() -> None:
    one = np.ones(2)
    assert largest([("a", one, one), ("b", one, one + TOLERANCE / 2)], "m") == pytest.approx(TOLERANCE / 2)
    with pytest.raises(InputError, match=r"m: b in ONNX Runtime differs from Gatewise's by 0\.0001 .* nothing was"):
        largest([("a", one, one), ("b", one, one + 1e-4)], "m")
    with pytest.raises(InputError, match=r"by inf of"):
        largest([("a", one, one * np.nan)], "m")
