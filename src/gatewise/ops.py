"""The one torch boundary: a cell over a sequence, differentiable, on the backend that was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from gatewise.backends import eager
from gatewise.compiler.cell import Cell


def run(
    cell: Cell,
    x: Tensor,
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    *,
    reverse: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    return eager.sequence(cell, x, inputs, states, parameters, reverse=reverse)
