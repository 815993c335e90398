"""Products pair by pair, in machine code; their results are in ``test_products``."""

from __future__ import annotations

from kernel_cells import ALL

from gatewise.backends.cpu import emit, jit, phase, tiers, tile
from gatewise.compiler.plan import make_plans


def test_it_assembles_on_any_host() -> None:
    """A pass of the inner loop reads each vector of weights and each number of the operand once, and keeps its sums."""
    tier = tiers.get("avx512+bf16")
    plan = make_plans(ALL["gru_reset_after"], False).forward
    shapes = tuple(tile.choose(p, tier, 16, 64, 256) for p in plan.phases)
    assert {(t.rows, t.vectors) for p, t in zip(plan.phases, shapes, strict=True) if p.starts} == {(8, 1)}
    text = jit.assemble(emit.emit(plan, phase.KernelOptions("float32", 64, shapes, False, products="pairs")), tier)
    terms = 8 * 3
    loops = [block for block in text.split("\n.L") if block.count("vdpbf16ps") == phase.UNROLL * terms]
    assert loops
    for block in loops:
        moves = [line.split()[-1] for line in block.splitlines() if line.startswith("\tvmovaps")]
        assert all(target.startswith("%") for target in moves)  # no sum goes to the stack
