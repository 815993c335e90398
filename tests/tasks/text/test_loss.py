"""The cross-entropy in parts: values and gradients of torch's, in either precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.tasks.text.loss import IN_CACHE, ROWS, smoothed_cross_entropy


def problem(rows: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(rows)
    shapes = (rows, 8), (30, 8), (30,)
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return leaves, torch.randint(30, (rows,), generator=generator)


@pytest.mark.parametrize("rows", [1, IN_CACHE - 1, IN_CACHE, ROWS - 1, ROWS, 2 * ROWS + 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_torchs_with_its_gradients(rows: int, smoothing: float) -> None:
    (x, weight, bias), wanted = problem(rows)
    found = smoothed_cross_entropy(x, weight, bias, wanted, smoothing)
    expected = F.cross_entropy(F.linear(x, weight, bias), wanted, label_smoothing=smoothing)
    torch.testing.assert_close(found, expected)
    for own, theirs in zip(
        torch.autograd.grad(3 * found, (x, weight, bias)),
        torch.autograd.grad(3 * expected, (x, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(own, theirs)


def test_under_autocast_only_the_products_are_rounded() -> None:
    leaves, wanted = problem(300)
    x, weight, bias = (leaf.detach().float().requires_grad_() for leaf in leaves)
    exact = smoothed_cross_entropy(x, weight, bias, wanted, 0.1)
    expected = torch.autograd.grad(exact, (x, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        found = smoothed_cross_entropy(x, weight, bias, wanted, 0.1)
    assert found.dtype == torch.float32
    assert found != exact
    torch.testing.assert_close(found, exact, rtol=1e-2, atol=0)
    for own, theirs in zip(torch.autograd.grad(found, (x, weight, bias)), expected, strict=True):
        assert own.dtype == torch.float32
        assert float((own - theirs).norm()) < 0.02 * float(theirs.norm())


def test_no_rows_leave_no_gradient() -> None:
    (x, weight, bias), wanted = problem(0)
    smoothed_cross_entropy(x, weight, bias, wanted).backward()
    assert not any(leaf.grad.isnan().any() for leaf in (x, weight, bias) if leaf.grad is not None)
