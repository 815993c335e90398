"""The one argument of a kernel: a row of 64-bit numbers, and which slot holds what.

Sizes, strides (in bytes) and addresses all travel in it, so that a kernel serves every size and layout.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatewise.compiler.schedule import Plan

STEPS, ROWS, UNITS, THREADS, BY_UNITS = range(5)
"""Steps, rows (the batch), units (the width of results), threads, and whether these share out the units or the rows."""
HEADER = 5

BASE, STRIDE, ROW, MASK, SHIFT, SPECIAL, SPECIAL_BASE, SPECIAL_ROW = range(8)
"""Of an array: address of its value at step 0, bytes from step to step and row to row; the step is first taken
``& mask``. A carry read before step ``special`` is at ``special_base``, else at the value of step + ``shift``."""
ARRAY_SLOTS = 8

DEPTH, PANEL, BLOCK_STRIDE, ROUNDED, ROUNDED_STRIDE = range(5)
"""Of a product: columns of its operand, address of its packed weights, bytes from one block of units to the next. For
products in bfloat16, where each thread puts the operand: address, and bytes from one thread to the next."""
PRODUCT_SLOTS = 5

WEIGHTS = PRODUCT_SLOTS
"""Of a product whose weights are not packed, behind these: address and bytes from row to row of each weight."""


@dataclass(frozen=True)
class Frame:
    """Where a plan's arrays and products stand in the frame."""

    arrays: dict[str, int]
    products: dict[tuple[int, int], int]
    size: int

    @staticmethod
    def of(plan: Plan, straight: bool = False) -> Frame:
        """``straight``: whether weights are read as they lie."""
        arrays = {a.name: HEADER + ARRAY_SLOTS * i for i, a in enumerate(plan.arrays)}
        size = HEADER + ARRAY_SLOTS * len(arrays)
        products = {}
        for p, phase in enumerate(plan.phases):
            for j, product in enumerate(phase.products):
                products[p, j] = size
                size += PRODUCT_SLOTS + (2 * len(product.weights) if straight else 0)
        return Frame(arrays, products, size)
