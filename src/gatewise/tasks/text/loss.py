"""The cross-entropy of predictions over thousands of pieces, without keeping a number for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 512
"""Predictions whose logits are kept at once, in the precision of the products."""
MULTIPLE = 128
"""Of rows, up to which products in bfloat16 are filled: torch's library compiles anew for each number of rows, 20 ms
for the three products, and keeps what it compiled."""
IN_CACHE = 64
"""Predictions between whose logits and probabilities all is done in the second-level cache, in float32."""


def smoothed_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, wanted: Tensor, smoothing: float = 0.0) -> Tensor:
    """``cross_entropy(linear(x, weight, bias), wanted, label_smoothing=smoothing)``, the mean over the rows.

    The gradient is taken together with the loss: 1,200 predictions over 5,000 pieces would else write and read 24 MB
    for each of a dozen passes. Under ``torch.autocast`` the products are in its precision, what is between them in
    float32.

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
    if lower != weight.dtype:
        inputs = F.pad(inputs, (0, 0, 0, -rows % MULTIPLE))
    to_x, to_weight, to_bias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
    room = weight.new_empty(2, min(IN_CACHE, rows), pieces)
    total = -smoothing * (torch.mv(x.to(weight.dtype), weight.mean(0)).sum() + rows * bias.mean())
    for start in range(0, rows, ROWS):
        own = inputs[start : start + ROWS]
        logits, count = torch.addmm(bias.to(lower), own, table.T), min(ROWS, rows - start)
        for k in range(0, count, IN_CACHE):
            some = logits[k : min(k + IN_CACHE, count)]
            z, likely = room[0, : len(some)].copy_(some), room[1, : len(some)]
            target = wanted[start + k : start + k + len(some), None]
            torch.softmax(z, 1, out=likely)
            # log Σ exp z, of the likeliest piece, whose probability is far from zero
            scale = z.amax(1, keepdim=True) - likely.amax(1, keepdim=True).log()
            total += (scale - (1 - smoothing) * z.gather(1, target)).sum()
            # from here on the gradient: the probabilities less the wanted ones
            likely.scatter_add_(1, target, torch.full_like(scale, smoothing - 1))
            likely -= smoothing / pieces
            to_bias += likely.sum(0)
            some.copy_(likely)
        logits[count:] = 0.0
        to_x[start : start + count] = (logits @ table)[:count]
        to_weight += logits.T @ own
    ctx.save_for_backward(*(gradient.div_(max(rows, 1)) for gradient in (to_x, to_weight, to_bias)))
    return total / rows
