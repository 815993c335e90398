"""The matrix unit."""

from __future__ import annotations

import pytest
import torch
from comparing import IN_BFLOAT16
from kernel_cells import ALL

import gatewise as gw
from gatewise.backends.cpu import emit, jit, phase, tiers, tile
from gatewise.compiler.plan import make_plans

TIER = "avx512+amx"


@pytest.mark.skipif(TIER not in IN_BFLOAT16, reason="this processor has no matrix unit")
def test_torchs_own_use_of_the_unit_is_left_alone() -> None:
    """Its library configures the unit once and takes it for as it left it."""
    layer, x = gw.GRU(40, 48, dtype=torch.bfloat16), torch.randn(5, 20, 40, dtype=torch.bfloat16)
    a, b = torch.randn(70, 90, dtype=torch.bfloat16), torch.randn(90, 110, dtype=torch.bfloat16)
    expected, known = a @ b, layer(x)[0]
    for _ in range(3):
        assert torch.equal(layer(x)[0], known)
        assert torch.equal(a @ b, expected)


def test_it_assembles_on_any_host() -> None:
    """Four products are in registers between two loads of either side."""
    tier = tiers.get(TIER)
    plan = make_plans(ALL["gru_reset_after"], False).forward
    shapes = tuple(tile.choose(p, tier, 16, 64, 256) for p in plan.phases)
    assert {(t.rows, t.vectors) for p, t in zip(plan.phases, shapes, strict=True) if p.starts} == {(32, 2)}
    text = jit.assemble(emit.emit(plan, phase.KernelOptions("float32", 64, shapes, False, products="tiles")), tier)
    loops = [block for block in text.split("\n.L") if block.count("tdpbf16ps") == 4]
    assert loops
    assert all(block.count("tileloadd") == 4 for block in loops if "jl" in block or "jg" in block)
