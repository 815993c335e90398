"""A phase whose products read the weights as they lie: for calls so short that packing them costs more than it saves.

Where the rows of a weight are units, squares of it are turned in registers on their way to the sums; where its columns
are, they are vectors already. Each sum runs over the operand's columns in the order of ``phase``: the same bits.
"""

from __future__ import annotations

from functools import partial

import llvmlite.ir as ir

from gatewise.backends.cpu import bfloat16, pack
from gatewise.backends.cpu.lanes import I32, Code
from gatewise.backends.cpu.pair_phase import PairPhaseWriter
from gatewise.backends.cpu.phase import UNROLL, PhaseWriter, Sum
from gatewise.backends.kernels import frame as slots


class StraightPhaseWriter(PhaseWriter):
    """A term of a sum is a column of a weight; of a subclass ``group`` columns, side by side in a lane."""

    group = 1

    def _prepare(self, number: ir.Value, row_low: ir.Value, row_high: ir.Value) -> None:
        # The columns that fill no square, turned.
        self.edge = self.c.b.alloca(self.c.vector, self.c.length)
        self.edge.align = self.c.length * self.c.size
        super()._prepare(number, row_low, row_high)

    def _joined(self, columns: list[ir.Value]) -> ir.Value:
        """The weights of a term."""
        (column,) = columns
        return column

    def _product(
        self, j: int, rows: list[ir.Value], values: dict[Sum, ir.Value], quarter: ir.Value
    ) -> dict[Sum, ir.Value]:
        """Add a product to the sums that are in registers."""
        c = self.c
        self.operands = [self._operand(j, row) for row in rows]
        depth = self._product_slot(j, slots.DEPTH)
        if self.owner.options.straight == "transposed":
            return self._by_squares(j, depth, values)
        columns, at_place = self._columns(j), {place: n for n, place in enumerate(values)}

        def terms(step: int, end: ir.Value | None, k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            return self._terms(columns, at_place, step, end, k, sums)

        sums = list(values.values())
        k, sums = c.accumulate(c.i64(0), depth, UNROLL, sums, partial(terms, UNROLL, None))
        end = c.b.mul(c.ceil_div(depth, self.group), c.i64(self.group))
        _, sums = c.accumulate(k, end, self.group, sums, partial(terms, self.group, depth))
        return dict(zip(values, sums, strict=True))

    def _weight_slots(self, j: int, number: int) -> tuple[ir.Value, ir.Value]:
        """Address and bytes from row to row of one of a product's weights."""
        return tuple(self._product_slot(j, slots.WEIGHTS + 2 * number + field) for field in (0, 1))

    # Rows are units

    def _by_squares(self, j: int, depth: ir.Value, values: dict[Sum, ir.Value]) -> dict[Sum, ir.Value]:
        """One accumulator and vector after the other: of 16 rows the processor fetches what comes next by itself, of
        the 48 of three gates it did not."""
        c, found = self.c, dict(values)
        whole = c.b.mul(c.b.udiv(depth, c.i64(c.length)), c.i64(c.length))
        for number, a in enumerate(self.phase.products[j].accumulators):
            for v in range(self.tile.vectors):
                lines, places = self._lines(j, number, v), [place for place in values if place[1:] == (a, v)]
                sums = [values[place] for place in places]
                _, sums = c.accumulate(c.i64(0), whole, c.length, sums, partial(self._square, lines))
                sums = self._edge(lines, whole, c.b.sub(depth, whole), sums)
                found |= zip(places, sums, strict=True)
        return found

    def _lines(self, j: int, number: int, v: int) -> list[ir.Value]:
        """Where the weights of each of a vector's units begin; of units past the end, the last one's."""
        c = self.c
        base, row = self._weight_slots(j, number)
        first, last = c.b.add(self.first_unit, c.b.mul(self._vector(v), c.i64(c.length))), c.b.sub(self.units, c.i64(1))
        units = [c.b.add(first, c.i64(lane)) for lane in range(c.length)]
        if self.masked:
            units = [c.minimum(unit, last) for unit in units]
        return [c.pointer(c.b.add(base, c.b.mul(unit, row))) for unit in units]

    def _square(self, lines: list[ir.Value], k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """Add as many columns as a vector has lanes."""
        c, half = self.c, self.c.length // 2
        for first in (0, half):
            start = c.b.add(k, c.i64(first))
            turned = self._turned(lines, start, None)
            for u in range(0, half, self.group):
                sums = self._column(c.b.add(start, c.i64(u)), self._joined(turned[u : u + self.group]), sums)
        return sums

    def _edge(self, lines: list[ir.Value], start: ir.Value, left: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """Add the columns that are left, fewer than a square has: a loop reads them, turned, from the stack. Code for
        each of them was 60 % of the kernel, and half of the time to compile it."""
        c, half = self.c, self.c.length // 2
        with c.b.if_then(c.b.icmp_signed(">", left, c.i64(0))):
            for first in (0, half):
                turned = self._turned(lines, c.b.add(start, c.i64(first)), c.b.sub(left, c.i64(first)))
                for u in range(0, half, self.group):
                    weight = c.b.bitcast(self._joined(turned[u : u + self.group]), c.vector)
                    c.store(weight, self._edge_place(c.i64(first + u)), align=c.length * c.size)

        def add(u: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            weight = c.load(self._edge_place(u), align=c.length * c.size)
            return self._column(c.b.add(start, u), weight, sums)

        end = c.b.mul(c.ceil_div(left, self.group), c.i64(self.group))
        return c.accumulate(c.i64(0), end, self.group, sums, add)[1]

    def _edge_place(self, u: ir.Value) -> ir.Value:
        return self.c.b.gep(self.edge, [u], source_etype=self.c.vector)

    def _column(self, column: ir.Value, weight: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """Add a term to the sum of each row."""
        c = self.c
        at = c.b.mul(column, c.i64(c.size // self.group))
        return [
            self._term(total, c.load_number(c.at(operand, at)), weight)
            for total, operand in zip(sums, self.operands, strict=True)
        ]

    def _turned(self, lines: list[ir.Value], start: ir.Value, left: ir.Value | None) -> list[ir.Value]:
        """Half as many columns as a vector has lanes, from ``start`` on; only those that are ``left`` are read.

        Rows whose numbers are half the lanes apart share a vector from the start, so that half of the registers and of
        the shuffles between them are enough: a square of all lanes at once spilled, and took twice as long.
        """
        c, half = self.c, self.c.length // 2
        narrow = Code(c.b, self.owner.options.dtype, half * c.size)
        mask = None if left is None else narrow.lanes_below(left)
        offset = c.b.mul(start, c.i64(c.size))
        rows = [narrow.load(c.at(line, offset), mask) for line in lines]
        lanes = ir.Constant(ir.VectorType(I32, c.length), list(range(c.length)))
        return pack.transpose(c, [c.b.shuffle_vector(rows[i], rows[half + i], lanes) for i in range(half)])

    # Columns are units

    def _columns(self, j: int) -> list[tuple[tuple[int, int], ir.Value, ir.Value, ir.Value | None]]:
        """The accumulator and vector, where its first row begins, bytes from row to row, and the lanes there are."""
        c, found = self.c, []
        for number, a in enumerate(self.phase.products[j].accumulators):
            base, row = self._weight_slots(j, number)
            for v in range(self.tile.vectors):
                offset, mask = self._lanes(v)
                found.append(((a, v), c.at(c.pointer(base), offset), row, mask))
        return found

    def _terms(
        self,
        columns: list[tuple[tuple[int, int], ir.Value, ir.Value, ir.Value | None]],
        at_place: dict[Sum, int],
        step: int,
        depth: ir.Value | None,
        k: ir.Value,
        sums: list[ir.Value],
    ) -> list[ir.Value]:
        """Add ``step`` columns from k on; only those below ``depth``, where it is given, are read."""
        c = self.c
        for first in range(0, step, self.group):
            column = c.b.add(k, c.i64(first)) if first else k
            weights = []
            for place, base, row, mask in columns:
                found = [c.load(c.at(base, c.b.mul(column, row)), mask)]
                for u in range(1, self.group):
                    other = c.b.add(column, c.i64(u))
                    lanes = mask if depth is None else self._below(mask, c.b.icmp_signed("<", other, depth))
                    found.append(c.load(c.at(base, c.b.mul(other, row)), lanes))
                weights.append((place, self._joined(found)))
            for i, operand in enumerate(self.operands):
                x = c.load_number(c.at(operand, c.b.mul(column, c.i64(c.size // self.group))))
                for (a, v), weight in weights:
                    n = at_place[i, a, v]
                    sums[n] = self._term(sums[n], x, weight)
        return sums

    def _below(self, mask: ir.Value | None, there: ir.Value) -> ir.Value:
        """The lanes of a mask, or all, where something is there; else none."""
        every, none = ir.Constant(self.c.mask, [1] * self.c.length), ir.Constant(self.c.mask, None)
        return self.c.b.select(there, every if mask is None else mask, none)


class StraightPairWriter(StraightPhaseWriter, PairPhaseWriter):
    """Weights are rounded in registers, as packing rounds them."""

    group = 2

    def _joined(self, columns: list[ir.Value]) -> ir.Value:
        return bfloat16.pair(self.c, *columns)
