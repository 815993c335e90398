"""A phase whose products are of bytes; see ``int8``.

Before the tiles each thread writes the operands of its rows as bytes into memory of its own, [row][scale, bytes]. A
product's sums are whole numbers in registers; then they are scaled and added to the phase's sums, which wait on the
stack, where the epilogue finds them.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import llvmlite.ir as ir

from gatewise.backends.cpu import int8
from gatewise.backends.cpu.int8 import COLUMNS, LINE, OFFSET
from gatewise.backends.cpu.phase import UNROLL, PhaseWriter
from gatewise.backends.kernels import frame as slots
from gatewise.compiler.schedule import Product, Ref


class BytesPhaseWriter(PhaseWriter):
    piece = (1, LINE)
    beside = LINE
    offset: ClassVar[int] = OFFSET
    """What an operand's bytes are more than they mean."""
    unroll: ClassVar[int] = UNROLL

    def _multiply(self, total: ir.Value, operand: ir.Value, weights: ir.Value) -> ir.Value:
        return int8.multiply(self.c, total, operand, weights)

    def _prepare(self, number: ir.Value, row_low: ir.Value, row_high: ir.Value) -> None:
        """Write all operands of the thread's rows as bytes."""
        c = self.c
        self.left: dict[Ref, tuple[ir.Value, ir.Value]] = {}
        for j, product in enumerate(self.phase.products):
            if product.operand not in self.left:
                depth = self._product_slot(j, slots.DEPTH)
                base, apart = self._product_slot(j, slots.ROUNDED), self._product_slot(j, slots.ROUNDED_STRIDE)
                place = c.pointer(c.b.add(base, c.b.mul(number, apart)))
                pitch = c.b.add(c.b.mul(c.ceil_div(depth, LINE), c.i64(LINE)), c.i64(LINE))
                self.left[product.operand] = place, pitch
                with c.loop(row_low, row_high) as row:
                    source = self._row_address(product.operand, row)
                    self._narrow(source, depth, c.at(place, c.b.mul(row, pitch)))

    def _narrow(self, source: ir.Value, depth: ir.Value, target: ir.Value) -> None:
        """A row of an operand as bytes, and its scale before them."""
        c = self.c
        whole = c.b.mul(c.b.udiv(depth, c.i64(c.length)), c.i64(c.length))
        rest = c.lanes_below(c.b.sub(depth, whole))

        def look(mask: ir.Value | None, k: ir.Value, found: list[ir.Value]) -> list[ir.Value]:
            value = c.load(c.at(source, c.b.mul(k, c.i64(c.size))), mask)
            return [int8.larger(c, found[0], int8.magnitude(c, value))]

        _, found = c.accumulate(c.i64(0), whole, c.length, [int8.word(c, 0)], partial(look, None))
        (found,) = look(rest, whole, found)
        factor, worth = int8.scales(c, int8.largest(c, found))
        c.store(worth, target, align=LINE)
        bytes_ = c.at(target, c.i64(LINE))
        with c.loop(c.i64(0), whole, c.length) as k:
            value = c.load(c.at(source, c.b.mul(k, c.i64(c.size))))
            int8.put_bytes(c, int8.whole(c, value, factor), c.at(bytes_, k), self.offset)
        with c.b.if_then(c.b.icmp_signed("<", whole, depth)):
            value = c.load(c.at(source, c.b.mul(whole, c.i64(c.size))), rest)
            int8.put_bytes(c, int8.whole(c, value, factor), c.at(bytes_, whole), self.offset)

    def _sums(self, row: ir.Value, row_low: ir.Value, last: ir.Value) -> None:
        c, n, width = self.c, len(self.phase.starts), self.tile.vectors
        vector = c.length * c.size
        # Rows past the end repeat the last one; their sums are never stored.
        rows = [c.minimum(c.b.add(row, c.i64(i)), last) for i in range(self.tile.rows)]
        lanes = [self._lanes(v) for v in range(width)]
        touched: set[int] = set()
        for j, product in enumerate(self.phase.products):
            sums = self._whole_sums(j, product, rows)
            for i, own in enumerate(rows):
                worth = c.load(self._bytes_of(product, own), align=LINE)
                for number, a in enumerate(product.accumulators):
                    for v in range(width):
                        place = self._stacked(c.i64((i * n + a) * width + v))
                        before = c.load(place, align=vector) if a in touched else None
                        if before is None:
                            before = self._start(self.phase.starts[a], own, *lanes[v])
                        scale = c.b.fmul(worth, c.load(self._header(j, product, 1, number, v), align=vector))
                        value = c.fmuladd(int8.numbers(c, sums[i, number, v]), scale, before)
                        c.store(value, place, align=vector)
            touched |= set(product.accumulators)
        for a in set(range(n)) - touched:
            for i, own in enumerate(rows):
                for v in range(width):
                    start = self._start(self.phase.starts[a], own, *lanes[v])
                    c.store(start, self._stacked(c.i64((i * n + a) * width + v)), align=vector)

    def _bytes_of(self, product: Product, row: ir.Value) -> ir.Value:
        """Where a row's scale lies, and behind it its bytes."""
        place, pitch = self.left[product.operand]
        return self.c.at(place, self.c.b.mul(row, pitch))

    def _header(self, j: int, product: Product, line: int, number: int, v: int) -> ir.Value:
        """Of a block's panel: what a vector's sums begin with (line 0), their scales (1), the first weights (2)."""
        c, vectors = self.c, len(product.accumulators) * self.tile.vectors
        panel = c.b.add(
            self._product_slot(j, slots.PANEL), c.b.mul(self.block, self._product_slot(j, slots.BLOCK_STRIDE))
        )
        place = line * vectors + number * self.tile.vectors + v
        return c.at(c.pointer(panel), c.i64(place * c.length * c.size))

    def _whole_sums(self, j: int, product: Product, rows: list[ir.Value]) -> dict[tuple[int, int, int], ir.Value]:
        """The sums of a product's bytes, by row, number of the accumulator, and vector."""
        c, width = self.c, self.tile.vectors
        columns = [(number, v) for number in range(len(product.accumulators)) for v in range(width)]
        begin = [int8.load_words(c, self._header(j, product, 0, *column)) for column in columns]
        panel = self._header(j, product, 2, 0, 0)
        operands = [c.at(self._bytes_of(product, row), c.i64(LINE)) for row in rows]
        vector = c.length * c.size
        line = len(columns) * vector

        def terms(step: int, k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            for u in range(step):
                group = c.b.add(k, c.i64(u)) if u else k
                at = c.at(panel, c.b.mul(group, c.i64(line)))
                weights = [int8.load_words(c, c.at(at, c.i64(w * vector))) for w in range(len(columns))]
                for i, operand in enumerate(operands):
                    x = int8.load_columns(c, c.at(operand, c.b.mul(group, c.i64(COLUMNS))))
                    for w, weight in enumerate(weights):
                        n = i * len(columns) + w
                        sums[n] = self._multiply(sums[n], x, weight)
            return sums

        groups = c.ceil_div(self._product_slot(j, slots.DEPTH), COLUMNS)
        k, sums = c.accumulate(c.i64(0), groups, self.unroll, begin * len(rows), lambda k, s: terms(self.unroll, k, s))
        _, sums = c.accumulate(k, groups, 1, sums, lambda k, s: terms(1, k, s))
        places = [(i, *column) for i in range(len(rows)) for column in columns]
        return dict(zip(places, sums, strict=True))


class SignedBytesPhaseWriter(BytesPhaseWriter):
    """Bytes are signed on either side."""

    offset = 0
    unroll = 2  # of four LLVM added terms before sums, which then went to the stack

    def _multiply(self, total: ir.Value, operand: ir.Value, weights: ir.Value) -> ir.Value:
        return int8.multiply_signed(self.c, total, operand, weights)
