"""Rows of numbers as bytes: one scale for each row, symmetric, so that the largest number of a row is ±127.

A row r with m = max|r| stands as q = round(r · (127 / m)), halves to even, and the scale m / 127, both in the dtype of
the row. Rows whose largest number is below ``SMALLEST`` count as zero. A row that holds NaN or infinity has the scale
NaN, so that whatever it is multiplied with is NaN.

Weights get scales of few digits (``weights``), so that q · scale is exact in float32: ``rows`` of such numbers gives
the same bytes and scales back. So weights may travel as float32, and kernels find their bytes again.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 127
"""Of a byte, either sign: −128 is not used, so that the grid is symmetric."""
SMALLEST = 2.0**-100
"""Below it 127 / m could overflow float32."""
DIGITS = 16
"""Binary digits of a weight's scale: with the seven of a byte they fit into the 24 of float32."""


def rows(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The bytes of the rows of the last dimension, as whole numbers in its dtype, and their scales.

    Args:
        numbers: (..., columns), float32 or float64.

    Returns:
        (..., columns) and (..., 1).
    """
    largest = numbers.abs().amax(-1, keepdim=True)  # of a row with NaN it is NaN
    there, finite = largest >= SMALLEST, largest.isfinite()
    factor = torch.where(there & finite, LARGEST / largest, 0.0)
    scale = torch.where(finite, torch.where(there, largest / LARGEST, 0.0), torch.nan)
    return torch.where(finite, numbers * factor, 0.0).round(), scale


def weights(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A weight matrix as int8, and the scale of each row.

    Args:
        matrix: (rows, columns), float32 or float64, finite.

    Returns:
        int8 (rows, columns), each row with a ±127 or zero throughout; the scales, (rows,), in the matrix's dtype, of
        ``DIGITS`` binary digits.

    Raises:
        ValueError: for a number that is infinite or no number.
    """
    if not bool(matrix.isfinite().all()):
        raise ValueError("weights: got infinity or not-a-number, expected finite numbers")
    _, exact = rows(matrix)
    mantissa, exponent = torch.frexp(exact)
    scale = torch.ldexp(torch.ceil(torch.ldexp(mantissa, torch.tensor(DIGITS))), exponent - DIGITS)
    bytes_ = torch.where(scale > 0, matrix / scale, 0.0).round()
    return bytes_.to(torch.int8), scale.squeeze(-1)


def numbers(bytes_: Tensor, scale: Tensor) -> Tensor:
    """What bytes stand for: (rows, columns) in the dtype of the scales, (rows,)."""
    return bytes_.to(scale.dtype).mul_(scale.unsqueeze(-1))


def problem(bytes_: Tensor, scale: Tensor) -> str:
    """What is wrong with bytes and scales that came from elsewhere; empty where ``rows`` would find them again."""
    if bool((bytes_ < -LARGEST).any()):
        return "bytes must lie between −127 and 127, got −128"
    if not bool(scale.isfinite().all()) or bool((scale < 0).any()):
        return "scales must be finite and not negative"
    largest = bytes_.abs().amax(-1)
    if not bool(((largest == LARGEST) | (largest == 0)).all()):
        return "each row of bytes must have a ±127, or be zero"
    return ""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` with products of bytes, as the kernels take them: exact sums, then scales, in the dtype of x.

    Args:
        x: (..., columns). weight: (rows, columns), whose rows are made bytes of as those of x are.
    """
    left, left_scale = rows(x)
    right, right_scale = rows(weight)
    # In float64 sums of products of two bytes are exact, in any order.
    sums = torch.matmul(left.double(), right.double().mT).to(x.dtype)
    found = sums * (left_scale * right_scale.squeeze(-1))
    return found if bias is None else found + bias
