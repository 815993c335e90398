"""Linear maps whose result for a row does not depend on the rows beside it.

A matrix product gives other bits for a row alone than for the row in a batch, by a few units in the last place; in a
beam search over thousands of words that changes a translation now and then. The kernels of recurrent layers add in one
order always, and a cell without recurrence is a linear map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.compiler import cell
from gatewise.compiler.functions import tanh
from gatewise.nn import Recurrent


@cell
def affine(gate: Any, x: Any, h: Any) -> Any:
    """A linear map of x."""
    return gate.o(x)


@cell
def affine_tanh(gate: Any, x: Any, h: Any) -> Any:
    """A linear map of x, then tanh."""
    return tanh(gate.o(x))


def threads_of(rows: int) -> int | None:
    """Of a step of so many rows: one for a row alone. On two cores of Zen 4 two threads took 110 µs for a token of a
    language model with 512 units, where one took 73, since they wait for each other more than they compute."""
    return 1 if rows == 1 else None


class Exact:
    """``x @ weight.T + bias``, then tanh where asked, over the last dimension of float32 or float64 x; no gradients."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, then_tanh: bool = False) -> None:
        units, width = weight.shape
        with torch.device("meta"):
            self.layer = Recurrent(affine_tanh if then_tanh else affine, width, units, bias=bias is not None)
        self.layer.weight_ih_l0 = nn.Parameter(weight.detach(), requires_grad=False)
        if bias is not None:
            self.layer.bias_ih_l0 = nn.Parameter(bias.detach(), requires_grad=False)

    def steps(self, rows: int) -> Callable[..., Tensor]:
        """The same for (rows, width) x, packed once: a stream's ``step``, which takes the memory of the result too."""
        return self.layer.stream(rows, threads=threads_of(rows)).step

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.flatten(0, -2).unsqueeze(0))[0]
        return y.reshape(*x.shape[:-1], -1)
