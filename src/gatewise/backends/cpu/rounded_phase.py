"""A phase whose products are taken in bfloat16: before the tiles each thread writes the operands of its rows in it into
memory of its own. How products are taken of these is its subclasses'.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu import bfloat16
from gatewise.backends.cpu.bfloat16 import LINE
from gatewise.backends.cpu.phase import PhaseWriter
from gatewise.backends.kernels import frame as slots
from gatewise.compiler.schedule import Ref


class RoundedPhaseWriter(PhaseWriter):
    piece = (1, 32)

    def _prepare(self, number: ir.Value, row_low: ir.Value, row_high: ir.Value) -> None:
        """Write all operands of the thread's rows in bfloat16."""
        self.row_low = row_low
        self.left: dict[Ref, ir.Value] = {}
        for j, product in enumerate(self.phase.products):
            if product.operand not in self.left:
                depth = self._product_slot(j, slots.DEPTH)
                place = self._own_place(j, depth, number, row_low)
                self.left[product.operand] = place
                self._round(product.operand, depth, place, row_low, row_high)

    def _own_place(self, j: int, depth: ir.Value, number: ir.Value, row_low: ir.Value) -> ir.Value:
        """Behind the rows of the threads before, with room between; see ``launch``."""
        c, (high, across) = self.c, self.piece
        base, stride = self._product_slot(j, slots.ROUNDED), self._product_slot(j, slots.ROUNDED_STRIDE)
        before = c.b.mul(c.b.udiv(row_low, c.i64(high)), c.b.mul(c.ceil_div(depth, across), c.i64(high * LINE)))
        return c.pointer(c.b.add(base, c.b.add(before, c.b.mul(number, stride))))

    def _round(self, operand: Ref, depth: ir.Value, place: ir.Value, row_low: ir.Value, row_high: ir.Value) -> None:
        c, (high, across) = self.c, self.piece
        whole, pieces = c.b.udiv(depth, c.i64(across)), c.ceil_div(depth, across)
        vector = c.length * c.size
        with c.loop(c.i64(0), c.b.sub(row_high, row_low)) as i:
            source = self._row_address(operand, c.b.add(row_low, i))
            first = c.b.mul(c.b.mul(c.b.udiv(i, c.i64(high)), pieces), c.i64(high * LINE))
            target = c.at(place, c.b.add(first, c.b.mul(c.b.urem(i, c.i64(high)), c.i64(LINE))))
            with c.loop(c.i64(0), whole) as k:
                at = c.at(source, c.b.mul(k, c.i64(2 * vector)))
                value = bfloat16.row(c, c.load(at), c.load(c.at(at, c.i64(vector))))
                bfloat16.put(c, value, c.at(target, c.b.mul(k, c.i64(high * LINE))))
            with c.loop(whole, pieces) as k:
                at, left = c.at(source, c.b.mul(k, c.i64(2 * vector))), c.b.sub(depth, c.b.mul(k, c.i64(across)))
                low = c.load(at, c.lanes_below(left))
                upper = c.load(c.at(at, c.i64(vector)), c.lanes_below(c.b.sub(left, c.i64(c.length))))
                bfloat16.put(c, bfloat16.row(c, low, upper), c.at(target, c.b.mul(k, c.i64(high * LINE))))
