"""Products of bytes, in machine code; their results are in ``tests/nn/test_quantise.py``."""

from __future__ import annotations

from kernel_cells import ALL

from gatewise.backends.cpu import emit, jit, pack, phase, tiers, tile
from gatewise.compiler.plan import make_plans


def test_it_assembles_on_any_host() -> None:
    """A pass of the inner loop reads each vector of weights and four columns of each row once, and keeps its sums."""
    tier = tiers.get("avx512+vnni")
    plan = make_plans(ALL["gru_reset_after"], False).forward
    shapes = tuple(tile.choose(p, tier, 16, 64, 256) for p in plan.phases)
    assert {(t.rows, t.vectors) for p, t in zip(plan.phases, shapes, strict=True) if p.starts} == {(8, 1)}
    text = jit.assemble(emit.emit(plan, phase.KernelOptions("float32", 64, shapes, False, products="bytes")), tier)
    terms = 8 * 3
    loops = [block for block in text.split("\n.L") if block.count("vpdpbusd") == phase.UNROLL * terms]
    assert loops
    for block in loops:
        moves = [line.split()[-1] for line in block.splitlines() if line.startswith("\tvmov")]
        assert all(target.startswith("%") for target in moves)  # no sum goes to the stack


def test_weights_are_packed_one_way() -> None:
    """For a forward alone."""
    assert pack.entries(pack.BYTES) == ("transposed", "transposed_share")
    text = jit.assemble(pack.emit("float32", 64, pack.BYTES), tiers.get("avx512+vnni"))
    assert "vcvtps2dq" in text
    assert "copied" not in text
