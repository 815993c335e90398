"""Weights in the order in which the lanes of a warp hold them: where they lie, for the kernel that packs them.

The order is in ``pack.cuh``. Nothing is kept from call to call: weights change, and what a CUDA graph reads could not
be let go of.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Layout, Number
from gatewise.backends.kernels.layout import Layout as Rows

THREADS = 256
"""Of a block; as ``pack_threads``."""
MOST = 32
"""Weights of a launch; as ``most_weights``. A cell with more takes several launches."""


class Square(NamedTuple):
    """(units, units) of a parameter, or its transpose."""

    parameter: str
    block: int
    """Of so many units' rows."""
    transposed: bool


@lru_cache(maxsize=256)
def squares(design: Design, rows: Rows) -> tuple[Square, ...]:
    """Of every tile."""
    names = [tile.weight for tile in design.tiles]
    return tuple(Square(*rows.weights[name], name.startswith(("ut.", "wt."))) for name in names)


@dataclass
class Weights:
    """The weights of all tiles, as they lie in memory."""

    wide: bool
    """Whether as float32; else as the kernel's number."""
    places: list[int]
    """Of every tile: address, numbers from row to row and from column to column."""
    alive: Sequence[Tensor]
    """What holds them, until the kernel is in the queue."""

    @staticmethod
    def of(wanted: Sequence[Square], parameters: Mapping[str, Tensor], units: int, number: Number) -> Weights:
        held = {square.parameter: parameters[square.parameter] for square in wanted}
        dtypes = {p.dtype for p in held.values()}
        wide = dtypes == {torch.float32}
        if not wide and dtypes != {number.dtype}:
            held = {name: p.to(number.dtype) for name, p in held.items()}
        found = {name: (p.data_ptr(), *p.stride(), p.element_size()) for name, p in held.items()}
        places: list[int] = []
        for name, block, transposed in wanted:
            base, row, column, size = found[name]
            places += (base + block * units * row * size, *((column, row) if transposed else (row, column)))
        return Weights(wide, places, list(held.values()))

    @property
    def tiles(self) -> int:
        return len(self.places) // 3

    def launches(self, layout: Layout, to: int) -> Iterator[tuple[int, bytes]]:
        """Blocks and arguments of the kernel, which writes to an address; as ``Packing`` in ``pack.cuh``."""
        shape = layout.units, layout.together, layout.shares, layout.steps, self.tiles
        for first in range(0, self.tiles, MOST):
            here = min(MOST, self.tiles - first)
            pieces = here * layout.pieces
            given = struct.pack(
                f"<Q9I4x{3 * here}q{24 * (MOST - here)}x",
                *(to, pieces, *shape, first, here, self.wide),
                *self.places[3 * first : 3 * (first + here)],
            )
            yield -(-pieces // THREADS), given
