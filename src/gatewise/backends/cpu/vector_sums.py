"""Sums over time and batch on the vector unit: both sides in panels, some numbers of δ by a few vectors in registers.

What is one number wide (a single input, the ones of a bias) changes sides: numbers of δ are then the vector.
"""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import I64, Code
from gatewise.backends.cpu.sums import PANEL, TOTAL, TOTAL_ROW, WIDTH, Loops
from gatewise.backends.cpu.tiers import Tier

RUN = 256
"""Rows summed in registers before they are added to the total."""
CHUNK = 8
"""Tiles of δ that go through all of the right side before the next are copied: 64 cost 2 to 9 % (five shapes)."""
UNROLL = 4
TOGETHER = 8
"""Rows that are copied together: panels lie on pages of their own, and few pages can be written at once."""


def tile(registers: int) -> tuple[int, int]:
    """Columns of δ by vectors of the right side in a tile: with what they read, they fill the registers."""
    return (8, 3) if registers >= 32 else (4, 3)


def panel_pitch(depth: int, line: int) -> int:
    """Bytes from one panel to the next, some more than it needs: at multiples of 4096 they would share cache sets."""
    return depth * line + max(line, 64)


class VectorSums(Loops):
    """Sums are chains of terms, each a row of both sides; of a subclass ``group`` rows, side by side in a lane."""

    group = 1

    def __init__(self, tier: Tier, dtype: str) -> None:
        rows, self.vectors = tile(tier.registers)
        super().__init__(tier, dtype, RUN, CHUNK, rows)

    def operand_bytes(self, width: int, depth: int) -> int:
        terms = -(-depth // self.group)
        if width == 1:
            return -(-terms * self.size // 64) * 64
        blocks = -(-width * self.size // (self.vector_bytes * self.vectors))
        return blocks * panel_pitch(terms, self.vectors * self.vector_bytes)

    def left_bytes(self, depth: int) -> int:
        return CHUNK * panel_pitch(-(-depth // self.group), self.rows * self.size)

    def products(self) -> None:
        self.wide, c = self.function("wide", 7)
        self._wide(c, *self.wide.args)
        self.narrow, c = self.function("narrow", 6)
        self._narrow(c, *self.narrow.args)

    def multiply(self, c: Code, arguments: list[ir.Value], width: ir.Value) -> None:
        with c.b.if_else(c.b.icmp_signed("==", width, c.i64(1))) as (one, more):
            with one:
                c.b.call(self.narrow, arguments)
            with more:
                c.b.call(self.wide, [*arguments, width])

    # Terms

    def _terms(self, c: Code, depth: ir.Value) -> ir.Value:
        """How many so many rows are."""
        return c.ceil_div(depth, self.group)

    def _there(self, c: Code, term: ir.Value, depth: ir.Value) -> ir.Value | None:
        """Whether the last row of a term is; None: it always is."""
        return None

    def _joined(self, c: Code, addresses: list[ir.Value], mask: ir.Value | None, there: ir.Value | None) -> ir.Value:
        """A vector of a term, from where its rows lie."""
        (address,) = addresses
        return c.load(address, mask)

    def _term(self, c: Code, total: ir.Value, number: ir.Value, vector: ir.Value) -> ir.Value:
        """A term more: a number of one side in all lanes, and a vector of the other."""
        return c.fmuladd(number, vector, total)

    # Panels

    def _pitch(self, c: Code, depth: ir.Value, line: int) -> ir.Value:
        """Bytes from one panel to the next; see ``panel_pitch``."""
        return c.b.add(c.b.mul(self._terms(c, depth), c.i64(line)), c.i64(max(line, 64)))

    def copy_right(self, c: Code, operand: ir.Value, scratch: ir.Value, start: ir.Value, depth: ir.Value) -> None:
        """[block of vectors][term][vectors of the block]; the last block may have fewer vectors."""
        panel = c.b.add(scratch, c.slot(operand, PANEL))
        width, address = c.slot(operand, WIDTH), self.rows_of(c, operand, start)
        whole, vector = self.vectors * c.length, c.length * c.size
        blocks, pitch = c.b.udiv(width, c.i64(whole)), self._pitch(c, depth, self.vectors * vector)
        rest = c.b.sub(width, c.b.mul(blocks, c.i64(whole)))
        rest_vectors = c.ceil_div(rest, c.length)

        def sources_of(k: ir.Value, count: int) -> list[list[ir.Value]]:
            return self._grouped([address(self._row(c, k, u)) for u in range(count * self.group)])

        def rows(k: ir.Value, count: int, there: ir.Value | None) -> None:
            sources = sources_of(k, count)
            with c.loop(c.i64(0), blocks) as block:
                offset, target = c.b.mul(block, c.i64(whole * c.size)), c.b.add(panel, c.b.mul(block, pitch))
                target = c.at(c.pointer(target), c.b.mul(k, c.i64(whole * c.size)))
                for u, term in enumerate(sources):
                    for v in range(self.vectors):
                        places = [c.at(c.at(source, offset), c.i64(v * vector)) for source in term]
                        value = self._joined(c, places, None, there)
                        c.store(value, c.at(target, c.i64(u * whole * c.size + v * vector)), align=vector)
            target = c.b.add(panel, c.b.mul(blocks, pitch))
            target = c.at(c.pointer(target), c.b.mul(c.b.mul(k, rest_vectors), c.i64(vector)))
            with c.loop(c.i64(0), rest_vectors) as v:
                mask = c.lanes_below(c.b.sub(rest, c.b.mul(v, c.i64(c.length))))
                offset = c.b.add(c.b.mul(blocks, c.i64(whole * c.size)), c.b.mul(v, c.i64(vector)))
                for u, term in enumerate(sources):
                    column = c.b.mul(c.b.add(c.b.mul(c.i64(u), rest_vectors), v), c.i64(vector))
                    value = self._joined(c, [c.at(source, offset) for source in term], mask, there)
                    c.store(value, c.at(target, column), align=vector)

        def numbers(k: ir.Value, count: int, there: ir.Value | None) -> None:
            first = c.lanes_below(c.i64(1))
            for u, term in enumerate(sources_of(k, count)):
                place = c.at(c.pointer(panel), c.b.mul(c.b.add(k, c.i64(u)), c.i64(c.size)))
                c.store(self._joined(c, term, first, there), place, first)

        with c.b.if_else(c.b.icmp_signed("==", width, c.i64(1))) as (one, more):
            with one:
                self._together(c, depth, numbers)
            with more:
                self._together(c, depth, rows)

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
        """[tile][term][columns of the tile]."""
        c = Code(c.b, self.dtype, self.rows * c.size)
        line = self.rows * c.size
        pitch = self._pitch(c, depth, line)
        whole = c.minimum(c.b.udiv(columns, c.i64(self.rows)), last)

        def copy(k: ir.Value, count: int, there: ir.Value | None, tile: ir.Value, mask: ir.Value | None) -> None:
            start = c.at(c.at(source, c.b.mul(self._row(c, k, 0), row)), c.b.mul(tile, c.i64(line)))
            sources = [c.at(start, c.b.mul(c.i64(u), row)) for u in range(count * self.group)]
            target = c.b.add(panel, c.b.mul(c.b.sub(tile, first), pitch))
            target = c.at(c.pointer(target), c.b.mul(k, c.i64(line)))
            for u, term in enumerate(self._grouped(sources)):
                c.store(self._joined(c, term, mask, there), c.at(target, c.i64(u * line)), align=line)

        def rows(k: ir.Value, count: int, there: ir.Value | None) -> None:
            with c.loop(first, whole) as tile:
                copy(k, count, there, tile, None)
            with c.loop(whole, last) as tile:
                copy(k, count, there, tile, c.lanes_below(c.b.sub(columns, c.b.mul(tile, c.i64(self.rows)))))

        self._together(c, depth, rows)

    def _row(self, c: Code, term: ir.Value, k: int) -> ir.Value:
        """The number of the k-th row from the first of a term on."""
        return c.b.add(c.b.mul(term, c.i64(self.group)), c.i64(k))

    def _grouped(self, rows: list[ir.Value]) -> list[list[ir.Value]]:
        return [rows[k : k + self.group] for k in range(0, len(rows), self.group)]

    def _together(self, c: Code, depth: ir.Value, rows: Callable[[ir.Value, int, ir.Value | None], None]) -> None:
        """``rows(k, TOGETHER, None)`` for all terms, and one at a time at the end, of which the last row may miss."""
        whole = c.b.mul(c.b.udiv(depth, c.i64(TOGETHER * self.group)), c.i64(TOGETHER))
        with c.loop(c.i64(0), whole, TOGETHER) as k:
            rows(k, TOGETHER, None)
        with c.loop(whole, self._terms(c, depth)) as k:
            rows(k, 1, self._there(c, k, depth))

    # Products

    def _wide(
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
        """Register tiles: a block of the right side stays in the first-level cache while δ passes."""
        vector = c.length * c.size
        pitch = self._pitch(c, depth, self.vectors * vector)
        vectors = c.ceil_div(width, c.length)
        blocks = c.b.udiv(vectors, c.i64(self.vectors))
        rest = c.b.sub(vectors, c.b.mul(blocks, c.i64(self.vectors)))
        stack = c.b.alloca(c.vector, self.rows * self.vectors)
        stack.align = vector
        for n in range(self.vectors, 0, -1):
            low = c.i64(0) if n == self.vectors else blocks
            high = c.b.add(blocks, c.b.zext(c.b.icmp_signed("==", rest, c.i64(n)), I64)) if n < self.vectors else blocks
            with c.loop(low, high) as block, c.loop(first, last) as tile:
                a = c.pointer(c.b.add(left, c.b.mul(c.b.sub(tile, first), self._pitch(c, depth, self.rows * c.size))))
                b = c.pointer(c.b.add(right, c.b.mul(block, pitch)))
                first_row = c.b.mul(tile, c.i64(self.rows))
                total = c.b.add(c.slot(job, TOTAL), c.b.mul(first_row, c.slot(job, TOTAL_ROW)))
                total = c.at(c.pointer(total), c.b.mul(block, c.i64(self.vectors * vector)))
                self._multiply(c, a, b, depth, n, total, c.slot(job, TOTAL_ROW), stack)
                left_over = c.b.sub(width, c.b.mul(block, c.i64(self.vectors * c.length)))
                height = c.minimum(c.b.sub(columns, first_row), c.i64(self.rows))
                whole = c.b.icmp_signed(">=", left_over, c.i64(n * c.length))
                with c.b.if_else(whole) as (plain, partial):
                    with plain:
                        self._add(c, total, c.slot(job, TOTAL_ROW), height, n, stack, None)
                    with partial:
                        self._add(c, total, c.slot(job, TOTAL_ROW), height, n, stack, left_over)
        c.b.ret_void()

    def _multiply(
        self,
        c: Code,
        a: ir.Value,
        b: ir.Value,
        depth: ir.Value,
        vectors: int,
        total: ir.Value,
        total_row: ir.Value,
        stack: ir.Value,
    ) -> None:
        vector = c.length * c.size
        for i in range(self.rows):  # the total is far away, and wanted when the sums are done
            for v in range(vectors):
                c.prefetch(c.at(c.at(total, c.b.mul(c.i64(i), total_row)), c.i64(v * vector)))

        def terms(step: int, k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            for u in range(step):
                column = c.b.add(k, c.i64(u)) if u else k
                line = c.at(b, c.b.mul(column, c.i64(vectors * vector)))
                weights = [c.load(c.at(line, c.i64(v * vector)), align=vector) for v in range(vectors)]
                numbers = c.at(a, c.b.mul(column, c.i64(self.rows * c.size)))
                for i in range(self.rows):
                    x = c.load_number(c.at(numbers, c.i64(i * c.size)))
                    for v, weight in enumerate(weights):
                        sums[i * vectors + v] = self._term(c, sums[i * vectors + v], x, weight)
            return sums

        zeros: list[ir.Value] = [c.zero()] * (self.rows * vectors)
        count = self._terms(c, depth)
        k, values = c.accumulate(c.i64(0), count, UNROLL, zeros, lambda k, s: terms(UNROLL, k, s))
        _, values = c.accumulate(k, count, 1, values, lambda k, s: terms(1, k, s))
        for index, value in enumerate(values):
            c.store(value, c.b.gep(stack, [c.i64(index)], source_etype=c.vector), align=vector)

    def _add(
        self,
        c: Code,
        total: ir.Value,
        total_row: ir.Value,
        height: ir.Value,
        vectors: int,
        stack: ir.Value,
        lanes: ir.Value | None,
    ) -> None:
        """The sums of a tile to their total."""
        vector = c.length * c.size
        with c.loop(c.i64(0), height) as i:
            line = c.at(total, c.b.mul(i, total_row))
            for v in range(vectors):
                mask = c.lanes_below(c.b.sub(lanes, c.i64(v * c.length))) if lanes is not None else None
                index = c.b.add(c.b.mul(i, c.i64(vectors)), c.i64(v))
                value = c.load(c.b.gep(stack, [index], source_etype=c.vector), align=vector)
                self._accumulate(c, c.at(line, c.i64(v * vector)), value, mask)

    @staticmethod
    def _accumulate(c: Code, place: ir.Value, value: ir.Value, mask: ir.Value | None) -> None:
        c.store(c.b.fadd(c.load(place, mask), value), place, mask)

    def _narrow(
        self,
        c: Code,
        job: ir.Value,
        left: ir.Value,
        right: ir.Value,
        depth: ir.Value,
        first: ir.Value,
        last: ir.Value,
        columns: ir.Value,
    ) -> None:
        """One number a row on the right: columns of δ are the lanes, four tiles at once."""
        c = Code(c.b, self.dtype, self.rows * c.size)
        line, together = self.rows * c.size, 4
        pitch = self._pitch(c, depth, line)
        with c.loop(first, last, together) as tile:
            # Tiles past the end repeat the last one; their sums are not stored.
            tiles = [c.minimum(c.b.add(tile, c.i64(i)), c.b.sub(last, c.i64(1))) for i in range(together)]
            panels = [c.pointer(c.b.add(left, c.b.mul(c.b.sub(t, first), pitch))) for t in tiles]

            def terms(k: ir.Value, sums: list[ir.Value], panels: list[ir.Value] = panels) -> list[ir.Value]:
                x = c.load_number(c.at(c.pointer(right), c.b.mul(k, c.i64(c.size))))
                at = c.b.mul(k, c.i64(line))
                vectors = [c.load(c.at(p, at), align=line) for p in panels]
                return [self._term(c, s, x, v) for s, v in zip(sums, vectors, strict=True)]

            zeros: list[ir.Value] = [c.zero()] * together
            _, values = c.accumulate(c.i64(0), self._terms(c, depth), 1, zeros, terms)
            for i, (t, value) in enumerate(zip(tiles, values, strict=True)):
                number = c.b.mul(t, c.i64(self.rows))
                place = c.at(c.pointer(c.slot(job, TOTAL)), c.b.mul(number, c.i64(c.size)))
                with c.b.if_then(c.b.icmp_signed("<", c.b.add(tile, c.i64(i)), last)):
                    self._accumulate(c, place, value, c.lanes_below(c.b.sub(columns, number)))
        c.b.ret_void()
