"""Products on the processor's matrix unit (Intel's AMX): operands in bfloat16, sums in float32.

A tile register is 16 rows of 64 bytes: 16 × 16 sums; or, of the left side, 16 rows by 32 columns; or, of the right
side, 16 units by 32 columns, in pairs of columns. One instruction multiplies two of them in 16 cycles, in which the
vector unit does a sixteenth as many multiply-adds. Sums are chains, 32 columns a link, whichever tile they stand in.

The kernels say which registers they mean, so that nothing is left to LLVM's allocation; it never uses these itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import llvmlite.ir as ir

from gatewise.backends.cpu.bfloat16 import LINE
from gatewise.backends.cpu.lanes import BYTE, Code

ROWS = 16
DEPTH = 32
"""Columns of an operand in a tile."""
TILE = ROWS * LINE
REGISTERS = 8
SUMS = 4
"""Registers, the first, that hold sums: with two tiles of each side they are all."""


def _register(number: int) -> ir.Constant:
    return ir.Constant(BYTE, number)


@contextmanager
def configured(c: Code) -> Iterator[None]:
    """All tile registers of full size within; what was configured before, by whomever, is so again afterwards.

    oneDNN, which torch multiplies with, remembers what it configured and does not look again.
    """
    kind = ir.ArrayType(BYTE, LINE)
    wanted = bytearray(LINE)
    wanted[0] = 1  # palette
    for k in range(REGISTERS):
        wanted[16 + 2 * k], wanted[48 + k] = LINE, ROWS
    constant = c.module.globals.get("tiles")
    if constant is None:
        constant = ir.GlobalVariable(c.module, kind, "tiles")
        constant.initializer, constant.global_constant, constant.linkage = ir.Constant(kind, wanted), True, "internal"
        constant.align = LINE
    before = c.b.alloca(kind)
    before.align = LINE
    c.call("llvm.x86.sttilecfg", [before])
    c.call("llvm.x86.ldtilecfg", [constant])
    yield
    c.call("llvm.x86.ldtilecfg", [before])


def load(c: Code, register: int, address: ir.Value, stride: ir.Value) -> None:
    c.call("llvm.x86.tileloadd64", [_register(register), address, stride])


def store(c: Code, register: int, address: ir.Value, stride: ir.Value) -> None:
    c.call("llvm.x86.tilestored64", [_register(register), address, stride])


def clear(c: Code, register: int) -> None:
    c.call("llvm.x86.tilezero", [_register(register)])


def multiply(c: Code, total: int, left: int, right: int) -> None:
    """``total += left · right``."""
    c.call("llvm.x86.tdpbf16ps", [_register(total), _register(left), _register(right)])


def block(
    c: Code,
    depth: ir.Value,
    left: list[ir.Value],
    right: list[ir.Value],
    left_step: ir.Value,
    right_step: ir.Value,
    sums: Callable[[int, int], int],
) -> None:
    """Add the products of tiles of one side with those of the other to the registers ``sums(i, j)``.

    Args:
        depth: tiles in the depth. left, right: addresses of the first; one or two on the left. left_step, right_step:
            bytes from each tile to the next in the depth.
    """
    spare = list(range(SUMS + len(left), REGISTERS))
    line = c.i64(LINE)
    with c.loop(c.i64(0), depth) as k:
        for i, address in enumerate(left):
            load(c, SUMS + i, c.at(address, c.b.mul(k, left_step)), line)
        for j, address in enumerate(right):
            register = spare[j % len(spare)]
            load(c, register, c.at(address, c.b.mul(k, right_step)), line)
            for i in range(len(left)):
                multiply(c, sums(i, j), SUMS + i, register)


def padded(c: Code, depth: ir.Value) -> ir.Value:
    """A depth in whole tiles."""
    return c.b.mul(c.ceil_div(depth, DEPTH), c.i64(DEPTH))
