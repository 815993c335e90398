"""Products pair by pair, in machine code; their results are in ``test_products``."""

from __future__ import annotations

import pytest
import torch
from comparing import IN_BFLOAT16
from kernel_cells import ALL

from gatewise.backends.cpu import emit, jit, launch, pack, phase, tiers, tile
from gatewise.compiler.plan import make_plans

TIER = "avx512+bf16"


def test_it_assembles_on_any_host() -> None:
    """A pass of the inner loop reads each vector of weights and each number of the operand once, and keeps its sums."""
    tier = tiers.get(TIER)
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


@pytest.mark.skipif(TIER not in IN_BFLOAT16, reason="this processor does not multiply pairs of bfloat16")
@pytest.mark.parametrize("vectors", [1, 3])
def test_packing(vectors: int) -> None:
    """Panels hold [block of units][pair of columns][units][2], zero beyond the last unit and column; nothing else is
    written."""
    to, form = launch.target(TIER, torch.float32), pack.PAIRS
    kernel = jit.load("test pack pairs", lambda: pack.emit("float32", 64, form), to.tier, pack.entries(form))
    per_block = vectors * to.length
    for units in (1, 16, 33):
        for depth in (1, 7, 16, 50):
            weight = torch.randn(units, depth + 3)[:, :depth]
            blocks, pairs = -(-units // per_block), form.lines(depth)
            padded = torch.zeros(blocks * per_block, 2 * pairs, dtype=torch.bfloat16)
            padded[:units, :depth] = weight.bfloat16()
            expected = padded.view(blocks, per_block, pairs, 2).transpose(1, 2).contiguous()
            line = vectors * form.lane(4, to.length)
            for name, source in (("transposed", weight), ("copied", weight.T.contiguous())):
                memory = torch.full([expected.numel() + 64], 7.25, dtype=torch.bfloat16)
                offset = -memory.data_ptr() % 64 // 2
                address, row = memory.data_ptr() + 2 * offset, source.stride(0) * 4
                numbers = [source.data_ptr(), row, units, depth, address, line, pairs * line, vectors, 1]
                frame = torch.tensor(numbers)
                kernel.function(name)(frame.data_ptr())
                assert torch.equal(memory[offset : offset + expected.numel()].view(expected.shape), expected)
                assert bool((memory[:offset] == 7.25).all())
                assert bool((memory[offset + expected.numel() :] == 7.25).all())
