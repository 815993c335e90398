"""Sums over time and batch, ``total += Σ leftᵀ · right``: the loops behind gradients of weights and biases.

The rows of δ (left) and of what it multiplies (right) are taken in runs. Of each run, both are copied into panels that
stay in the second-level cache, δ once for everything that it multiplies, and multiplied on register tiles. Each run's
sum starts from zero, so that its error grows with the length of a run and not with that of the whole.

Threads share out the columns of δ; each sum is one chain whoever takes it, so that its bits do not depend on them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import I64, PTR, SIZES, Code
from gatewise.backends.cpu.tiers import Tier

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
OPERAND, TOTAL, TOTAL_ROW, FRESH = range(4)
"""Of a product: the slot of its operand in the frame, address and bytes per row of its total, and whether nothing is in
there yet."""
JOB_SLOTS = 4


class Loops(ABC):
    """A module with the entry ``share(frame, thread, threads)``; copies and products are its subclasses'.

    Args:
        run: rows whose sums are in registers before they are added to the total. chunk: tiles of δ that go through all
            of the right side before the next are copied. rows: columns of δ in a tile.
    """

    def __init__(self, tier: Tier, dtype: str, run: int, chunk: int, rows: int) -> None:
        self.dtype, self.vector_bytes, self.size = dtype, tier.vector_bytes, SIZES[dtype]
        self.run, self.chunk, self.rows = run, chunk, rows

    @abstractmethod
    def operand_bytes(self, width: int, depth: int) -> int:
        """Of the panels of an operand so many numbers wide, of which ``depth`` rows at most are taken together."""

    @abstractmethod
    def left_bytes(self, depth: int) -> int:
        """Of a chunk's panels of δ."""

    def text(self) -> str:
        """The module's IR."""
        self.module = ir.Module("gatewise_sums")
        self.pack_right, c = self.function("pack_right", 3)
        self.copy_right(c, *self.pack_right.args)
        c.b.ret_void()
        self.pack_left, c = self.function("pack_left", 6)
        self.copy_left(c, *self.pack_left.args)
        c.b.ret_void()
        self.products()
        share, c = self.function("share", 2)
        share.linkage = ""
        self.share(c, *share.args)
        c.b.ret_void()
        return str(self.module)

    def function(self, name: str, arguments: int) -> tuple[ir.Function, Code]:
        """Another function of a pointer and so many numbers."""
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR] + [I64] * arguments), name)
        function.linkage = "internal"
        return function, Code(ir.IRBuilder(function.append_basic_block("entry")), self.dtype, self.vector_bytes)

    @abstractmethod
    def copy_right(self, c: Code, operand: ir.Value, scratch: ir.Value, start: ir.Value, depth: ir.Value) -> None:
        """Copy ``depth`` rows of an operand from ``start`` on."""

    @abstractmethod
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
        """Copy ``depth`` rows of the tiles ``first`` to ``last`` of δ."""

    @abstractmethod
    def products(self) -> None:
        """Write the functions that ``multiply`` calls."""

    @abstractmethod
    def multiply(self, c: Code, arguments: list[ir.Value], width: ir.Value) -> None:
        """Call what multiplies tiles of δ with an operand so many numbers wide and adds to the total.

        Args:
            arguments: job, panels of δ, of the operand, depth, first and last tile, columns of δ, whether the total
                is empty.
        """

    @staticmethod
    def no_sums(c: Code) -> ir.Value:
        """The address of a vector of zeros."""
        place = c.b.alloca(c.vector)
        place.align = c.length * c.size
        c.store(c.zero(), place)
        return place

    @staticmethod
    def accumulate(
        c: Code, place: ir.Value, value: ir.Value, mask: ir.Value | None, empty: ir.Value, none: ir.Value
    ) -> None:
        """Add to the total, or to zeros where it is empty: to clear it beforehand would write it twice. The bits are
        those of a cleared total."""
        before = c.b.select(c.b.icmp_signed("!=", empty, c.i64(0)), none, place)
        c.store(c.b.fadd(c.load(before, mask), value), place, mask)

    @staticmethod
    def rows_of(c: Code, operand: ir.Value, start: ir.Value) -> Callable[[ir.Value], ir.Value]:
        """Addresses of the rows of an operand from ``start`` on, by their number."""
        row = c.slot(operand, ROW)
        base = c.b.add(c.slot(operand, BASE), c.b.mul(start, row))
        special_row, first_special = c.slot(operand, SPECIAL_ROW), c.slot(operand, FIRST_SPECIAL)

        def address(k: ir.Value) -> ir.Value:
            past = c.b.sub(c.b.add(start, k), first_special)
            special = c.b.add(c.slot(operand, SPECIAL_BASE), c.b.mul(past, special_row))
            chosen = c.b.icmp_unsigned("<", past, c.slot(operand, SPECIALS))
            return c.pointer(c.b.select(chosen, special, c.b.add(base, c.b.mul(k, row))))

        return address

    def share(self, c: Code, frame: ir.Value, number: ir.Value, count: ir.Value) -> None:
        """One thread's share of everything."""
        total, operands = c.slot(frame, COUNT), c.slot(frame, OPERANDS)
        scratch = c.b.add(c.slot(frame, SCRATCH), c.b.mul(number, c.slot(frame, SCRATCH_STRIDE)))
        first_part = c.b.add(c.i64(HEAD), c.b.mul(operands, c.i64(OPERAND_SLOTS)))
        cursor = c.b.alloca(I64)
        with c.loop(c.i64(0), total, self.run) as start:
            depth = c.minimum(c.b.sub(total, start), c.i64(self.run))
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
                with c.loop(low, high, self.chunk) as first:
                    last = c.minimum(c.b.add(first, c.i64(self.chunk)), high)
                    self._chunk(c, frame, part, scratch, start, depth, first, last)
                jobs = c.b.mul(c.slot(part, JOBS), c.i64(JOB_SLOTS))
                c.b.store(c.b.add(at, c.b.add(c.i64(PART_SLOTS), jobs)), cursor)

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
            empty = c.b.and_(c.slot(job, FRESH), c.b.zext(c.b.icmp_signed("==", start, c.i64(0)), I64))
            self.multiply(c, [job, left, right, depth, first, last, columns, empty], width)
