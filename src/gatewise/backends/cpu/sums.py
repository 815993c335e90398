"""Sums over time and batch, ``total += Σ leftᵀ · right``: the code behind gradients of weights and biases.

The rows of δ (left) and of what it multiplies (right) are taken in runs. Of each run, both are copied into panels that
stay in the second-level cache, δ once for everything that it multiplies, and multiplied on register tiles: some
numbers of δ by a few vectors. Each run's sum starts from zero, so that its error grows with the length of a run and
not with that of the whole. What is one number wide (a single input, the ones of a bias) changes sides: numbers of δ
are then the vector.

Threads share out the columns of δ; each sum is one chain whoever takes it, so that its bits do not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import I64, PTR, Code

RUN = 256
"""Rows summed in registers before they are added to the total."""
CHUNK = 8
"""Tiles of δ that go through all of the right side before the next are copied: 64 cost 2 to 9 % (five shapes)."""
UNROLL = 4
TOGETHER = 8
"""Rows that are copied together: panels lie on pages of their own, and few pages can be written at once."""

ENTRIES = ("share",)

COUNT, LEFT, LEFT_ROW, SCRATCH, SCRATCH_STRIDE, LEFT_PANEL, OPERANDS, PARTS = range(8)
"""Rows; address and bytes per row of δ; panels: address, bytes for each thread, where those of δ begin; how many
operands and parts follow the head of the frame."""
HEAD = 8
BASE, ROW, WIDTH, PANEL, FIRST_SPECIAL, SPECIALS, SPECIAL_BASE, SPECIAL_ROW = range(8)
"""Of an operand: address of row 0, bytes per row, numbers per row, where its panels begin in a thread's scratch. So
many rows from the first special one on are at ``SPECIAL_BASE`` plus their number times ``SPECIAL_ROW``."""
OPERAND_SLOTS = 8
FIRST, COLUMNS, JOBS = range(3)
"""Of a part: bytes from the start of a row of δ, columns of δ, how many products follow."""
PART_SLOTS = 3
OPERAND, TOTAL, TOTAL_ROW = range(3)
"""Of a product: the slot of its operand in the frame, address and bytes per row of its total."""
JOB_SLOTS = 3


def tile(registers: int) -> tuple[int, int]:
    """Columns of δ by vectors of the right side in a tile: with what they read, they fill the registers."""
    return (8, 3) if registers >= 32 else (4, 3)


def panel_bytes(width: int, size: int, length: int, vectors: int) -> int:
    """Of the panels of an operand so many numbers wide."""
    if width == 1:
        return -(-RUN * size // 64) * 64
    blocks = -(-width // (length * vectors))
    return blocks * panel_pitch(RUN, vectors * length * size)


def left_bytes(rows: int, size: int) -> int:
    """Of a chunk's panels of δ."""
    return CHUNK * panel_pitch(RUN, rows * size)


def panel_pitch(depth: int, line: int) -> int:
    """Bytes from one panel to the next, some more than it needs: at multiples of 4096 they would share cache sets."""
    return depth * line + max(line, 64)


def emit(dtype: str, vector_bytes: int, registers: int) -> str:
    """The IR of a module with the entry ``share(frame, thread, threads)``."""
    module = ir.Module("gatewise_sums")
    _Writer(module, dtype, vector_bytes, *tile(registers)).write()
    return str(module)


class _Writer:
    def __init__(self, module: ir.Module, dtype: str, vector_bytes: int, rows: int, vectors: int) -> None:
        self.module, self.dtype, self.vector_bytes = module, dtype, vector_bytes
        self.rows, self.vectors = rows, vectors

    def _function(self, name: str, arguments: int) -> tuple[ir.Function, Code]:
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR] + [I64] * arguments), name)
        function.linkage = "internal"
        return function, Code(ir.IRBuilder(function.append_basic_block("entry")), self.dtype, self.vector_bytes)

    def write(self) -> None:
        self.pack_right, c = self._function("pack_right", 3)
        self._pack_right(c, *self.pack_right.args)
        self.pack_left, c = self._function("pack_left", 6)
        self._pack_left(c, *self.pack_left.args)
        self.wide, c = self._function("wide", 7)
        self._wide(c, *self.wide.args)
        self.narrow, c = self._function("narrow", 6)
        self._narrow(c, *self.narrow.args)
        share, c = self._function("share", 2)
        share.linkage = ""
        self._share(c, *share.args)

    # The loops around

    def _share(self, c: Code, frame: ir.Value, number: ir.Value, count: ir.Value) -> None:
        total, operands = c.slot(frame, COUNT), c.slot(frame, OPERANDS)
        scratch = c.b.add(c.slot(frame, SCRATCH), c.b.mul(number, c.slot(frame, SCRATCH_STRIDE)))
        first_part = c.b.add(c.i64(HEAD), c.b.mul(operands, c.i64(OPERAND_SLOTS)))
        cursor = c.b.alloca(I64)
        with c.loop(c.i64(0), total, RUN) as start:
            depth = c.minimum(c.b.sub(total, start), c.i64(RUN))
            with c.loop(c.i64(0), operands) as o:
                operand = c.entry(frame, c.b.add(c.i64(HEAD), c.b.mul(o, c.i64(OPERAND_SLOTS))))
                c.b.call(self.pack_right, [operand, scratch, start, depth])
            c.b.store(first_part, cursor)
            with c.loop(c.i64(0), c.slot(frame, PARTS)):
                at = c.b.load(cursor, typ=I64)
                part = c.entry(frame, at)
                tiles = c.ceil_div(c.slot(part, COLUMNS), self.rows)
                low = c.b.udiv(c.b.mul(tiles, number), count)
                high = c.b.udiv(c.b.mul(tiles, c.b.add(number, c.i64(1))), count)
                with c.loop(low, high, CHUNK) as first:
                    last = c.minimum(c.b.add(first, c.i64(CHUNK)), high)
                    self._chunk(c, frame, part, scratch, start, depth, first, last)
                jobs = c.b.mul(c.slot(part, JOBS), c.i64(JOB_SLOTS))
                c.b.store(c.b.add(at, c.b.add(c.i64(PART_SLOTS), jobs)), cursor)
        c.b.ret_void()

    def _chunk(
        self,
        c: Code,
        frame: ir.Value,
        part: ir.Value,
        scratch: ir.Value,
        start: ir.Value,
        depth: ir.Value,
        first: ir.Value,
        last: ir.Value,
    ) -> None:
        """Tiles ``first`` to ``last`` of a part: copied, then multiplied with each of its operands."""
        left, row, columns = c.b.add(scratch, c.slot(frame, LEFT_PANEL)), c.slot(frame, LEFT_ROW), c.slot(part, COLUMNS)
        source = c.b.add(c.b.add(c.slot(frame, LEFT), c.b.mul(start, row)), c.slot(part, FIRST))
        c.b.call(self.pack_left, [c.pointer(source), row, columns, left, depth, first, last])
        with c.loop(c.i64(0), c.slot(part, JOBS)) as j:
            job = c.entry(part, c.b.add(c.i64(PART_SLOTS), c.b.mul(j, c.i64(JOB_SLOTS))))
            operand = c.entry(frame, c.slot(job, OPERAND))
            width, right = c.slot(operand, WIDTH), c.b.add(scratch, c.slot(operand, PANEL))
            arguments = [job, left, right, depth, first, last, columns]
            with c.b.if_else(c.b.icmp_signed("==", width, c.i64(1))) as (one, more):
                with one:
                    c.b.call(self.narrow, arguments)
                with more:
                    c.b.call(self.wide, [*arguments, width])

    # Panels

    def _pitch(self, c: Code, depth: ir.Value, line: int) -> ir.Value:
        """Bytes from one panel to the next; see ``panel_pitch``."""
        return c.b.add(c.b.mul(depth, c.i64(line)), c.i64(max(line, 64)))

    def _pack_right(self, c: Code, operand: ir.Value, scratch: ir.Value, start: ir.Value, depth: ir.Value) -> None:
        """[block of vectors][row][vectors of the block]; the last block may have fewer vectors."""
        panel = c.b.add(scratch, c.slot(operand, PANEL))
        width, row = c.slot(operand, WIDTH), c.slot(operand, ROW)
        base = c.b.add(c.slot(operand, BASE), c.b.mul(start, row))
        special_row, first_special = c.slot(operand, SPECIAL_ROW), c.slot(operand, FIRST_SPECIAL)
        whole, vector = self.vectors * c.length, c.length * c.size
        blocks, pitch = c.b.udiv(width, c.i64(whole)), self._pitch(c, depth, self.vectors * vector)
        rest = c.b.sub(width, c.b.mul(blocks, c.i64(whole)))
        rest_vectors = c.ceil_div(rest, c.length)

        def address(k: ir.Value) -> ir.Value:
            past = c.b.sub(c.b.add(start, k), first_special)
            special = c.b.add(c.slot(operand, SPECIAL_BASE), c.b.mul(past, special_row))
            chosen = c.b.icmp_unsigned("<", past, c.slot(operand, SPECIALS))
            return c.pointer(c.b.select(chosen, special, c.b.add(base, c.b.mul(k, row))))

        def rows(k: ir.Value, count: int) -> None:
            sources = [address(c.b.add(k, c.i64(u))) for u in range(count)]
            with c.loop(c.i64(0), blocks) as block:
                offset, target = c.b.mul(block, c.i64(whole * c.size)), c.b.add(panel, c.b.mul(block, pitch))
                target = c.at(c.pointer(target), c.b.mul(k, c.i64(whole * c.size)))
                for u, source in enumerate(sources):
                    for v in range(self.vectors):
                        value = c.load(c.at(c.at(source, offset), c.i64(v * vector)))
                        c.store(value, c.at(target, c.i64(u * whole * c.size + v * vector)), align=vector)
            target = c.b.add(panel, c.b.mul(blocks, pitch))
            target = c.at(c.pointer(target), c.b.mul(c.b.mul(k, rest_vectors), c.i64(vector)))
            with c.loop(c.i64(0), rest_vectors) as v:
                mask = c.lanes_below(c.b.sub(rest, c.b.mul(v, c.i64(c.length))))
                offset = c.b.add(c.b.mul(blocks, c.i64(whole * c.size)), c.b.mul(v, c.i64(vector)))
                for u, source in enumerate(sources):
                    column = c.b.mul(c.b.add(c.b.mul(c.i64(u), rest_vectors), v), c.i64(vector))
                    c.store(c.load(c.at(source, offset), mask), c.at(target, column), align=vector)

        def numbers(k: ir.Value, count: int) -> None:
            for u in range(count):
                column = c.b.add(k, c.i64(u))
                number = c.b.load(address(column), typ=c.scalar)
                c.b.store(number, c.at(c.pointer(panel), c.b.mul(column, c.i64(c.size))))

        with c.b.if_else(c.b.icmp_signed("==", width, c.i64(1))) as (one, more):
            with one:
                self._together(c, depth, numbers)
            with more:
                self._together(c, depth, rows)
        c.b.ret_void()

    def _pack_left(
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
        """[tile][row][columns of the tile]."""
        c = Code(c.b, self.dtype, self.rows * c.size)
        line = self.rows * c.size
        pitch = self._pitch(c, depth, line)
        whole = c.minimum(c.b.udiv(columns, c.i64(self.rows)), last)

        def copy(k: ir.Value, count: int, tile: ir.Value, mask: ir.Value | None) -> None:
            start = c.at(c.at(source, c.b.mul(k, row)), c.b.mul(tile, c.i64(line)))
            target = c.b.add(panel, c.b.mul(c.b.sub(tile, first), pitch))
            target = c.at(c.pointer(target), c.b.mul(k, c.i64(line)))
            for u in range(count):
                value = c.load(c.at(start, c.b.mul(c.i64(u), row)), mask)
                c.store(value, c.at(target, c.i64(u * line)), align=line)

        def rows(k: ir.Value, count: int) -> None:
            with c.loop(first, whole) as tile:
                copy(k, count, tile, None)
            with c.loop(whole, last) as tile:
                copy(k, count, tile, c.lanes_below(c.b.sub(columns, c.b.mul(tile, c.i64(self.rows)))))

        self._together(c, depth, rows)
        c.b.ret_void()

    @staticmethod
    def _together(c: Code, depth: ir.Value, rows: Callable[[ir.Value, int], None]) -> None:
        """``rows(k, TOGETHER)`` for all rows, and one at a time at the end."""
        whole = c.b.mul(c.b.udiv(depth, c.i64(TOGETHER)), c.i64(TOGETHER))
        with c.loop(c.i64(0), whole, TOGETHER) as k:
            rows(k, TOGETHER)
        with c.loop(whole, depth) as k:
            rows(k, 1)

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
                        sums[i * vectors + v] = c.fmuladd(x, weight, sums[i * vectors + v])
            return sums

        zeros: list[ir.Value] = [c.zero()] * (self.rows * vectors)
        k, values = c.accumulate(c.i64(0), depth, UNROLL, zeros, lambda k, s: terms(UNROLL, k, s))
        _, values = c.accumulate(k, depth, 1, values, lambda k, s: terms(1, k, s))
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
                return [c.fmuladd(x, c.load(c.at(p, at), align=line), s) for p, s in zip(panels, sums, strict=True)]

            zeros: list[ir.Value] = [c.zero()] * together
            _, values = c.accumulate(c.i64(0), depth, 1, zeros, terms)
            for i, (t, value) in enumerate(zip(tiles, values, strict=True)):
                number = c.b.mul(t, c.i64(self.rows))
                place = c.at(c.pointer(c.slot(job, TOTAL)), c.b.mul(number, c.i64(c.size)))
                with c.b.if_then(c.b.icmp_signed("<", c.b.add(tile, c.i64(i)), last)):
                    self._accumulate(c, place, value, c.lanes_below(c.b.sub(columns, number)))
        c.b.ret_void()
