"""Weights in the order in which the lanes of a warp hold them.

The hardware's product takes 16 units × some columns from the registers of 32 lanes. Lane (g, t) of the second operand
reads 16 neighbouring bytes of row g, so the columns are permuted within the ``depth`` columns that four lanes read
together, and here alike. Padding units and columns are zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from gatewise.backends.cuda.layout import Layout, Number


def packed(weights: Sequence[Tensor], layout: Layout, device: torch.device) -> Tensor:
    """The weights of all tiles, (units, units) each, of unit and column: block, warp, group, tile, step, half, lane,
    and a lane's 16 bytes."""
    number, units = layout.number, layout.units
    if not weights:
        return torch.zeros(16, dtype=number.dtype, device=device)
    stacked = torch.stack([w.to(number.dtype) for w in weights]).flatten()
    if number is Number.TF32:
        stacked = _rounded(stacked)
    return torch.cat([stacked, stacked.new_zeros(1)])[_index(len(weights), units, layout, device)]


@lru_cache(maxsize=64)
def _index(tiles: int, units: int, layout: Layout, device: torch.device) -> Tensor:
    """Of each packed number its place among the weights; behind the last there is a zero. Kept on the device: a copy to
    it could not be recorded into a CUDA graph."""
    number, rows = layout.number, layout.blocks * layout.groups * 16
    columns = layout.steps * layout.shares * number.depth
    index = torch.full((tiles, rows, columns), tiles * units * units)
    index[:, :units, :units] = torch.arange(tiles * units * units).view(tiles, units, units)
    # A lane's chunk is two halves; a half is one or two registers of the second operand, a register one or two numbers.
    pair = 2 if number.bytes == 2 else 1
    registers = number.chunk // 2 // pair
    split = index.view(
        tiles,
        layout.blocks,
        layout.groups // layout.together,
        layout.together,
        2,  # units g and g + 8
        8,
        layout.shares,
        layout.steps,
        4,
        2,  # halves
        registers,
        pair,
    )
    return split.permute(1, 2, 6, 3, 0, 7, 9, 5, 8, 10, 4, 11).flatten().to(device)


def _rounded(weights: Tensor) -> Tensor:
    """To the nearest number with TF32's bits."""
    bits = weights.contiguous().view(torch.int32)
    return torch.where(weights.isfinite(), (bits + 0x1000) & ~0x1FFF, bits).view(torch.float32)
