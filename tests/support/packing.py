"""Weights in the order of the lanes by operations of torch: what the kernel that packs them is held against."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gatewise.backends.cuda.layout import Layout, Number


def packed(weights: Sequence[Tensor], layout: Layout) -> Tensor:
    """The weights of all tiles, (units, units) each, of unit and column: block, warp, group, tile, step, half, lane,
    and a lane's 16 bytes."""
    number, units = layout.number, layout.units
    whole = torch.stack([w.to(number.dtype) for w in weights])
    if number is Number.TF32:
        whole = _rounded(whole)
    rows, columns = layout.blocks * layout.groups * 16, layout.steps * layout.shares * number.depth
    padded = whole.new_zeros(len(weights), rows, columns)
    padded[:, :units, :units] = whole
    return _split(padded, layout).permute(1, 2, 6, 3, 0, 7, 9, 5, 8, 10, 4, 11).flatten()


def _split(whole: Tensor, layout: Layout) -> Tensor:
    """(tile, row, column) with rows and columns taken apart."""
    # A lane's chunk is two halves; a half is one or two registers of the second operand, a register one or two numbers.
    pair = 2 if layout.number.bytes == 2 else 1
    return whole.view(
        len(whole),
        layout.blocks,
        layout.groups // layout.together,
        layout.together,
        2,  # units g and g + 8
        8,
        layout.shares,
        layout.steps,
        4,
        2,  # halves
        layout.number.chunk // 2 // pair,
        pair,
    )


def _rounded(weights: Tensor) -> Tensor:
    """To the nearest number with TF32's bits, ties away from zero."""
    bits = weights.contiguous().view(torch.int32)
    return torch.where(weights.isfinite(), (bits + 0x1000) & ~0x1FFF, bits).view(torch.float32)
