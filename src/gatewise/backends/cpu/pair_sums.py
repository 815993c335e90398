"""Sums over time and batch pair by pair: two rows at once, δ and what it multiplies in bfloat16, sums in float32.

It is ``vector_sums`` with half as many terms. Where the rows are odd in number, the last has zeros beside it.
"""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu import bfloat16
from gatewise.backends.cpu.lanes import Code
from gatewise.backends.cpu.vector_sums import VectorSums


class PairSums(VectorSums):
    group = 2

    def _there(self, c: Code, term: ir.Value, depth: ir.Value) -> ir.Value | None:
        return c.b.icmp_signed("<", self._row(c, term, 1), depth)

    def _joined(self, c: Code, addresses: list[ir.Value], mask: ir.Value | None, there: ir.Value | None) -> ir.Value:
        even, odd = addresses
        lanes = mask
        if there is not None:
            lanes = c.b.select(there, mask or ir.Constant(c.mask, [1] * c.length), ir.Constant(c.mask, None))
        return c.b.bitcast(bfloat16.pair(c, c.load(even, mask), c.load(odd, lanes)), c.vector)

    def _term(self, c: Code, total: ir.Value, number: ir.Value, vector: ir.Value) -> ir.Value:
        return bfloat16.add_products(c, total, number, vector)
