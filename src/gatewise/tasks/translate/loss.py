"""The cross-entropy of predictions over thousands of pieces, without keeping a number for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 256
"""Predictions taken at once: their logits over 5,000 pieces are 5 MB, and are in cache for all that is done to them."""


def smoothed_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, wanted: Tensor, smoothing: float = 0.0) -> Tensor:
    """``cross_entropy(linear(x, weight, bias), wanted, label_smoothing=smoothing)``, the mean over the rows.

    The gradient is taken together with the loss, a few rows at a time: 1,200 predictions over 5,000 pieces would
    else write and read 24 MB for each of a dozen passes. Under ``torch.autocast`` the products are in its precision,
    what is between them in float32.

    Args:
        x: (rows, width). weight: (pieces, width). bias: (pieces,). wanted: (rows,) int64. smoothing: share of the
            probability that is wanted on all pieces alike.
    """
    apply: Callable[..., Tensor] = _CrossEntropy.apply
    return apply(x, weight, bias, wanted, smoothing)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, wanted: Tensor, smoothing: float) -> Tensor:
        kind = x.device.type
        lower = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        with torch.autocast(kind, enabled=False):
            return _loss_and_gradients(ctx, x, weight, bias, wanted, smoothing, lower)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return *(slope * gradient for gradient in ctx.saved_tensors), None, None


def _loss_and_gradients(
    ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, wanted: Tensor, smoothing: float, lower: torch.dtype
) -> Tensor:
    rows, pieces = len(x), len(weight)
    inputs, table = x.to(lower), weight.to(lower)
    to_x, to_weight, to_bias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
    logits, total = weight.new_empty(min(ROWS, rows), pieces), weight.new_zeros(())
    for start in range(0, rows, ROWS):
        own, target = inputs[start : start + ROWS], wanted[start : start + ROWS, None]
        z = logits[: len(own)]
        if lower == z.dtype:
            torch.mm(own, table.T, out=z)
        else:
            z.copy_(own @ table.T)
        z += bias
        of_wanted, mean, most = z.gather(1, target), z.mean(1, keepdim=True), z.amax(1, keepdim=True)
        scale = z.sub_(most).exp_().sum(1, keepdim=True)
        total += (most + scale.log() - (1 - smoothing) * of_wanted - smoothing * mean).sum()
        # z becomes its own gradient: the probabilities less the wanted ones
        z.mul_(1 / (rows * scale)).sub_(smoothing / (rows * pieces))
        z.scatter_add_(1, target, torch.full_like(scale, (smoothing - 1) / rows))
        to_bias += z.sum(0)
        slopes = z.to(lower)
        to_x[start : start + ROWS] = slopes @ table
        to_weight += slopes.T @ own
    ctx.save_for_backward(to_x, to_weight, to_bias)
    return total / rows
