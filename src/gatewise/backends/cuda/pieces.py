"""Rows of parameters as large products take them: a piece of a parameter where its blocks are neighbours there, so that
nothing is copied, else a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.backends.kernels.layout import layout
from gatewise.compiler.cell import Cell

Block = tuple[str, int]
"""A parameter, and which of its blocks of ``hidden_size`` rows."""


def piece(parameter: Tensor, first: int, blocks: int, units: int) -> Tensor:
    """So many blocks of a parameter."""
    if blocks * units == parameter.shape[0]:
        return parameter
    return parameter[first * units : (first + blocks) * units]


@lru_cache(maxsize=1024)
def _pieces(blocks: tuple[Block, ...]) -> tuple[tuple[str, int, int], ...]:
    """Parameter, first block and number of blocks of each run of neighbours."""
    found: list[tuple[str, int, int]] = []
    for name, block in blocks:
        if found and found[-1][0] == name and sum(found[-1][1:]) == block:
            found[-1] = (name, found[-1][1], found[-1][2] + 1)
        else:
            found.append((name, block, 1))
    return tuple(found)


def joined(parameters: Mapping[str, Tensor], blocks: tuple[Block, ...], units: int) -> Tensor:
    """The blocks one under another."""
    found = [piece(parameters[name], first, count, units) for name, first, count in _pieces(blocks)]
    return found[0] if len(found) == 1 else torch.cat(found)


@lru_cache(maxsize=1024)
def _added(
    cell: Cell, held: int, uses: tuple[int, ...], names: frozenset[str]
) -> tuple[tuple[int, str, int, int], ...]:
    """What the biases of some uses are made of: for each piece of a bias its first use, counted here, the parameter,
    its first block there, and the number of blocks."""
    owned = layout(cell, held).biases
    found: list[tuple[int, str, int, int]] = []
    for name in ("bias_ih", "bias_hh"):
        for place, use in enumerate(uses):
            for owner, block in owned[use]:
                if owner != name or name not in names:
                    continue
                place_before, name_before, first, count = found[-1] if found else (0, "", 0, 0)
                if (name_before, place_before + count, first + count) == (name, place, block):
                    found[-1] = (place_before, name, first, count + 1)
                else:
                    found.append((place, name, block, 1))
    return tuple(found)


def bias(
    cell: Cell, held: int, uses: Sequence[int], parameters: Mapping[str, Tensor], units: int, dtype: torch.dtype
) -> Tensor | None:
    """The biases of some uses, one behind another; the sum of two where a use has both. None where there are none.

    Args:
        held: blocks of ``bias_hh``; see ``layout``.
    """
    total: Tensor | None = None
    for place, name, first, count in _added(cell, held, tuple(uses), frozenset(parameters)):
        part = piece(parameters[name], first, count, units)
        if part.dtype.itemsize < dtype.itemsize:  # the sum of two is not rounded to less than what was asked for
            part = part.to(dtype)
        if count < len(uses):
            part = F.pad(part, (place * units, (len(uses) - place - count) * units))
        total = part if total is None else total + part
    return total if total is None or total.dtype == dtype else total.to(dtype)
