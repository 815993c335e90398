"""Rows of numbers as bytes, held against whole numbers in Python."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gatewise.quantization import grid


def uneven(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows of very different sizes, none symmetric."""
    generator = torch.Generator().manual_seed(rows * 1000 + columns)
    size = 10.0 ** torch.randint(-6, 6, (rows, 1), generator=generator)
    return ((torch.randn(rows, columns, generator=generator) + 0.3) * size).to(dtype)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=st.integers(1, 9), columns=st.integers(1, 70), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_weights_come_back_from_the_numbers_that_they_stand_for(rows: int, columns: int, dtype: torch.dtype) -> None:
    matrix = uneven(rows, columns, dtype)
    matrix[rows // 2] = 0
    bytes_, scale = grid.weights(matrix)
    assert bytes_.dtype == torch.int8
    assert scale.dtype == dtype
    assert grid.problem(bytes_, scale) == ""
    stood_for = grid.numbers(bytes_, scale)
    for row, own, factor in zip(stood_for.tolist(), bytes_.tolist(), scale.tolist(), strict=True):
        assert [Fraction(v) for v in row] == [q * Fraction(factor) for q in own]  # exact, nothing was rounded
    again, same = grid.rows(stood_for)
    assert torch.equal(again, bytes_.to(dtype))
    assert torch.equal(same.squeeze(-1), scale)
    assert bool(((stood_for - matrix).abs() <= 0.5001 * scale[:, None]).all())
    largest = matrix.abs().amax(-1) / 127
    assert bool((scale >= largest).all())
    assert bool((scale <= largest * (1 + 2.0**-14)).all())


def test_rows_round_halves_to_even_and_take_their_largest_number_as_127() -> None:
    found, scale = grid.rows(torch.tensor([[127.0, -126.5, 2.5, 3.5, -0.5], [0.0, 0.0, 0.0, 0.0, 0.0]]))
    assert found.tolist() == [[127.0, -126.0, 2.0, 4.0, 0.0], [0.0] * 5]
    assert scale.tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_with_no_finite_number_is_nan_and_the_others_are_not(bad: float) -> None:
    x, weight = uneven(3, 5), uneven(4, 5)
    x[1, 2] = bad
    y = grid.linear(x, weight)
    assert bool(y[1].isnan().all())
    assert bool(y[::2].isfinite().all())
    assert torch.equal(y[::2], grid.linear(x[::2], weight))
    with pytest.raises(ValueError, match="expected finite numbers"):
        grid.weights(x)


def test_rows_too_small_to_be_scaled_are_zero() -> None:
    x = torch.tensor([[1e-38, -1e-40, 0.0], [2.0**-100, 0.0, -(2.0**-101)]])
    found, scale = grid.rows(x)
    assert found.tolist() == [[0.0, 0.0, 0.0], [127.0, 0.0, -64.0]]
    assert scale[0].item() == 0.0
    assert scale[1].item() > 0


def test_products_are_sums_of_whole_numbers() -> None:
    x, weight, bias = uneven(3, 1500), uneven(4, 1500), torch.randn(4)
    left, left_scale = grid.rows(x)
    right, right_scale = grid.rows(weight)
    for i in range(3):
        for j in range(4):
            exact = sum(int(a) * int(b) for a, b in zip(left[i].tolist(), right[j].tolist(), strict=True))
            scale = (left_scale[i] * right_scale[j]).float().item()
            wanted = exact * scale + bias[j].item()
            size = abs(exact * scale) + abs(bias[j].item())
            assert abs(grid.linear(x, weight, bias)[i, j].item() - wanted) <= 2.0**-22 * size


@pytest.mark.parametrize(
    ("bytes_", "scale", "words"),
    [
        ([[-128, 127]], [1.0], "−128"),
        ([[5, 6]], [1.0], "must have a ±127"),
        ([[127, 6]], [float("nan")], "finite"),
        ([[127, 6]], [-1.0], "not negative"),
    ],
)
def test_bytes_from_elsewhere(bytes_: list[list[int]], scale: list[float], words: str) -> None:
    assert words in grid.problem(torch.tensor(bytes_, dtype=torch.int8), torch.tensor(scale))
