"""A layer of one direction that runs from the last step to the first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gatewise.nn import Recurrent


class Reversed(nn.Module):
    """A layer on a sequence from its last step to its first; the output is in the order of the input.

    Arguments, results and errors are those of the layer's call; with ``lengths`` each row begins at its own last step.
    """

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor, hx: Any = None, *, lengths: Any = None) -> tuple[Tensor, Any]:
        axis = 1 if self.layer.batch_first and input.dim() == 3 else 0
        if lengths is None:
            y, final = self.layer(input.flip(axis), hx)
            return y.flip(axis), final
        order = _order(input, torch.as_tensor(lengths, device=input.device), axis)
        y, final = self.layer(_along(input, order, axis), hx, lengths=lengths)
        return _along(y, order, axis), final


def _order(x: Tensor, lengths: Tensor, axis: int) -> Tensor:
    """Which step stands where, (rows, steps): the steps that count the other way round, the others where they are."""
    steps = torch.arange(x.shape[axis], device=x.device).unsqueeze(0)
    ends = lengths.unsqueeze(1)
    return torch.where(steps < ends, ends - 1 - steps, steps)


def _along(x: Tensor, order: Tensor, axis: int) -> Tensor:
    index = order if axis == 1 else order.T
    return x.gather(axis, index.unsqueeze(-1).expand(*index.shape, x.shape[-1]))
