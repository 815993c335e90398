"""Which register tile a phase runs on, and how threads share its work."""

from __future__ import annotations

from gatewise.backends.cpu.emit import Tile
from gatewise.backends.cpu.tiers import Tier
from gatewise.compiler.schedule import Phase

HEIGHTS = (1, 2, 4, 6, 8)
"""Rows of a tile. Few, since each is a compilation; more than 8 rows need more address registers than there are."""


def choose(phase: Phase, tier: Tier, length: int, rows: int, units: int) -> Tile:
    """The tile for a phase with ``rows`` rows and ``units`` units per thread.

    A fused multiply-add takes 4 cycles and two start in each: at least 8 independent sums hide it. With one row that
    means many vectors; with many rows, 8 rows of 3 vectors read 11 operands for 24 multiply-adds.
    """
    n = len(phase.starts)
    needed = max(1, -(-units // length))
    if n == 0:
        return Tile(1, min(4, _power_at_most(needed)))
    best, best_cost = Tile(1, 1), float("inf")
    for height in HEIGHTS:
        for vectors in (1, 2, 3, 4, 6, 8):
            sums, line = height * n * vectors, n * vectors
            registers = sums + (line + 1 if height > 1 else 2)
            if registers > tier.registers and (height, vectors) != (1, 1):
                continue
            cost = _cost(n, height, vectors, rows, needed, tier.vector_bytes)
            if cost < best_cost:
                best, best_cost = Tile(height, vectors), cost
    return best


def _cost(n: int, height: int, vectors: int, rows: int, needed: int, vector_bytes: int) -> float:
    """Cycles per column of the whole phase: arithmetic, loads, cache or latency, whichever binds, on every tile."""
    tiles = -(-rows // height) * -(-needed // vectors)
    sums, loads, line_bytes = height * n * vectors, height + n * vectors, n * vectors * vector_bytes
    # A tile reads its panel from the second-level cache, at about 24 bytes a cycle.
    cycles = max(sums / 2, loads / 2, line_bytes / 24, 4.0)
    return tiles * (cycles + 0.02 * loads)


def _power_at_most(n: int) -> int:
    return 1 << (n.bit_length() - 1)
