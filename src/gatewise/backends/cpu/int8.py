"""Products of bytes on the vector unit: four columns of a vector's units at once, sums in 32 bits.

Weights are signed bytes, a vector of them [units][4 columns]. One instruction (VNNI) takes an operand's bytes unsigned,
128 more than they mean; a sum therefore begins at −128 times the sum of its unit's bytes. AVX2 has none, but one that
multiplies unsigned bytes with signed ones and adds pairs in 16 bits, which hold two products of at most 127 · 127: it
takes the operand's magnitudes, and the weights with its signs. Sums of whole numbers are exact in any order, so that
both give the same. ``quantization.grid`` says how numbers become bytes; this does the same to the bit.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import BYTE, I1, I16, I32, Code
from gatewise.quantization.grid import LARGEST, SMALLEST

COLUMNS = 4
"""Columns in one number of 32 bits."""
LINE = 64
"""Columns of an operand's row are a multiple of it; bytes of its scale, in all lanes of a vector, before them."""
OFFSET = 128
"""Of unsigned bytes."""
NEAREST = 4
"""As the current rounding mode says: to the nearest, halves to even."""


def _words(c: Code) -> ir.VectorType:
    return ir.VectorType(I32, c.length)


def _call(c: Code, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = c.module.globals.get(name) or ir.Function(c.module, kind, name)
    return c.b.call(function, arguments)


def word(c: Code, value: int) -> ir.Constant:
    """One whole number in all lanes."""
    return ir.Constant(_words(c), [value] * c.length)


def magnitude(c: Code, value: ir.Value) -> ir.Value:
    """The bits of |value|: as whole numbers they are in the order of the numbers, with infinity and then NaN last."""
    return c.b.and_(c.b.bitcast(value, _words(c)), word(c, 0x7FFFFFFF))


def larger(c: Code, a: ir.Value, b: ir.Value) -> ir.Value:
    return c.b.select(c.b.icmp_signed(">", a, b), a, b)


def largest(c: Code, value: ir.Value) -> ir.Value:
    """The largest of a vector's whole numbers, in all lanes."""
    one = _call(c, f"llvm.vector.reduce.smax.v{c.length}i32", I32, [value])
    return splat(c, one)


def splat(c: Code, value: ir.Value) -> ir.Value:
    undefined = ir.Constant(_words(c), ir.Undefined)
    one = c.b.insert_element(undefined, value, ir.Constant(I32, 0))
    return c.b.shuffle_vector(one, undefined, word(c, 0))


def scales(c: Code, bits: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Of rows whose largest magnitudes have these bits: what makes bytes of their numbers, and what a byte is worth."""
    number = c.b.bitcast(bits, c.vector)
    nothing = c.b.fcmp_ordered("<", number, c.number(SMALLEST))
    finite = c.b.icmp_signed("<", bits, word(c, 0x7F800000))
    lasts = c.number(float(LARGEST))
    factor = c.b.select(nothing, c.zero(), c.b.select(finite, c.b.fdiv(lasts, number), c.zero()))
    no_number = ir.Constant(c.vector, [float("nan")] * c.length)
    worth = c.b.select(nothing, c.zero(), c.b.select(finite, c.b.fdiv(number, lasts), no_number))
    return factor, worth


def whole(c: Code, value: ir.Value, factor: ir.Value) -> ir.Value:
    """value · factor, rounded to whole numbers."""
    product = c.b.fmul(value, factor)
    if c.length == 8:
        return _call(c, "llvm.x86.avx.cvt.ps2dq.256", _words(c), [product])
    name = "llvm.x86.avx512.mask.cvtps2dq.512"
    every, mode = ir.Constant(I16, 0xFFFF), ir.Constant(I32, NEAREST)
    return _call(c, name, _words(c), [product, word(c, 0), every, mode])


def put_bytes(c: Code, value: ir.Value, address: ir.Value, offset: int) -> None:
    """The bytes of an operand's columns, so many more than they mean."""
    narrow = c.b.trunc(c.b.add(value, word(c, offset)), ir.VectorType(BYTE, c.length))
    c.b.store(narrow, address, align=c.length)


def together(c: Code, columns: list[ir.Value]) -> ir.Value:
    """Four columns of units as a vector of weights."""
    parts = [c.b.shl(c.b.and_(column, word(c, 0xFF)), word(c, 8 * k)) for k, column in enumerate(columns)]
    return c.b.or_(c.b.or_(parts[0], parts[1]), c.b.or_(parts[2], parts[3]))


def multiply(c: Code, total: ir.Value, operand: ir.Value, weights: ir.Value) -> ir.Value:
    """``total + Σ operand · weights`` over four columns, the operand's bytes unsigned."""
    return _call(c, f"llvm.x86.avx512.vpdpbusd.{32 * c.length}", _words(c), [total, operand, weights])


def multiply_signed(c: Code, total: ir.Value, operand: ir.Value, weights: ir.Value) -> ir.Value:
    """The same with signed bytes on either side, none of them −128, of 32 bytes."""
    single, double = ir.VectorType(BYTE, 4 * c.length), ir.VectorType(I16, 2 * c.length)
    number, weight = c.b.bitcast(operand, single), c.b.bitcast(weights, single)
    size = _call(c, f"llvm.abs.v{4 * c.length}i8", single, [number, ir.Constant(I1, 0)])
    signed = _call(c, "llvm.x86.avx2.psign.b", single, [weight, number])
    pairs = _call(c, "llvm.x86.avx2.pmadd.ub.sw", double, [size, signed])
    ones = ir.Constant(double, [1] * (2 * c.length))
    return c.b.add(total, _call(c, "llvm.x86.avx2.pmadd.wd", _words(c), [pairs, ones]))


def load_words(c: Code, address: ir.Value) -> ir.Value:
    return c.b.load(address, align=4 * c.length, typ=_words(c))


def store_words(c: Code, value: ir.Value, address: ir.Value) -> None:
    c.b.store(value, address, align=4 * c.length)


def load_columns(c: Code, address: ir.Value) -> ir.Value:
    """Four columns of an operand's row, in all lanes."""
    return splat(c, c.b.load(address, align=COLUMNS, typ=I32))


def numbers(c: Code, value: ir.Value) -> ir.Value:
    """Whole numbers as float32."""
    return c.b.sitofp(value, c.vector)
