"""A phase whose products are taken on the matrix unit; see ``matrix``.

The operands of a thread's rows lie in tiles of [16 rows][32 columns]. A register tile has 16 or 32 rows; its sums begin
on the stack and end there, where the epilogue finds them.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu import matrix
from gatewise.backends.cpu.bfloat16 import LINE
from gatewise.backends.cpu.matrix import DEPTH, ROWS, SUMS, TILE
from gatewise.backends.cpu.phase import Tile
from gatewise.backends.cpu.rounded_phase import RoundedPhaseWriter
from gatewise.backends.kernels import frame as slots
from gatewise.compiler.schedule import Product

CHUNK = 8
"""Tiles of an operand's columns that go through all of a block of weights before the next: 32 rows of them stay in the
first-level cache."""


def tile(rows: int, vectors: int) -> Tile:
    """Two tiles high where there are rows for it; two wide, so that even one sum has four in registers."""
    return Tile(ROWS * (1 + (rows > ROWS)), min(2, vectors))


class MatrixPhaseWriter(RoundedPhaseWriter):
    piece = (ROWS, DEPTH)

    def _sums(self, row: ir.Value, row_low: ir.Value, last: ir.Value) -> None:
        c = self.c
        self._starts(row, last)
        tile = c.b.udiv(c.b.sub(row, row_low), c.i64(ROWS))
        for j, product in enumerate(self.phase.products):
            depth = c.ceil_div(self._product_slot(j, slots.DEPTH), DEPTH)
            with c.loop(c.i64(0), depth, CHUNK) as first:
                self._multiply(j, product, tile, depth, first, c.minimum(c.b.sub(depth, first), c.i64(CHUNK)))

    def _starts(self, row: ir.Value, last: ir.Value) -> None:
        """What the sums of all rows begin with; of rows past the end, what the last row's do."""
        c = self.c
        n, width = len(self.phase.starts), self.tile.vectors
        lanes = [self._lanes(v) for v in range(width)]
        with c.loop(c.i64(0), c.i64(self.tile.rows)) as i:
            own = c.minimum(c.b.add(row, i), last)
            for a, start in enumerate(self.phase.starts):
                for v in range(width):
                    index = c.b.add(c.b.mul(i, c.i64(n * width)), c.i64(a * width + v))
                    c.store(self._start(start, own, *lanes[v]), self._stacked(index), align=LINE)

    def _multiply(
        self, j: int, product: Product, tile: ir.Value, depth: ir.Value, first: ir.Value, count: ir.Value
    ) -> None:
        """Add ``count`` tiles of a product's depth to its sums, which wait on the stack."""
        c, n, width, high = self.c, len(self.phase.starts), self.tile.vectors, self.tile.rows // ROWS
        line = len(product.accumulators) * width * TILE
        left = []
        for i in range(high):
            number = c.b.add(c.b.mul(c.b.add(tile, c.i64(i)), depth), first)
            left.append(c.at(self.left[product.operand], c.b.mul(number, c.i64(TILE))))
        panel = c.b.add(self._product_slot(j, slots.PANEL), c.b.mul(first, c.i64(line)))
        panel = c.pointer(c.b.add(panel, c.b.mul(self.block, self._product_slot(j, slots.BLOCK_STRIDE))))
        columns = [(k * width + v, a * width + v) for k, a in enumerate(product.accumulators) for v in range(width)]
        together, stride = SUMS // high, c.i64(n * width * LINE)
        for group in (columns[k : k + together] for k in range(0, len(columns), together)):
            places = [
                (i * together + g, c.at(self.stack, c.i64((i * ROWS * n * width + column) * LINE)))
                for i in range(high)
                for g, (_, column) in enumerate(group)
            ]
            for register, place in places:
                matrix.load(c, register, place, stride)
            right = [c.at(panel, c.i64(k * TILE)) for k, _ in group]
            matrix.block(c, count, left, right, c.i64(TILE), c.i64(line), lambda i, g: i * together + g)
            for register, place in places:
                matrix.store(c, register, place, stride)
