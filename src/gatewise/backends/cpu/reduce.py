"""Gradients of weights: sums over time and batch of δᵀ·operand, on the same register tiles as everything else."""

from __future__ import annotations

from collections.abc import Sequence

from gatewise.backends.cpu import launch
from gatewise.backends.cpu.launch import Packed, Target, place
from gatewise.backends.cpu.program import Memory, Program
from gatewise.compiler.plan import reduction

RUN = 256
"""Rows summed in registers before they are added to the total: 256 rows of δ stay in the second-level cache."""

Rows = tuple[int, int, int]
"""Some rows of a matrix: address, bytes per row, how many."""


class Reduction:
    """Products of some rows of gradients with several operands: each is packed once.

    Args:
        delta: (rows, slabs, units), of one stride from row to row.
    """

    def __init__(self, program: Program, to: Target, delta: Memory) -> None:
        self.program, self.to = program, to
        self.count, self.slabs, self.units = delta.shape
        # Read in place, δ would touch another page at every row: 98 against 149 GFLOP/s at 650 units.
        vector = to.length * to.size
        self.block = self.count * vector
        # Slabs of whole vectors lie side by side, so that neighbours are one matrix of gradients.
        self.joined = self.units % to.length == 0
        widths = [self.slabs * self.units] if self.joined else [self.units] * self.slabs
        self.left: list[int] = []
        for k, width in enumerate(widths):
            memory = program.take(-(-width // to.length) * self.count * to.length)
            source = delta.base + k * delta.strides[1]
            launch.pack_rows(
                program, to, source, delta.strides[0], self.count, width, memory.base, self.block, apart=k > 0
            )
            self.left.append(memory.base)
        self._right: dict[tuple[object, ...], int] = {}

    def add(self, total: Memory, slab: int, slabs: int, operand: Sequence[Rows]) -> None:
        """total += Σ deltaᵀ·operand.

        Args:
            total: (slabs·units, N), dense rows. slab: the first of them.
            operand: as many rows as δ has, dense ones of N numbers, in pieces.
        """
        if self.joined:
            first = self.left[0] + slab * self.units // self.to.length * self.block
            return self._add(total, first, operand)
        for k in range(slabs):
            self._add(total.some(k * self.units, (k + 1) * self.units), self.left[slab + k], operand)

    def _add(self, total: Memory, left: int, operand: Sequence[Rows]) -> None:
        rows, units = total.shape
        right: Packed | None = None
        for first, steps, depth in launch.portions(self.count, RUN):
            prepared = launch.prepare("reduction", reduction(), self.to, rows, units, {"left": depth}, "copied")
            panel = prepared.panels[0]
            at = self._packed(operand, units, panel.line, panel.vectors)
            # Every step has further rows of δ and of the operand.
            numbers = [depth, at + first * panel.line, self.count * panel.line, depth * panel.line]
            right = Packed(prepared, numbers)
            vector = self.to.length * self.to.size
            places = {
                "left": place(left + first * vector, depth * vector, self.block),
                "total": place(total.base, 0, total.strides[0]),
            }
            launch.run(self.program, right, steps=steps, places=places)

    def _packed(self, operand: Sequence[Rows], units: int, line: int, vectors: int) -> int:
        """Where the operand lies packed, [block][row][vectors]."""
        key = (tuple(operand), units, line)
        if key not in self._right:
            blocks = -(-units // (vectors * self.to.length))
            memory = self.program.take(blocks * self.count * line // self.to.size)
            at = memory.base
            for k, (source, row, count) in enumerate(operand):
                launch.pack_rows(
                    self.program,
                    self.to,
                    source,
                    row,
                    count,
                    units,
                    at,
                    self.count * line,
                    apart=k > 0,
                    line=line,
                    vectors=vectors,
                )
                at += count * line
            self._right[key] = memory.base
        return self._right[key]
