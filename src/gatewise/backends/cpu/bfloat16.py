"""Numbers in bfloat16: rounding, pairs of them in 32 bits, and the instruction that multiplies such pairs.

All roundings are to the nearest, ties to even; the instructions take denormal numbers for zero.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import I16, I32, Code

LINE = 64
"""Bytes that are written at once: 32 numbers, or 16 pairs."""


class _Half(ir.Type):  # type: ignore[misc]  # llvmlite has no types of its own
    """bfloat16, which llvmlite has no type of."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Half)

    def __hash__(self) -> int:
        return hash(_Half)


_HALF = _Half()


def _name(instruction: str, c: Code) -> str:
    """Of the intrinsic for vectors of this length."""
    return f"llvm.x86.avx512bf16.{instruction}.{32 * c.length}"


def halves(c: Code, value: ir.Value) -> ir.Value:
    """A vector of numbers rounded to bfloat16, as 16-bit integers."""
    rounded = c.call(_name("cvtneps2bf16", c), [value], ir.VectorType(_HALF, c.length))
    return c.b.bitcast(rounded, ir.VectorType(I16, c.length))


def row(c: Code, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two vectors of columns, one behind the other."""
    rounded = c.call(_name("cvtne2ps2bf16", c), [high, low], ir.VectorType(_HALF, 2 * c.length))
    return c.b.bitcast(rounded, ir.VectorType(I32, c.length))


def pair(c: Code, even: ir.Value, odd: ir.Value) -> ir.Value:
    """The numbers of a vector of units in two columns, side by side."""
    whole = ir.VectorType(I32, c.length)
    low, high = (c.b.zext(halves(c, v), whole) for v in (even, odd))
    return c.b.or_(low, c.b.shl(high, ir.Constant(whole, [16] * c.length)))


def add_products(c: Code, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """Of the pairs in 32 bits on either side both products, added to the totals; the vectors may be of any type.

    Each of the two sums is rounded, that of the odd number first; Zen 4 does as Intel documents.
    """
    pairs = ir.VectorType(_HALF, 2 * c.length)
    sides = [c.b.bitcast(v, pairs) for v in (left, right)]
    return c.call(_name("dpbf16ps", c), [total, *sides], c.vector)


def put(c: Code, value: ir.Value, address: ir.Value) -> None:
    """Write a row or a pair."""
    c.b.store(value, address, align=4 * c.length)
