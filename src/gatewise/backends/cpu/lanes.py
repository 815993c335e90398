"""A thin layer over llvmlite's builder: typed lanes, loops, address arithmetic, masked loads and stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.ir as ir

from gatewise.backends.cpu import vecmath
from gatewise.compiler.expression import ARITHMETIC, COMPARISONS, Node

I1, I16, I32, I64, BYTE, PTR = (
    ir.IntType(1),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.IntType(8),
    ir.PointerType(),
)
_FLOATING = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
SIZES = {"float32": 4, "float64": 8}
_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}


class Code:
    """The function being written, and the number type and vector length it computes with."""

    def __init__(self, builder: ir.IRBuilder, dtype: str, vector_bytes: int) -> None:
        self.b = builder
        self.scalar = _FLOATING[dtype]
        self.size = SIZES[dtype]
        self.length = vector_bytes // self.size
        self.vector = ir.VectorType(self.scalar, self.length)
        self.mask = ir.VectorType(I1, self.length)
        self.module: ir.Module = builder.module

    def i64(self, value: int) -> ir.Constant:
        return ir.Constant(I64, value)

    def number(self, value: float) -> ir.Constant:
        return ir.Constant(self.vector, [value] * self.length)

    def zero(self) -> ir.Constant:
        return ir.Constant(self.vector, None)

    def slot(self, frame: ir.Value, index: int) -> ir.Value:
        """A number of the frame."""
        return self.b.load(self.b.gep(frame, [self.i64(index)], source_etype=I64), typ=I64)

    def entry(self, table: ir.Value, index: ir.Value) -> ir.Value:
        """The address of a number of a table."""
        return self.b.gep(table, [index], source_etype=I64)

    def at(self, address: ir.Value, offset: ir.Value) -> ir.Value:
        """An address (pointer) some bytes on."""
        return self.b.gep(address, [offset], source_etype=BYTE)

    def pointer(self, number: ir.Value) -> ir.Value:
        return self.b.inttoptr(number, PTR)

    def minimum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.b.select(self.b.icmp_signed("<", a, b), a, b)

    def ceil_div(self, a: ir.Value, d: int) -> ir.Value:
        return self.b.udiv(self.b.add(a, self.i64(d - 1)), self.i64(d))

    @contextmanager
    def loop(self, start: ir.Value, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
        """``for i in range(start, stop, step)``; nothing is carried in registers."""
        b = self.b
        before = b.block
        head, body, end = (b.append_basic_block(n) for n in ("head", "body", "end"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", i, stop), body, end)
        b.position_at_end(body)
        yield i
        i.add_incoming(b.add(i, self.i64(step)), b.block)
        b.branch(head)
        b.position_at_end(end)

    def accumulate(
        self,
        start: ir.Value,
        stop: ir.Value,
        step: int,
        values: list[ir.Value],
        body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
    ) -> tuple[ir.Value, list[ir.Value]]:
        """A loop that carries vectors in registers while ``i + step <= stop``; gives the i it ended at."""
        b = self.b
        before = b.block
        head, inner, end = (b.append_basic_block(n) for n in ("sum", "terms", "summed"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(start, before)
        carried = []
        for value in values:
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            carried.append(phi)
        following = b.add(i, self.i64(step))
        b.cbranch(b.icmp_signed("<=", following, stop), inner, end)
        b.position_at_end(inner)
        results = body(i, list(carried))
        i.add_incoming(following, b.block)
        for phi, result in zip(carried, results, strict=True):
            phi.add_incoming(result, b.block)
        b.branch(head)
        b.position_at_end(end)
        return i, list(carried)

    def splat(self, value: ir.Value) -> ir.Value:
        """All lanes one number."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.b.insert_element(undefined, value, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, self.length), None))

    def fmuladd(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        # llvm.fma would call libm where the target has no such instruction.
        return self.b.call(self._intrinsic("llvm.fmuladd", self.vector, [self.vector] * 3), [a, b, c])

    def _intrinsic(self, name: str, result: Any, arguments: list[Any]) -> ir.Function:
        suffix = f"v{self.length}f{8 * self.size}"
        full = f"{name}.{suffix}" + (".p0" if "masked" in name else "")
        known = self.module.globals.get(full)
        return known or ir.Function(self.module, ir.FunctionType(result, arguments), full)

    def call(self, name: str, arguments: list[ir.Value], result: ir.Type | None = None) -> ir.Value:
        """An intrinsic by its full name."""
        kind = ir.FunctionType(result or ir.VoidType(), [a.type for a in arguments])
        return self.b.call(self.module.globals.get(name) or ir.Function(self.module, kind, name), arguments)

    def lanes_below(self, limit: ir.Value) -> ir.Value:
        """The mask of the lanes whose index is below a (signed) limit."""
        lanes = ir.VectorType(I32, self.length)
        undefined = ir.Constant(lanes, ir.Undefined)
        one = self.b.insert_element(undefined, self.b.trunc(limit, I32), ir.Constant(I32, 0))
        limits = self.b.shuffle_vector(one, undefined, ir.Constant(lanes, None))
        return self.b.icmp_signed("<", ir.Constant(lanes, list(range(self.length))), limits)

    def load(self, address: ir.Value, mask: ir.Value | None = None, align: int = 0) -> ir.Value:
        if mask is None:
            return self.b.load(address, align=align or self.size, typ=self.vector)
        function = self._intrinsic("llvm.masked.load", self.vector, [PTR, I32, self.mask, self.vector])
        return self.b.call(function, [address, ir.Constant(I32, self.size), mask, self.zero()])

    def store(self, value: ir.Value, address: ir.Value, mask: ir.Value | None = None, align: int = 0) -> None:
        if mask is None:
            self.b.store(value, address, align=align or self.size)
            return
        function = self._intrinsic("llvm.masked.store", ir.VoidType(), [self.vector, PTR, I32, self.mask])
        self.b.call(function, [value, address, ir.Constant(I32, self.size), mask])

    def load_half(self, address: ir.Value) -> ir.Value:
        """Lanes that lie in memory as bfloat16, the upper halves of float32."""
        bits = self.b.load(address, align=2 * self.length, typ=ir.VectorType(I16, self.length))
        whole = ir.VectorType(I32, self.length)
        shifted = self.b.shl(self.b.zext(bits, whole), ir.Constant(whole, [16] * self.length))
        return self.b.bitcast(shifted, self.vector)

    def store_half(self, value: ir.Value, address: ir.Value) -> None:
        """The upper halves of lanes whose lower ones are zero."""
        whole = ir.VectorType(I32, self.length)
        bits = self.b.lshr(self.b.bitcast(value, whole), ir.Constant(whole, [16] * self.length))
        self.b.store(self.b.trunc(bits, ir.VectorType(I16, self.length)), address, align=2 * self.length)

    def prefetch(self, address: ir.Value) -> None:
        """Ask for a line to be in the second-level cache."""
        self.call("llvm.prefetch.p0", [address, *(ir.Constant(I32, n) for n in (0, 2, 1))])  # read, keep in L2, data

    def load_number(self, address: ir.Value) -> ir.Value:
        """One number in all lanes."""
        return self.splat(self.b.load(address, typ=self.scalar))

    def compute(self, node: Node, args: list[ir.Value]) -> ir.Value:
        """An element-wise node. No contraction and no reordering: the same bits in every tile."""
        b = self.b
        if node.op in ARITHMETIC:
            return getattr(b, _ARITHMETIC[node.op])(*args)
        if node.op in COMPARISONS:
            return b.fcmp_ordered(COMPARISONS[node.op], *args)
        if node.op in vecmath.FUNCTIONS:
            return vecmath.FUNCTIONS[node.op](b, *args)
        if node.op == "neg":
            return b.fneg(args[0])
        if node.op == "where":
            return b.select(*args)
        if node.op == "relu":  # not x > 0: NaN passes
            return b.select(b.fcmp_ordered("<=", args[0], self.zero()), self.zero(), args[0])
        if node.op in ("minimum", "maximum"):
            first = b.select(b.fcmp_ordered("<" if node.op == "minimum" else ">", *args), *args)
            return b.select(b.fcmp_unordered("uno", args[0], args[0]), args[0], first)
        assert node.op == "hard_sigmoid", node.op
        assert isinstance(node.attr, tuple)
        slope, offset = node.attr
        line = b.fadd(b.fmul(self.number(slope), args[0]), self.number(offset))
        low, high = b.fcmp_ordered("<=", line, self.zero()), b.fcmp_ordered(">=", line, self.number(1.0))
        return b.select(low, self.zero(), b.select(high, self.number(1.0), line))
