"""Sums over time and batch on the matrix unit: δ and what it multiplies in bfloat16, sums in float32.

Of a run of rows the right side is copied into tiles of pairs of rows, and a chunk of δ into tiles of its columns, which
a transposition of such pairs gives. What is one number wide is a tile like others, of which one column counts.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu import bfloat16, matrix
from gatewise.backends.cpu.bfloat16 import LINE
from gatewise.backends.cpu.lanes import Code
from gatewise.backends.cpu.matrix import DEPTH, ROWS, TILE
from gatewise.backends.cpu.pack import transpose
from gatewise.backends.cpu.sums import PANEL, TOTAL, TOTAL_ROW, WIDTH, Loops
from gatewise.backends.cpu.tiers import Tier

RUN = 256
CHUNK = 4
PITCH = RUN // DEPTH * TILE
"""Bytes of the tiles of 16 columns."""
TOGETHER = 4
"""Pairs of rows that are copied together: 16 columns of a run lie on pages of their own, and few pages can be written
at once."""
SIDE = 2
"""Tiles of either side in registers."""


class MatrixSums(Loops):
    def __init__(self, tier: Tier, dtype: str) -> None:
        super().__init__(tier, dtype, RUN, CHUNK, ROWS)

    def operand_bytes(self, width: int, depth: int) -> int:
        return -(-width // ROWS) * PITCH

    def left_bytes(self, depth: int) -> int:
        return CHUNK * PITCH

    def share(self, c: Code, frame: ir.Value, number: ir.Value, count: ir.Value) -> None:
        with matrix.configured(c):
            super().share(c, frame, number, count)

    def copy_right(self, c: Code, operand: ir.Value, scratch: ir.Value, start: ir.Value, depth: ir.Value) -> None:
        """[16 columns][tile of 32 rows][pair of rows]; up to a multiple of 32 rows they are zero."""
        panel, width = c.pointer(c.b.add(scratch, c.slot(operand, PANEL))), c.slot(operand, WIDTH)
        address = self.rows_of(c, operand, start)

        def pairs(first: ir.Value, limited: bool) -> None:
            """``TOGETHER`` pairs of rows in all columns; some may lie past the end."""
            rows = [c.b.add(first, c.i64(u)) for u in range(2 * TOGETHER)]
            sources = [address(row) for row in rows]
            tile = c.at(panel, c.b.mul(c.b.udiv(first, c.i64(DEPTH)), c.i64(TILE)))
            target = c.at(tile, c.b.mul(c.b.urem(first, c.i64(DEPTH)), c.i64(LINE // 2)))
            with c.loop(c.i64(0), c.ceil_div(width, ROWS)) as block:
                mask = c.lanes_below(c.b.sub(width, c.b.mul(block, c.i64(ROWS))))
                values = []
                for row, source in zip(rows, sources, strict=True):
                    there = c.b.icmp_signed("<", row, depth)
                    lanes = c.b.select(there, mask, ir.Constant(c.mask, None)) if limited else mask
                    values.append(c.load(c.at(source, c.b.mul(block, c.i64(LINE))), lanes))
                own = c.at(target, c.b.mul(block, c.i64(PITCH)))
                for u in range(TOGETHER):
                    bfloat16.put(c, bfloat16.pair(c, values[2 * u], values[2 * u + 1]), c.at(own, c.i64(u * LINE)))

        step = 2 * TOGETHER
        whole = c.b.mul(c.b.udiv(depth, c.i64(step)), c.i64(step))
        with c.loop(c.i64(0), whole, step) as k:
            pairs(k, False)
        with c.loop(whole, matrix.padded(c, depth), step) as k:
            pairs(k, True)

    def copy_left(
        self,
        c: Code,
        source: ir.Value,
        row: ir.Value,
        columns: ir.Value,
        panel: ir.Value,
        depth: ir.Value,
        first: ir.Value,
        last: ir.Value,
    ) -> None:
        """[16 columns][tile of 32 rows][column]."""
        whole = c.b.mul(c.b.udiv(depth, c.i64(DEPTH)), c.i64(DEPTH))

        def tile(k: ir.Value, column: ir.Value, limited: bool) -> None:
            mask = c.lanes_below(c.b.sub(columns, c.b.mul(column, c.i64(ROWS))))
            start = c.at(c.at(source, c.b.mul(k, row)), c.b.mul(column, c.i64(LINE)))
            values = []
            for u in range(DEPTH):
                there = c.b.icmp_signed("<", c.b.add(k, c.i64(u)), depth)
                lanes = c.b.select(there, mask, ir.Constant(c.mask, None)) if limited else mask
                values.append(c.load(c.at(start, c.b.mul(c.i64(u), row)), lanes))
            pairs = [bfloat16.pair(c, values[u], values[u + 1]) for u in range(0, DEPTH, 2)]
            place = c.at(c.pointer(panel), c.b.mul(c.b.sub(column, first), c.i64(PITCH)))
            place = c.at(place, c.b.mul(c.b.udiv(k, c.i64(DEPTH)), c.i64(TILE)))
            for u, value in enumerate(transpose(c, pairs)):
                bfloat16.put(c, value, c.at(place, c.i64(u * LINE)))

        with c.loop(c.i64(0), whole, DEPTH) as k, c.loop(first, last) as column:
            tile(k, column, False)
        with c.loop(whole, depth, DEPTH) as k, c.loop(first, last) as column:
            tile(k, column, True)

    def products(self) -> None:
        self.product, c = self.function("product", 7)
        self._product(c, *self.product.args)
        c.b.ret_void()

    def multiply(self, c: Code, arguments: list[ir.Value], width: ir.Value) -> None:
        c.b.call(self.product, [*arguments, width])

    def _product(
        self,
        c: Code,
        job: ir.Value,
        left: ir.Value,
        right: ir.Value,
        depth: ir.Value,
        first: ir.Value,
        last: ir.Value,
        columns: ir.Value,
        width: ir.Value,
    ) -> None:
        """Two tiles of either side at a time; 32 columns of the right side stay in cache while δ passes. Where there is
        one more tile it is multiplied twice, and added once."""
        stack = c.b.alloca(c.vector, SIDE * SIDE * ROWS)
        stack.align = LINE
        tiles, blocks = c.ceil_div(depth, DEPTH), c.ceil_div(width, ROWS)
        total, row = c.slot(job, TOTAL), c.slot(job, TOTAL_ROW)

        def both(k: ir.Value, stop: ir.Value) -> list[ir.Value]:
            return [k, c.minimum(c.b.add(k, c.i64(1)), c.b.sub(stop, c.i64(1)))]

        with c.loop(c.i64(0), blocks, SIDE) as block, c.loop(first, last, SIDE) as tile:
            rows, across = both(tile, last), both(block, blocks)
            a = [c.pointer(c.b.add(left, c.b.mul(c.b.sub(t, first), c.i64(PITCH)))) for t in rows]
            b = [c.pointer(c.b.add(right, c.b.mul(v, c.i64(PITCH)))) for v in across]
            for i in range(SIDE * SIDE):
                matrix.clear(c, i)
            matrix.block(c, tiles, a, b, c.i64(TILE), c.i64(TILE), lambda i, j: SIDE * i + j)
            for i in range(SIDE * SIDE):
                matrix.store(c, i, c.at(stack, c.i64(i * TILE)), c.i64(LINE))
            for i in range(SIDE):
                begin = c.b.mul(c.b.add(tile, c.i64(i)), c.i64(ROWS))
                height = c.minimum(c.b.sub(c.minimum(columns, c.b.mul(last, c.i64(ROWS))), begin), c.i64(ROWS))
                with c.loop(c.i64(0), height) as r:
                    line = c.pointer(c.b.add(total, c.b.mul(c.b.add(begin, r), row)))
                    for j in range(SIDE):
                        number = c.b.mul(c.b.add(block, c.i64(j)), c.i64(ROWS))
                        place, mask = c.at(line, c.b.mul(number, c.i64(c.size))), c.lanes_below(c.b.sub(width, number))
                        value = c.load(c.at(stack, c.b.mul(c.b.add(r, c.i64((SIDE * i + j) * ROWS)), c.i64(LINE))))
                        c.store(c.b.fadd(c.load(place, mask), value), place, mask)
