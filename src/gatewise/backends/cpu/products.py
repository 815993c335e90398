"""The ways to take products, by the names that a tier has in ``Tier.products``: all that depends on one is in its line.

A new one is a writer of phases, a form of packed weights, loops for sums over time, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from gatewise.backends.cpu import matrix, matrix_phase, pack
from gatewise.backends.cpu.int8_phase import BytesPhaseWriter, SignedBytesPhaseWriter
from gatewise.backends.cpu.lanes import Code
from gatewise.backends.cpu.matrix_phase import MatrixPhaseWriter
from gatewise.backends.cpu.matrix_sums import MatrixSums
from gatewise.backends.cpu.pack import Form
from gatewise.backends.cpu.pair_phase import PairPhaseWriter
from gatewise.backends.cpu.pair_sums import PairSums
from gatewise.backends.cpu.phase import PhaseWriter, Tile
from gatewise.backends.cpu.straight import StraightPairWriter, StraightPhaseWriter
from gatewise.backends.cpu.sums import Loops
from gatewise.backends.cpu.tiers import Tier
from gatewise.backends.cpu.vector_sums import VectorSums


@dataclass(frozen=True)
class Products:
    """A way to take products."""

    writer: type[PhaseWriter]
    """Of phases; it says how the operands of a thread's rows are rounded, and where."""
    form: Form
    """In which weights lie packed."""
    sums: Callable[[Tier, str], Loops]
    """Over time and batch, for a tier and a dtype."""
    straight: type[PhaseWriter] | None = None
    """Of phases of short calls, whose weights are read as they lie; none: they are packed for these too."""
    tile: Callable[[int, int], Tile] | None = None
    """For so many rows and vectors of units per thread; without, the one of least cost in vector registers."""
    around: Callable[[Code], AbstractContextManager[None]] = lambda c: nullcontext()
    """What stands around all steps of a kernel."""


KINDS = {
    "": Products(PhaseWriter, pack.WHOLE, VectorSums, StraightPhaseWriter),
    "pairs": Products(PairPhaseWriter, pack.PAIRS, PairSums, StraightPairWriter),
    "bytes": Products(BytesPhaseWriter, pack.BYTES, VectorSums),
    "signed": Products(SignedBytesPhaseWriter, pack.SIGNED, VectorSums),
    "tiles": Products(MatrixPhaseWriter, pack.TILES, MatrixSums, None, matrix_phase.tile, matrix.configured),
}
"""``pairs``: in bfloat16, two columns an instruction. ``bytes``: of int8, four columns an instruction; for inference.
``signed``: the same numbers where there is no such instruction.
``tiles``: in bfloat16, on the matrix unit."""
