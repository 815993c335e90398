"""Weights into panels: [block of units][group of columns][accumulator][vectors], so that a tile reads them in one
ascending run.

Two kernels per dtype and tier serve every cell: ``transposed`` packs rows = units (the forward's products), ``copied``
packs rows = columns (the backward's). Lanes past the last unit are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce

import llvmlite.ir as ir

from gatewise.backends.cpu import bfloat16, int8
from gatewise.backends.cpu.lanes import I32, I64, PTR, Code

SOURCE, SOURCE_ROW, UNITS, DEPTH, PANEL, COLUMN_STRIDE, BLOCK_STRIDE, VECTORS, THREADS = range(9)
SLOTS = 9
KINDS = ("transposed", "copied")


@dataclass(frozen=True)
class Form:
    """How packed numbers lie.

    Columns in a group lie side by side in 32 bits; up to a multiple of ``columns`` they are zero.
    """

    name: str
    columns: int = 1
    """In a group."""
    number: int = 0
    """Bytes of a number; 0: those of its dtype."""
    head: int = 0
    """Lines as long as a group's before the first."""
    offset: int = 0
    """What the bytes of operands are more than they mean."""

    @property
    def of_bytes(self) -> bool:
        """Whether numbers are bytes with scales, as forwards alone read them."""
        return self.number == 1

    @property
    def together(self) -> int:
        """Columns in 32 bits; 1 where a group has one column."""
        return 1 if self.columns == 1 else 4 // self.number

    def lines(self, columns: int) -> int:
        return self.head + -(-columns // self.columns)

    def lane(self, size: int, length: int) -> int:
        """Bytes of a vector of so many units, of numbers of so many bytes, in a group."""
        return self.columns * length * (self.number or size)


WHOLE = Form("whole")
"""Numbers as they are."""
HALVES = Form("halves", 1, 2)
"""In bfloat16, of float32 that were rounded to it."""
PAIRS = Form("pairs", 2, 2)
"""Rounded to bfloat16, two columns side by side."""
TILES = Form("tiles", 32, 2)
"""Rounded to bfloat16, in tiles of the matrix unit: of 32 columns, pair by pair."""
BYTES = Form("bytes", 4, 1, 2, int8.OFFSET)
"""As bytes, four columns side by side, behind a line of what sums begin with and one of scales; see ``int8``."""
SIGNED = Form("signed", 4, 1, 2)
"""The same for operands of signed bytes, whose sums begin with nothing."""


def kinds(form: Form) -> tuple[str, ...]:
    """Products of bytes have no backward, which packs rows = columns."""
    return KINDS[:1] if form.of_bytes else KINDS


def entries(form: Form) -> tuple[str, ...]:
    return (*kinds(form), *(kind + "_share" for kind in kinds(form)))


def emit(dtype: str, vector_bytes: int, form: Form = WHOLE) -> str:
    """The IR of a module with ``transposed(frame)`` and ``copied(frame)``, and ``…_share(frame, thread, threads)``."""
    module = ir.Module("gatewise_pack")
    void = ir.VoidType()
    parallel = ir.Function(module, ir.FunctionType(void, [PTR, PTR, I32, I32]), "gatewise_parallel")
    thread_num = ir.Function(module, ir.FunctionType(I32, []), "gatewise_thread_num")
    num_threads = ir.Function(module, ir.FunctionType(I32, []), "gatewise_num_threads")
    for name in kinds(form):
        work = ir.Function(module, ir.FunctionType(void, [PTR, I64, I64]), name + "_share")
        region = ir.Function(module, ir.FunctionType(void, [PTR]), name + "_region")
        entry = ir.Function(module, ir.FunctionType(void, [PTR]), name)
        region.linkage = "internal"
        _write_share(Code(ir.IRBuilder(work.append_basic_block("entry")), dtype, vector_bytes), work, name, form)
        c = Code(ir.IRBuilder(region.append_basic_block("entry")), dtype, vector_bytes)
        number, count = (c.b.zext(c.b.call(f, []), I64) for f in (thread_num, num_threads))
        c.b.call(work, [region.args[0], number, count])
        c.b.ret_void()
        c = Code(ir.IRBuilder(entry.append_basic_block("entry")), dtype, vector_bytes)
        threads = c.slot(entry.args[0], THREADS)
        with c.b.if_else(c.b.icmp_signed(">", threads, c.i64(1))) as (many, one):
            with many:
                c.b.call(parallel, [region, entry.args[0], c.b.trunc(threads, I32), ir.Constant(I32, 0)])
            with one:
                c.b.call(work, [entry.args[0], c.i64(0), c.i64(1)])
        c.b.ret_void()
    return str(module)


def _write_share(c: Code, function: ir.Function, name: str, form: Form) -> None:
    frame, number, count = function.args
    slots = [c.slot(frame, k) for k in range(SLOTS)]
    per_block = slots[VECTORS]
    total = c.ceil_div(slots[UNITS], c.length)
    blocks = c.b.udiv(c.b.add(total, c.b.sub(per_block, c.i64(1))), per_block)
    vectors = c.b.mul(blocks, per_block)
    low = c.b.udiv(c.b.mul(vectors, number), count)
    high = c.b.udiv(c.b.mul(vectors, c.b.add(number, c.i64(1))), count)
    with c.loop(low, high) as m:
        offset = c.b.mul(c.b.udiv(m, per_block), slots[BLOCK_STRIDE])
        lane = c.b.mul(c.b.urem(m, per_block), c.i64(form.lane(c.size, c.length)))
        target = c.pointer(c.b.add(slots[PANEL], c.b.add(offset, lane)))
        unit = c.b.mul(m, c.i64(c.length))
        (_transposed if name == "transposed" else _copied)(c, slots, unit, target, form)
    c.b.ret_void()


def _copied(c: Code, slots: list[ir.Value], unit: ir.Value, target: ir.Value, form: Form) -> None:
    mask = c.lanes_below(c.b.sub(slots[UNITS], unit))
    source = c.pointer(c.b.add(slots[SOURCE], c.b.mul(unit, c.i64(c.size))))
    with c.loop(c.i64(0), _padded(c, slots[DEPTH], form), form.together) as k:
        values = []
        for u in range(form.together):
            column, present = c.b.add(k, c.i64(u)) if u else k, mask
            if form.columns > 1:
                present = c.b.select(c.b.icmp_signed("<", column, slots[DEPTH]), mask, ir.Constant(c.mask, None))
            values.append(c.load(c.at(source, c.b.mul(column, slots[SOURCE_ROW])), present))
        _put(c, values, _place(c, slots, target, k, form), form)


def _padded(c: Code, depth: ir.Value, form: Form) -> ir.Value:
    """A depth in whole groups."""
    return depth if form.columns == 1 else c.b.mul(c.ceil_div(depth, form.columns), c.i64(form.columns))


def _place(c: Code, slots: list[ir.Value], target: ir.Value, column: ir.Value, form: Form) -> ir.Value:
    """Where a column lies, or those that begin with it and lie side by side."""
    group = column if form.columns == 1 else c.b.udiv(column, c.i64(form.columns))
    place = c.at(target, c.b.mul(group, slots[COLUMN_STRIDE]))
    if form.columns == form.together:
        return place
    return c.at(place, c.b.mul(c.b.urem(column, c.i64(form.columns)), c.i64(c.length * form.number)))


def _transposed(c: Code, slots: list[ir.Value], unit: ir.Value, target: ir.Value, form: Form) -> None:
    last = c.b.sub(slots[UNITS], c.i64(1))
    rows, present = [], []
    for j in range(c.length):
        index = c.b.add(unit, c.i64(j))
        clamped = c.minimum(index, last)
        rows.append(c.pointer(c.b.add(slots[SOURCE], c.b.mul(clamped, slots[SOURCE_ROW]))))
        present.append(c.b.icmp_signed("<=", index, last))
    whole = c.b.mul(c.b.udiv(slots[DEPTH], c.i64(c.length)), c.i64(c.length))
    if form.of_bytes:
        _in_bytes(c, slots, rows, present, whole, target, form)
        return
    with c.loop(c.i64(0), whole, c.length) as k:
        _square(c, slots, rows, present, k, target, None, form)
    with c.loop(whole, _padded(c, slots[DEPTH], form), c.length) as k:
        _square(c, slots, rows, present, k, target, c.b.sub(slots[DEPTH], k), form)


def _square(
    c: Code,
    slots: list[ir.Value],
    rows: list[ir.Value],
    present: list[ir.Value],
    k: ir.Value,
    target: ir.Value,
    columns: ir.Value | None,
    form: Form,
) -> None:
    """One square of the matrix through the registers; ``columns`` limits it at the right edge."""
    turned = transpose(c, _rows(c, rows, present, k, columns))
    for j in range(0, c.length, form.together):
        place, side_by_side = _place(c, slots, target, c.b.add(k, c.i64(j)), form), turned[j : j + form.together]
        if columns is None or form.columns >= c.length:  # a group ends where the square does, or later
            _put(c, side_by_side, place, form)
        else:
            with c.b.if_then(c.b.icmp_signed("<", c.i64(j), columns)):
                _put(c, side_by_side, place, form)


def _rows(
    c: Code, rows: list[ir.Value], present: list[ir.Value], k: ir.Value, columns: ir.Value | None
) -> list[ir.Value]:
    """A vector of columns of each row; zeros past the last row, and past so many columns."""
    mask, offset = None if columns is None else c.lanes_below(columns), c.b.mul(k, c.i64(c.size))
    return [c.b.select(p, c.load(c.at(row, offset), mask), c.zero()) for row, p in zip(rows, present, strict=True)]


def _in_bytes(
    c: Code,
    slots: list[ir.Value],
    rows: list[ir.Value],
    present: list[ir.Value],
    whole: ir.Value,
    target: ir.Value,
    form: Form,
) -> None:
    """A vector of units: what their sums begin with, their scales, their bytes."""
    line, left = slots[COLUMN_STRIDE], c.b.sub(slots[DEPTH], whole)

    def look(columns: ir.Value | None, k: ir.Value, found: list[ir.Value]) -> list[ir.Value]:
        values = _rows(c, rows, present, k, columns)
        return [int8.larger(c, f, int8.magnitude(c, v)) for f, v in zip(found, values, strict=True)]

    _, found = c.accumulate(c.i64(0), whole, c.length, [int8.word(c, 0)] * c.length, partial(look, None))
    factor, worth = int8.scales(c, reduce(partial(int8.larger, c), transpose(c, look(left, whole, found))))
    c.store(worth, c.at(target, line), align=c.length * c.size)

    def square(k: ir.Value, columns: ir.Value | None) -> ir.Value:
        """Writes the bytes of as many columns as a vector has lanes, and gives the sums of each unit's."""
        values = [int8.whole(c, v, factor) for v in transpose(c, _rows(c, rows, present, k, columns))]
        for j in range(0, c.length, int8.COLUMNS):
            group = c.b.add(c.b.udiv(k, c.i64(int8.COLUMNS)), c.i64(form.head + j // int8.COLUMNS))
            place, four = c.at(target, c.b.mul(group, line)), int8.together(c, values[j : j + int8.COLUMNS])
            if columns is None:
                int8.store_words(c, four, place)
            else:
                with c.b.if_then(c.b.icmp_signed("<", c.i64(j), columns)):
                    int8.store_words(c, four, place)
        return reduce(c.b.add, values)

    _, (total,) = c.accumulate(
        c.i64(0), whole, c.length, [int8.word(c, 0)], lambda k, sums: [c.b.add(sums[0], square(k, None))]
    )
    total = c.b.add(total, square(whole, left))
    int8.store_words(c, c.b.mul(total, int8.word(c, -form.offset)), target)


def _put(c: Code, values: list[ir.Value], place: ir.Value, form: Form) -> None:
    """Columns that lie side by side."""
    if form.together == 2:
        bfloat16.put(c, bfloat16.pair(c, *values), place)
        return
    (value,) = values
    if form == HALVES:
        c.store_half(value, place)
    else:
        c.store(value, place, align=c.length * c.size)


def transpose(c: Code, values: list[ir.Value]) -> list[ir.Value]:
    """Swap the bits of row and lane one at a time: log2(rows) stages of two-source shuffles. With fewer rows than lanes
    that is done within each such part of the lanes."""
    d = 1
    while d < len(values):
        following = list(values)
        for i in range(len(values)):
            if i & d:
                continue
            a, b = values[i], values[i | d]
            low = [lane if not lane & d else c.length + (lane ^ d) for lane in range(c.length)]
            high = [lane | d if not lane & d else c.length + lane for lane in range(c.length)]
            for row, lanes in ((i, low), (i | d, high)):
                following[row] = c.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, c.length), lanes))
        values, d = following, 2 * d
    return values
