"""A phase of a plan in LLVM IR: products on register tiles, and the epilogue.

One tile is ``rows`` × (accumulators × ``vectors``) registers; an accumulator is in them from its first product to its
last, so that the four of the reset-after GRU take the room of three, and then waits on the stack. A tile's sums run
over the operand's columns in ascending order, one chain per element, so that results are the same bits whatever the
tile, the batch, the chunking or the number of threads. The epilogue is written once and loops over the tile's vectors:
unrolling it for every row gained nothing and compiled several times longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import Code
from gatewise.backends.kernels import frame as slots
from gatewise.backends.kernels.frame import Frame
from gatewise.compiler.expression import Node, float_of
from gatewise.compiler.schedule import Phase, Plan, Ref

UNROLL = 4

Sum = tuple[int, int, int]
"""A sum of a tile: its row, accumulator and vector."""


@dataclass(frozen=True)
class Tile:
    """Rows of the batch by vectors of units that one pass keeps in registers, per accumulator."""

    rows: int
    vectors: int


@dataclass(frozen=True)
class KernelOptions:
    """What a kernel is specialised by, beside its plan."""

    dtype: str
    vector_bytes: int
    tiles: tuple[Tile, ...]
    masked: bool
    """Whether the number of units may be no multiple of the vector length."""
    prefetch: bool = False
    """Whether the weights exceed the second-level cache, so that each block asks for the next one's in time."""
    halves: bool = False
    """Whether packed weights lie as bfloat16; the arithmetic is in float32."""
    products: str = ""
    """How products are taken, by the names of ``products.KINDS``."""
    straight: str = ""
    """Where weights are read as they lie, which way: ``transposed`` where their rows are units, else ``copied``."""


class Owner(Protocol):
    """The module that a phase is a function of."""

    plan: Plan
    options: KernelOptions
    frame: Frame
    has_prelude: bool

    def code(self, function: ir.Function) -> Code: ...


class PhaseWriter:
    piece: ClassVar[tuple[int, int] | None] = None
    """Rows and columns that lie together where a thread writes the operands of its rows, rounded, into memory of its
    own; none where they are read as they are."""
    beside: ClassVar[int] = 0
    """Bytes that a row has there beside its numbers."""

    def __init__(self, owner: Owner, index: int, function: ir.Function) -> None:
        self.owner, self.index, self.function = owner, index, function
        self.plan, self.frame = owner.plan, owner.frame
        self.phase = owner.plan.phases[index]
        self.tile = owner.options.tiles[index]
        self.masked = owner.options.masked
        self.c = owner.code(function)
        # Phase 0 of the next step follows the last phase of this one, on values that are still in registers.
        last = index == len(owner.plan.phases) - 1 and index > 0
        self.next_prelude = owner.plan.phases[0] if last and owner.has_prelude else None

    def write(self) -> None:
        c = self.c
        self.frame_value, self.step, number, row_low, row_high, block_low, block_high = self.function.args
        self.units = c.slot(self.frame_value, slots.UNITS)
        self.places: dict[tuple[Ref, int], tuple[ir.Value, ir.Value]] = {}
        self._find_places(self.phase, 0)
        if self.next_prelude is not None:
            self.is_last_step = c.b.icmp_signed(
                "==", c.b.add(self.step, c.i64(1)), c.slot(self.frame_value, slots.STEPS)
            )
            self._find_places(self.next_prelude, 1)
        count = self.tile.rows * len(self.phase.starts) * self.tile.vectors
        self.stack = c.b.alloca(c.vector, max(count, 1))
        self.stack.align = c.length * c.size
        self._prepare(number, row_low, row_high)
        with c.loop(block_low, block_high) as block:
            self.block = block
            self.first_unit = c.b.mul(block, c.i64(self.tile.vectors * c.length))
            left = c.b.sub(self.units, self.first_unit)
            self.vectors = c.minimum(c.ceil_div(left, c.length), c.i64(self.tile.vectors))
            with c.loop(row_low, row_high, self.tile.rows) as row:
                self._tile(row, row_low, row_high)
        c.b.ret_void()

    # Addresses

    def _slot(self, array: str, field: int) -> ir.Value:
        return self.c.slot(self.frame_value, self.frame.arrays[array] + field)

    def _product_slot(self, j: int, field: int) -> ir.Value:
        return self.c.slot(self.frame_value, self.frame.products[self.index, j] + field)

    def _find_places(self, phase: Phase, ahead: int) -> None:
        """Address and row stride of every array of a phase, at this step or ``ahead`` of it."""
        for reference in [*phase.reads(), *(Ref(name, after=True) for name, _ in phase.stores)]:
            if (reference, ahead) not in self.places:
                self.places[reference, ahead] = self._place(reference, ahead)

    def _place(self, reference: Ref, ahead: int) -> tuple[ir.Value, ir.Value]:
        c, name = self.c, reference.name
        kind = self.plan.array(name).kind
        base = self._slot(name, slots.BASE)
        if kind == "vector":
            return c.pointer(base), c.i64(0)
        step = c.b.add(self.step, c.i64(ahead)) if ahead else self.step
        before = kind == "carry" and not reference.after
        shifted = c.b.add(step, self._slot(name, slots.SHIFT)) if before else step
        offset = c.b.mul(c.b.and_(shifted, self._slot(name, slots.MASK)), self._slot(name, slots.STRIDE))
        address, row = c.b.add(base, offset), self._slot(name, slots.ROW)
        if before:
            special = c.b.icmp_signed("==", step, self._slot(name, slots.SPECIAL))
            address = c.b.select(special, self._slot(name, slots.SPECIAL_BASE), address)
            row = c.b.select(special, self._slot(name, slots.SPECIAL_ROW), row)
        return c.pointer(address), row

    def _row_address(self, reference: Ref, row: ir.Value, ahead: int = 0) -> ir.Value:
        address, stride = self.places[reference, ahead]
        return self.c.at(address, self.c.b.mul(row, stride))

    def _lane_offset(self, vector: ir.Value) -> ir.Value:
        """Bytes from the start of a row to a vector of this block."""
        c = self.c
        unit = c.b.add(self.first_unit, c.b.mul(vector, c.i64(c.length)))
        return c.b.mul(unit, c.i64(c.size))

    def _mask(self, vector: ir.Value) -> ir.Value | None:
        if not self.masked:
            return None
        c = self.c
        unit = c.b.add(self.first_unit, c.b.mul(vector, c.i64(c.length)))
        return c.lanes_below(c.b.sub(self.units, unit))

    # The tile

    def _prepare(self, number: ir.Value, row_low: ir.Value, row_high: ir.Value) -> None:
        """What stands before the tiles of a thread's share."""

    def _tile(self, row: ir.Value, row_low: ir.Value, row_high: ir.Value) -> None:
        c = self.c
        if self.phase.starts:
            self._sums(row, row_low, c.b.sub(row_high, c.i64(1)))
        height = c.minimum(c.b.sub(row_high, row), c.i64(self.tile.rows))
        with c.loop(c.i64(0), height) as i, c.loop(c.i64(0), self.vectors) as v:
            self._epilogue(c.b.add(row, i), i, v)

    def _sums(self, row: ir.Value, row_low: ir.Value, last: ir.Value) -> None:
        """Leave the sums of the tile that begins with a row on the stack; ``last`` is the last row there is."""
        c = self.c
        n, width = len(self.phase.starts), self.tile.vectors
        # Rows past the end repeat the last one; their sums are never stored.
        rows = [c.minimum(c.b.add(row, c.i64(i)), last) for i in range(self.tile.rows)]
        lanes = [self._lanes(v) for v in range(width)]
        # Each of a block's first four tiles fetches a quarter of the next block's panels.
        ahead = c.minimum(c.b.udiv(c.b.sub(row, row_low), c.i64(self.tile.rows)), c.i64(3))
        places = [(i, a, v) for i in range(len(rows)) for a in range(n) for v in range(width)]
        values: dict[Sum, ir.Value] = {}
        for j in range(max(1, len(self.phase.products))):
            for i, a, v in places:
                if self.phase.span(a)[0] == j:
                    values[i, a, v] = self._start(self.phase.starts[a], rows[i], *lanes[v])
            if self.phase.products:
                values = self._product(j, rows, values, ahead)
            for i, a, v in places:
                if self.phase.span(a)[1] == j:
                    index = c.i64((i * n + a) * width + v)
                    c.store(values.pop((i, a, v)), self._stacked(index), align=c.length * c.size)

    def _lanes(self, v: int) -> tuple[ir.Value, ir.Value | None]:
        """Where a vector of the tile lies in a row, and its mask; one past the end is the last one in range, and its
        sums are never stored."""
        index = self._vector(v)
        return self._lane_offset(index), self._mask(index)

    def _vector(self, v: int) -> ir.Value:
        return self.c.minimum(self.c.i64(v), self.c.b.sub(self.vectors, self.c.i64(1)))

    def _start(self, start: Ref | None, row: ir.Value, offset: ir.Value, mask: ir.Value | None) -> ir.Value:
        c = self.c
        return c.zero() if start is None else c.load(c.at(self._row_address(start, row), offset), mask)

    def _stacked(self, index: ir.Value) -> ir.Value:
        return self.c.b.gep(self.stack, [index], source_etype=self.c.vector)

    def _product(
        self, j: int, rows: list[ir.Value], values: dict[Sum, ir.Value], quarter: ir.Value
    ) -> dict[Sum, ir.Value]:
        """Add a product to the sums that are in registers."""
        c, product, width = self.c, self.phase.products[j], self.tile.vectors
        depth, stride = self._terms_of(j), self._product_slot(j, slots.BLOCK_STRIDE)
        panel = c.at(c.pointer(self._product_slot(j, slots.PANEL)), c.b.mul(self.block, stride))
        operands = [self._operand(j, row) for row in rows]
        line = len(product.accumulators) * width  # vectors of the panel per column
        weight_bytes = c.length * (2 if self.owner.options.halves else c.size)
        line_bytes = line * weight_bytes
        skipped = c.b.mul(c.b.mul(quarter, c.b.udiv(depth, c.i64(UNROLL))), c.i64(line_bytes))
        coming = c.at(panel, c.b.add(stride, skipped))
        touched = [(a, v) for a in product.accumulators for v in range(width)]
        at_place = {place: k for k, place in enumerate(values)}

        def terms(step: int, k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            if step == UNROLL and self.owner.options.prefetch:
                place = c.at(coming, c.b.mul(c.b.udiv(k, c.i64(UNROLL)), c.i64(line_bytes)))
                for offset in range(0, line_bytes, 64):
                    c.prefetch(c.at(place, c.i64(offset)))
            for u in range(step):
                column = c.b.add(k, c.i64(u)) if u else k
                at = c.at(panel, c.b.mul(column, c.i64(line_bytes)))
                bytes_in = c.b.mul(column, c.i64(c.size))
                places = [c.at(at, c.i64(w * weight_bytes)) for w in range(line)]
                weights = [self._weight(place) for place in places]
                for i, operand in enumerate(operands):
                    x = c.load_number(c.at(operand, bytes_in))
                    for (a, v), weight in zip(touched, weights, strict=True):
                        n = at_place[i, a, v]
                        sums[n] = self._term(sums[n], x, weight)
            return sums

        sums = list(values.values())
        k, sums = c.accumulate(c.i64(0), depth, UNROLL, sums, lambda k, s: terms(UNROLL, k, s))
        _, sums = c.accumulate(k, depth, 1, sums, lambda k, s: terms(1, k, s))
        return dict(zip(values, sums, strict=True))

    def _terms_of(self, j: int) -> ir.Value:
        """How many terms the sums of a product have: of 4 bytes, or of 8 in float64, on either side."""
        return self._product_slot(j, slots.DEPTH)

    def _operand(self, j: int, row: ir.Value) -> ir.Value:
        """Where a row of a product's operand lies."""
        return self._row_address(self.phase.products[j].operand, row)

    def _term(self, total: ir.Value, number: ir.Value, weight: ir.Value) -> ir.Value:
        """A term more: one of the operand, in all lanes, times those of the weights."""
        return self.c.fmuladd(number, weight, total)

    def _weight(self, place: ir.Value) -> ir.Value:
        c = self.c
        return c.load_half(place) if self.owner.options.halves else c.load(place, align=c.length * c.size)

    # The epilogue

    def _epilogue(self, row: ir.Value, i: ir.Value, vector: ir.Value) -> None:
        c = self.c
        known: dict[Node, ir.Value] = {}
        n, width = len(self.phase.starts), self.tile.vectors
        for node, a in self.phase.sums.items():
            index = c.b.add(c.b.mul(i, c.i64(n * width)), c.b.add(c.i64(a * width), vector))
            known[node] = c.load(self._stacked(index), align=c.length * c.size)
        offset, mask = self._lane_offset(vector), self._mask(vector)
        self._program(self.phase, known, row, offset, mask, 0)
        if self.next_prelude is None:
            return
        carried: dict[Node, ir.Value] = {}
        for name, node in self.phase.stores:
            for leaf, reference in self.next_prelude.loads.items():
                if reference == Ref(name) and self.plan.array(name).kind == "carry":
                    carried[leaf] = known[node]
        prelude = self.next_prelude
        with c.b.if_then(c.b.not_(self.is_last_step)):
            self._program(prelude, carried, row, offset, mask, 1)

    def _program(
        self,
        phase: Phase,
        known: dict[Node, ir.Value],
        row: ir.Value,
        offset: ir.Value,
        mask: ir.Value | None,
        ahead: int,
    ) -> None:
        results = [self._value(node, phase, known, row, offset, mask, ahead) for _, node in phase.stores]
        for (name, _), value in zip(phase.stores, results, strict=True):
            self.c.store(value, self.c.at(self._row_address(Ref(name, after=True), row, ahead), offset), mask)

    def _value(
        self,
        node: Node,
        phase: Phase,
        known: dict[Node, ir.Value],
        row: ir.Value,
        offset: ir.Value,
        mask: ir.Value | None,
        ahead: int,
    ) -> ir.Value:
        if node not in known:
            c = self.c
            if node.op == "const":
                known[node] = c.number(float_of(node))
            elif node in phase.loads:
                reference = phase.loads[node]
                address = self._row_address(reference, row, ahead)
                one_number = self.plan.array(reference.name).width == 1
                known[node] = c.load_number(address) if one_number else c.load(c.at(address, offset), mask)
            else:
                args = [self._value(a, phase, known, row, offset, mask, ahead) for a in node.args]
                known[node] = c.compute(node, args)
        return known[node]
