"""Numbers of a column: one reading, or one sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.values import values_of


def row(i: int) -> str:
    return f"row {i}"


NAN = math.nan


@pytest.mark.parametrize(
    ("texts", "decimal", "expected"),
    [
        (["1.5", "-3e2", " 2 "], None, [1.5, -300, 2]),
        (["1", "N/A", "?", "", "NaN", "NULL", "<NA>", "-", "#N/A"], None, [1, *[NAN] * 8]),
        (["1,5", "2"], None, [1.5, 2]),
        (["0,125", "2"], None, [0.125, 2]),
        (["1.234,5", "1.234"], None, [1234.5, 1234]),
        (["1,234.5", "1,234"], None, [1234.5, 1234]),
        (["1,234,567"], None, [1234567]),
        (["1,234"], ".", [1234]),
        (["1,234"], ",", [1.234]),
        (["1.234"], None, [1.234]),
        (["1.234"], ",", [1234]),
        (["-1,5", "1,234"], None, [-1.5, 1.234]),
    ],
    ids=str,
)
def test_a_column_of_numbers(texts: list[str], decimal: str | None, expected: list[float]) -> None:
    np.testing.assert_array_equal(values_of(texts, row, decimal), expected)


@pytest.mark.parametrize(
    ("texts", "decimal", "sentence"),
    [
        (["1", "much"], None, "row 1 has the value 'much'; expected a number, or nothing where it is missing"),
        (["1,234"], None, "row 0 has the value '1,234', whose comma may part thousands or decimals; decimal, "),
        (["1,5", "2.5"], None, r"row 1 has the value '2.5'; expected a number with a decimal comma"),
        (["1,23"], ".", "row 0 has the value '1,23'; expected a number with a decimal point"),
        (["True"], None, "row 0 has the value 'True'; expected a number"),
        (["12 %"], None, "row 0 has the value '12 %'"),
        (["1_000"], None, "row 0 has the value '1_000'"),
        (["inf"], None, "row 0 has the value 'inf'"),
        (["1e300"], None, r"row 0 has the value '1e300'; expected a number from -1e\+30 to 1e\+30"),
    ],
    ids=str,
)
def test_what_is_no_number_gets_a_sentence(texts: list[str], decimal: str | None, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        values_of(texts, row, decimal)


numbers = st.lists(st.none() | st.floats(-1e29, 1e29), min_size=1)


@given(numbers, st.sampled_from([".", ","]))
def test_any_number_is_read_back_with_either_mark(values: list[float | None], mark: str) -> None:
    texts = ["" if v is None else repr(v).replace(".", mark) for v in values]
    expected = [math.nan if v is None else v for v in values]
    np.testing.assert_array_equal(values_of(texts, row, mark), expected)


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1))
def test_thousands_in_groups(values: list[int]) -> None:
    assert values_of([f"{v:,}" for v in values], row, ".").tolist() == values
    assert values_of([f"{v:,}".replace(",", ".") for v in values], row, ",").tolist() == values
