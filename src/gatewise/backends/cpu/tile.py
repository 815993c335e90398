"""Which register tile a phase runs on, and how threads share its work."""

from __future__ import annotations

from gatewise.backends.cpu.phase import Tile
from gatewise.backends.cpu.products import KINDS
from gatewise.backends.cpu.tiers import Tier
from gatewise.compiler.schedule import Phase

HEIGHTS = (1, 2, 4, 6, 8)
"""Rows of a tile. Few, since each is a compilation; more than 8 rows need more address registers than there are."""
VECTORS = (1, 2, 3, 4, 6, 8)
"""Vectors of units."""


def choose(phase: Phase, tier: Tier, length: int, rows: int, units: int) -> Tile:
    """The tile for a phase with ``rows`` rows and ``units`` units per thread: of the candidates the one of least cost.

    A fused multiply-add takes 4 cycles and one or two start in each: 4 or 8 independent sums hide it. With one row
    that means many vectors; with many rows, 8 rows of 3 vectors read 11 operands for 24 multiply-adds. Where one
    starts, rows that are not there cost as much as others: for 32 rows of an LSTM 6 tiles of 6 rows take 144 cycles,
    8 of 4 rows 128.
    """
    n = phase.together
    needed = max(1, -(-units // length))
    if n == 0:
        return Tile(1, min(4, _power_at_most(needed)))
    if own := KINDS[tier.products].tile:
        return own(rows, needed)
    found = candidates(phase, tier)
    return min(found, key=lambda tile: _cost(n, tile, rows, needed, tier))


def turned(phase: Phase, tier: Tier, length: int, rows: int, units: int) -> Tile:
    """The tile for a phase that turns its weights in registers: all rows there are, since each pass turns them anew,
    and one vector, since a square fills the registers and takes long enough to hide the sums behind it."""
    if phase.together == 0:
        return choose(phase, tier, length, rows, units)
    return Tile(next((height for height in HEIGHTS if height >= rows), HEIGHTS[-1]), 1)


def candidates(phase: Phase, tier: Tier) -> list[Tile]:
    """The tiles whose sums, with what they read, fit into the registers; at least the smallest."""
    n, found = phase.together, [Tile(1, 1)]
    # Of 32 registers two to spare: with 31 in use (4 rows of 6 vectors) LLVM kept some of the sums on the stack. Of 16
    # none: tiles of a GRU would shrink from 4 rows to 2. Signed bytes need five on their way to a sum.
    signed = tier.products == "signed"
    beside = 3 if tier.registers >= 32 else 5 if signed else 1
    for height in HEIGHTS:
        for vectors in VECTORS:
            sums, line = height * n * vectors, n * vectors
            registers = sums + (line + beside if height > 1 else 5 if signed else 2)
            if registers <= tier.registers and (height, vectors) != (1, 1):
                found.append(Tile(height, vectors))
    return found


def _cost(n: int, tile: Tile, rows: int, needed: int, tier: Tier) -> float:
    """Cycles per column of the whole phase: arithmetic, loads, cache or latency, whichever binds, on every tile."""
    tiles = -(-rows // tile.rows) * -(-needed // tile.vectors)
    sums, line = tile.rows * n * tile.vectors, n * tile.vectors
    loads = tile.rows + line
    latency = 6.0 if tier.products == "pairs" else 4.0  # of pairs on Zen 4
    # A tile reads its panel from the second-level cache, at about 24 bytes a cycle.
    cycles = max(sums / tier.a_cycle, loads / 2, line * tier.vector_bytes / 24, latency)
    return tiles * (cycles + 0.02 * loads)


def _power_at_most(n: int) -> int:
    return 1 << (n.bit_length() - 1)
