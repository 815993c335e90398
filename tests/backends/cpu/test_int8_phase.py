"""Products of bytes, in machine code; their results are in ``tests/nn/test_quantise.py``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kernel_cells import ALL

import gatewise as gw
from gatewise.backends import cpu
from gatewise.backends.cpu import emit, jit, launch, pack, phase, tiers, tile
from gatewise.backends.kernels import recipe
from gatewise.compiler.plan import make_plans


@pytest.mark.parametrize(
    ("name", "rows", "instruction", "unroll"),
    [("avx512+vnni", 8, "vpdpbusd", 4), ("avx2+vnni", 4, "{vex}\tvpdpbusd", 4), ("avx2+bytes", 2, "vpmaddubsw", 2)],
)
def test_it_assembles_on_any_host(name: str, rows: int, instruction: str, unroll: int) -> None:
    """A pass of the inner loop reads each vector of weights and four columns of each row once, and keeps its sums."""
    tier = tiers.get(name)
    plan = make_plans(ALL["gru_reset_after"], False).forward
    shapes = tuple(tile.choose(p, tier, tier.vector_bytes // 4, 64, 256) for p in plan.phases)
    assert {(t.rows, t.vectors) for p, t in zip(plan.phases, shapes, strict=True) if p.starts} == {(rows, 1)}
    options = phase.KernelOptions("float32", tier.vector_bytes, shapes, False, products=tier.products)
    text = jit.assemble(emit.emit(plan, options), tier)
    terms = rows * 3
    loops = [block for block in text.split("\n.L") if block.count(instruction) == unroll * terms]
    assert loops
    for block in loops:
        moves = [line.split()[-1] for line in block.splitlines() if line.startswith("\tvmov")]
        assert all(target.startswith("%") for target in moves)  # no sum goes to the stack


def test_weights_are_packed_one_way() -> None:
    """For a forward alone."""
    for form, name in ((pack.BYTES, "avx512+vnni"), (pack.BYTES, "avx2+vnni"), (pack.SIGNED, "avx2+bytes")):
        assert pack.entries(form) == ("transposed", "transposed_share")
        text = jit.assemble(pack.emit("float32", tiers.get(name).vector_bytes, form), tiers.get(name))
        assert "vcvtps2dq" in text
        assert "copied" not in text


@pytest.mark.skipif(not tiers.in_bytes("avx512"), reason="this processor has no AVX-512 VNNI")
def test_vectors_of_32_bytes_by_the_instruction_of_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of processors with AVX-VNNI, in the encoding that AVX-512 has for it."""
    own = tiers.get("avx2+vnni")
    here = replace(own, cpu="x86-64-v4", features="-prefer-256-bit,+avx512vnni")
    known = {**tiers._all(), own.name: here}
    monkeypatch.setattr(tiers, "_all", lambda: known)
    monkeypatch.setattr(tiers, "runs", lambda name: True)
    monkeypatch.setattr(cpu, "_found_bytes_tier", lambda named: own.name)
    for module, name in ((launch, "_prepared"), (recipe, "_recipes")):
        monkeypatch.setattr(module, name, {})
    launch.target.cache_clear()
    torch.manual_seed(0)
    layer, x = gw.quantize(gw.LSTM(37, 45)), torch.randn(9, 5, 37)
    assert layer.backend.startswith("cpu/avx2+vnni: ")
    found = layer(x)[0]
    monkeypatch.undo()
    launch.target.cache_clear()
    assert torch.equal(found, layer(x)[0])
