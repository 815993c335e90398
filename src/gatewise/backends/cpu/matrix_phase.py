"""A phase whose products are taken on the matrix unit; see ``matrix``.

Before the tiles each thread writes the operands of its rows in bfloat16 into memory of its own, [16 rows][32 columns] a
tile. A register tile has 16 or 32 rows; its sums begin on the stack and end there, where the epilogue finds them.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu import matrix
from gatewise.backends.cpu.matrix import DEPTH, LINE, ROWS, SUMS, TILE
from gatewise.backends.cpu.phase import PhaseWriter
from gatewise.backends.kernels import frame as slots
from gatewise.compiler.schedule import Product, Ref

CHUNK = 8
"""Tiles of an operand's columns that go through all of a block of weights before the next: 32 rows of them stay in the
first-level cache."""


class MatrixPhaseWriter(PhaseWriter):
    def _prepare(self, number: ir.Value, row_low: ir.Value, row_high: ir.Value) -> None:
        """Write all operands of the thread's rows in bfloat16."""
        self.left: dict[Ref, ir.Value] = {}
        for j, product in enumerate(self.phase.products):
            if product.operand not in self.left:
                depth = self._product_slot(j, slots.DEPTH)
                place = self._own_place(j, depth, number, row_low)
                self.left[product.operand] = place
                self._round(product.operand, depth, place, row_low, row_high)

    def _own_place(self, j: int, depth: ir.Value, number: ir.Value, row_low: ir.Value) -> ir.Value:
        """Behind the rows of the threads before, with room between; see ``launch``."""
        c = self.c
        base, stride = self._product_slot(j, slots.ROUNDED), self._product_slot(j, slots.ROUNDED_STRIDE)
        before = c.b.mul(c.b.udiv(row_low, c.i64(ROWS)), c.b.mul(c.ceil_div(depth, DEPTH), c.i64(TILE)))
        return c.pointer(c.b.add(base, c.b.add(before, c.b.mul(number, stride))))

    def _round(self, operand: Ref, depth: ir.Value, place: ir.Value, row_low: ir.Value, row_high: ir.Value) -> None:
        c = self.c
        whole, tiles = c.b.udiv(depth, c.i64(DEPTH)), c.ceil_div(depth, DEPTH)
        vector = c.length * c.size
        with c.loop(c.i64(0), c.b.sub(row_high, row_low)) as i:
            source = self._row_address(operand, c.b.add(row_low, i))
            first = c.b.mul(c.b.mul(c.b.udiv(i, c.i64(ROWS)), tiles), c.i64(TILE))
            target = c.at(place, c.b.add(first, c.b.mul(c.b.urem(i, c.i64(ROWS)), c.i64(LINE))))
            with c.loop(c.i64(0), whole) as k:
                at = c.at(source, c.b.mul(k, c.i64(2 * vector)))
                value = matrix.row(c, c.load(at), c.load(c.at(at, c.i64(vector))))
                matrix.put(c, value, c.at(target, c.b.mul(k, c.i64(TILE))))
            with c.loop(whole, tiles) as k:
                at, left = c.at(source, c.b.mul(k, c.i64(2 * vector))), c.b.sub(depth, c.b.mul(k, c.i64(DEPTH)))
                low = c.load(at, c.lanes_below(left))
                high = c.load(c.at(at, c.i64(vector)), c.lanes_below(c.b.sub(left, c.i64(c.length))))
                matrix.put(c, matrix.row(c, low, high), c.at(target, c.b.mul(k, c.i64(TILE))))

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
