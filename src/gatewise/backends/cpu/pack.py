"""Weights into panels: [block of units][column][accumulator][vectors], so that a tile reads them in one ascending run.

Two kernels per dtype and tier serve every cell: ``transposed`` packs rows = units (the forward's products), ``copied``
packs rows = columns (the backward's). Lanes past the last unit are zero.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import I32, I64, PTR, Code

SOURCE, SOURCE_ROW, UNITS, DEPTH, PANEL, COLUMN_STRIDE, BLOCK_STRIDE, VECTORS, THREADS = range(9)
SLOTS = 9
KINDS = ("transposed", "copied")
ENTRIES = (*KINDS, *(kind + "_share" for kind in KINDS))


def emit(dtype: str, vector_bytes: int, halves: bool = False) -> str:
    """The IR of a module with ``transposed(frame)`` and ``copied(frame)``, and ``…_share(frame, thread, threads)``.

    Args:
        halves: panels hold bfloat16, of float32 that were rounded to it.
    """
    module = ir.Module("gatewise_pack")
    void = ir.VoidType()
    parallel = ir.Function(module, ir.FunctionType(void, [PTR, PTR, I32, I32]), "gatewise_parallel")
    thread_num = ir.Function(module, ir.FunctionType(I32, []), "gatewise_thread_num")
    num_threads = ir.Function(module, ir.FunctionType(I32, []), "gatewise_num_threads")
    for name in KINDS:
        work = ir.Function(module, ir.FunctionType(void, [PTR, I64, I64]), name + "_share")
        region = ir.Function(module, ir.FunctionType(void, [PTR]), name + "_region")
        entry = ir.Function(module, ir.FunctionType(void, [PTR]), name)
        region.linkage = "internal"
        _write_share(Code(ir.IRBuilder(work.append_basic_block("entry")), dtype, vector_bytes), work, name, halves)
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


def _write_share(c: Code, function: ir.Function, name: str, halves: bool) -> None:
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
        lane = c.b.mul(c.b.urem(m, per_block), c.i64(c.length * (2 if halves else c.size)))
        target = c.pointer(c.b.add(slots[PANEL], c.b.add(offset, lane)))
        unit = c.b.mul(m, c.i64(c.length))
        (_transposed if name == "transposed" else _copied)(c, slots, unit, target, halves)
    c.b.ret_void()


def _copied(c: Code, slots: list[ir.Value], unit: ir.Value, target: ir.Value, halves: bool) -> None:
    mask = c.lanes_below(c.b.sub(slots[UNITS], unit))
    source = c.pointer(c.b.add(slots[SOURCE], c.b.mul(unit, c.i64(c.size))))
    with c.loop(c.i64(0), slots[DEPTH]) as k:
        value = c.load(c.at(source, c.b.mul(k, slots[SOURCE_ROW])), mask)
        _put(c, value, c.at(target, c.b.mul(k, slots[COLUMN_STRIDE])), halves)


def _transposed(c: Code, slots: list[ir.Value], unit: ir.Value, target: ir.Value, halves: bool) -> None:
    last = c.b.sub(slots[UNITS], c.i64(1))
    rows, present = [], []
    for j in range(c.length):
        index = c.b.add(unit, c.i64(j))
        clamped = c.minimum(index, last)
        rows.append(c.pointer(c.b.add(slots[SOURCE], c.b.mul(clamped, slots[SOURCE_ROW]))))
        present.append(c.b.icmp_signed("<=", index, last))
    whole = c.b.mul(c.b.udiv(slots[DEPTH], c.i64(c.length)), c.i64(c.length))
    with c.loop(c.i64(0), whole, c.length) as k:
        _square(c, slots, rows, present, k, target, None, halves)
    with c.loop(whole, slots[DEPTH], c.length) as k:
        _square(c, slots, rows, present, k, target, c.b.sub(slots[DEPTH], k), halves)


def _square(
    c: Code,
    slots: list[ir.Value],
    rows: list[ir.Value],
    present: list[ir.Value],
    k: ir.Value,
    target: ir.Value,
    columns: ir.Value | None,
    halves: bool,
) -> None:
    """One square of the matrix through the registers; ``columns`` limits it at the right edge."""
    mask = None if columns is None else c.lanes_below(columns)
    offset = c.b.mul(k, c.i64(c.size))
    values = [c.b.select(p, c.load(c.at(row, offset), mask), c.zero()) for row, p in zip(rows, present, strict=True)]
    for j, value in enumerate(_transpose(c, values)):
        place = c.at(target, c.b.mul(c.b.add(k, c.i64(j)), slots[COLUMN_STRIDE]))
        if columns is None:
            _put(c, value, place, halves)
        else:
            with c.b.if_then(c.b.icmp_signed("<", c.i64(j), columns)):
                _put(c, value, place, halves)


def _put(c: Code, value: ir.Value, place: ir.Value, halves: bool) -> None:
    if halves:
        c.store_half(value, place)
    else:
        c.store(value, place, align=c.length * c.size)


def _transpose(c: Code, values: list[ir.Value]) -> list[ir.Value]:
    """Swap the bits of row and lane one at a time: log2(lanes) stages of two-source shuffles."""
    d = 1
    while d < c.length:
        following = list(values)
        for i in range(c.length):
            if i & d:
                continue
            a, b = values[i], values[i | d]
            low = [lane if not lane & d else c.length + (lane ^ d) for lane in range(c.length)]
            high = [lane | d if not lane & d else c.length + lane for lane in range(c.length)]
            for row, lanes in ((i, low), (i | d, high)):
                following[row] = c.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, c.length), lanes))
        values, d = following, 2 * d
    return values
