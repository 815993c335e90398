"""Arithmetic on whole arrays that stands between a cell's plans: copies, sums of two, sums over rows.

Every entry is ``name(frame, thread, threads)`` and does one thread's share.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import I64, PTR, Code

OUT, COUNT, A, B, A_ROW, B_ROW, ROWS = range(7)
"""COUNT numbers of OUT from as many of A and B; for sums over ROWS rows, bytes from row to row of A and of B."""
SLOTS = 7
FLAT = ("clear", "copy", "add")
SUMS = ("product_sums", "scaled_sums")
"""OUT += Σ A[row]·B[row], and Σ A[row]·b where B has one number in a row."""
ENTRIES = (*FLAT, *SUMS)

RUN = 256
"""Rows summed in registers before they are added to the total, as in gradients of weights."""
WIDTH = 8
"""Vectors summed side by side: eight neighbouring cache lines of every row."""


def emit(dtype: str, vector_bytes: int) -> str:
    """The IR of a module with all entries."""
    module = ir.Module("gatewise_arrays")
    for name in ENTRIES:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), name)
        c = Code(ir.IRBuilder(function.append_basic_block("entry")), dtype, vector_bytes)
        (_flat if name in FLAT else _sums)(c, function, name)
        c.b.ret_void()
    return str(module)


def _share(c: Code, total: ir.Value, function: ir.Function) -> tuple[ir.Value, ir.Value]:
    _, number, count = function.args
    low = c.b.udiv(c.b.mul(total, number), count)
    return low, c.b.udiv(c.b.mul(total, c.b.add(number, c.i64(1))), count)


def _flat(c: Code, function: ir.Function, name: str) -> None:
    frame = function.args[0]
    count = c.slot(frame, COUNT)
    out, a, b = (c.pointer(c.slot(frame, k)) for k in (OUT, A, B))
    with c.loop(*_share(c, c.ceil_div(count, c.length), function)) as v:
        first = c.b.mul(v, c.i64(c.length))
        mask, offset = c.lanes_below(c.b.sub(count, first)), c.b.mul(first, c.i64(c.size))
        value = c.zero() if name == "clear" else c.load(c.at(a, offset), mask)
        if name == "add":
            value = c.b.fadd(value, c.load(c.at(b, offset), mask))
        c.store(value, c.at(out, offset), mask)


def _sums(c: Code, function: ir.Function, name: str) -> None:
    frame = function.args[0]
    count, rows, a_row, b_row = (c.slot(frame, k) for k in (COUNT, ROWS, A_ROW, B_ROW))
    out, a, b = (c.pointer(c.slot(frame, k)) for k in (OUT, A, B))
    vectors = c.ceil_div(count, c.length)
    with c.loop(*_share(c, c.ceil_div(vectors, WIDTH), function)) as block:
        places = []
        for v in range(WIDTH):
            # A vector past the end reads the last one and is not stored.
            index = c.b.add(c.b.mul(block, c.i64(WIDTH)), c.i64(v))
            first = c.b.mul(c.minimum(index, c.b.sub(vectors, c.i64(1))), c.i64(c.length))
            mask = c.lanes_below(c.b.sub(count, first))
            places.append((index, c.b.mul(first, c.i64(c.size)), mask))

        def terms(row: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            a_at, b_at = c.at(a, c.b.mul(row, a_row)), c.at(b, c.b.mul(row, b_row))
            number = c.load_number(b_at) if name == "scaled_sums" else None
            for v, (_, offset, mask) in enumerate(places):
                factor = number or c.load(c.at(b_at, offset), mask)
                sums[v] = c.fmuladd(c.load(c.at(a_at, offset), mask), factor, sums[v])
            return sums

        with c.loop(c.i64(0), rows, RUN) as first_row:
            last_row = c.minimum(c.b.add(first_row, c.i64(RUN)), rows)
            _, sums = c.accumulate(first_row, last_row, 1, [c.zero()] * WIDTH, terms)
            for (index, offset, mask), value in zip(places, sums, strict=True):
                with c.b.if_then(c.b.icmp_signed("<", index, vectors)):
                    place = c.at(out, offset)
                    c.store(c.b.fadd(c.load(place, mask), value), place, mask)
