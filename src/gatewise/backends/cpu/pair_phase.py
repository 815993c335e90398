"""A phase whose products are taken pair by pair: two columns at once, by an instruction that multiplies two numbers in
bfloat16 with two others and adds both products to a sum in float32.

It is ``phase`` with half as many steps. A sum is one chain, pair by pair in ascending order, whatever the tile; an odd
column at the end has a zero beside it, on either side.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu import bfloat16
from gatewise.backends.cpu.bfloat16 import LINE
from gatewise.backends.cpu.rounded_phase import RoundedPhaseWriter
from gatewise.backends.kernels import frame as slots


class PairPhaseWriter(RoundedPhaseWriter):
    def _terms_of(self, j: int) -> ir.Value:
        return self.c.ceil_div(super()._terms_of(j), 2)

    def _operand(self, j: int, row: ir.Value) -> ir.Value:
        c, (_, across) = self.c, self.piece
        stride = c.b.mul(c.ceil_div(self._product_slot(j, slots.DEPTH), across), c.i64(LINE))
        place = self.left[self.phase.products[j].operand]
        return c.at(place, c.b.mul(c.b.sub(row, self.row_low), stride))

    def _term(self, total: ir.Value, number: ir.Value, weight: ir.Value) -> ir.Value:
        return bfloat16.add_products(self.c, total, number, weight)
