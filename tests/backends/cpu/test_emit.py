"""The code of kernels: every tier assembles, nothing foreign is called, and few kernels serve all sizes."""

import os
import re
import subprocess
import sys

import pytest
import torch
from comparing import Case, evaluate, problem
from kernel_cells import ALL

from gatewise import Cell
from gatewise.backends.cpu import emit, jit, launch, openmp, pack, tiers
from gatewise.backends.cpu.phase import UNROLL, KernelOptions, Tile
from gatewise.backends.cpu.tile import choose
from gatewise.compiler.plan import make_plans
from gatewise.compiler.schedule import Plan

TIERS = ["avx512", "avx2", "sse2", "neon"]
FUSED = {"avx512": "vfmadd", "avx2": "vfmadd", "neon": "fmla"}
SMALL = Tile(2, 1)
REGISTER = {"avx512": "%zmm", "avx2": "%ymm", "sse2": "%xmm"}


def assembly(plan: Plan, tier: str, dtype: str = "float32", tile: Tile = SMALL) -> str:
    chosen = tiers.get(tier)
    options = KernelOptions(dtype, chosen.vector_bytes, (tile,) * len(plan.phases), True)
    return jit.assemble(emit.emit(plan, options), chosen)


def plans(cell: Cell) -> dict[str, Plan]:
    made = make_plans(cell)
    return {"training": made.training, "backward": made.backward, "inside": make_plans(cell, False).forward}


def functions(text: str) -> dict[str, str]:
    """The lines of each function by its name."""
    parts = re.split(r"^(\w+):[^\n]*\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=False))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_every_tier_assembles(name: str, tier: str) -> None:
    for way, plan in plans(ALL[name]).items():
        text = assembly(plan, tier)
        called = set(re.findall(r"^[ \t]+(?:callq?|jmp|bl|b)[ \t]+([A-Za-z_]\w*)", text, re.MULTILINE))
        assert called <= {*openmp.SYMBOLS, "region", "steps", *(n for n in called if n.startswith("phase"))}, way
        for function, body in functions(text).items():
            if function.startswith("phase"):
                assert not re.search(r"^[ \t]+(callq?|bl)[ \t]", body, re.MULTILINE), f"{way}: {function} calls"
        if tier in FUSED:
            assert FUSED[tier] in text, way
        if tier in REGISTER:
            assert REGISTER[tier] in text, way


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_function_of_another_library(dtype: str) -> None:
    """What a cell computes with is written out, whatever the function."""
    for tier in TIERS:
        text = assembly(make_plans(ALL["piecewise"]).training, tier, dtype)
        assert not re.search(r"\b(expf?|logf?|log1pf?|tanhf?|fmaf?|fminf?|fmaxf?)(@|\b)", text)


@pytest.mark.parametrize("rows", [4, 8])
@pytest.mark.parametrize("hoist", [True, False])
@pytest.mark.parametrize("name", ["gru", "gru_reset_after", "lstm"])
def test_sums_stay_in_registers(name: str, hoist: bool, rows: int) -> None:
    """The loop over columns of a tile multiplies and adds and loads: it stores nothing."""
    plan, tier = make_plans(ALL[name], hoist).training, tiers.get("avx512")
    tiles = tuple(choose(phase, tier, 16, rows, 512) for phase in plan.phases)
    text = jit.assemble(emit.emit(plan, KernelOptions("float32", 64, tiles, True)), tier)
    blocks = re.split(r"^\.?L\w+:", text, flags=re.MULTILINE)
    least = min(t.rows * t.vectors for t in tiles[1:]) * UNROLL
    inner = [b for b in blocks if b.count("vfmadd") >= least and not re.search("vmin|vdiv|vrnd|vmul", b)]
    assert len(inner) >= sum(len(phase.products) for phase in plan.phases)
    for block in inner:
        assert not re.search(r"vmov\w+\s+%zmm\d+, \S*\(", block), "a sum is stored"


def test_the_text_is_the_same_in_every_process() -> None:
    """No order of a set or of addresses reaches the code: else the cache would miss, or worse, mix."""
    script = (
        "import hashlib\n"
        "from gatewise import cells\n"
        "from gatewise.backends.cpu.emit import emit\n"
        "from gatewise.backends.cpu.phase import KernelOptions, Tile\n"
        "from gatewise.compiler.plan import make_plans\n"
        "plan = make_plans(cells.lstm_peephole).backward\n"
        "options = KernelOptions('float32', 64, (Tile(4, 2),) * len(plan.phases), True)\n"
        "print(hashlib.sha256(emit(plan, options).encode()).hexdigest())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(found) == 1


def compiled() -> int:
    found = jit.statistics()
    return int(found["compiled"] + found["loaded_from_disk"])


def test_sizes_are_arguments() -> None:
    """Sizes that take the same tiles take the same kernels: 64 to 96 units of three vectors more or less."""
    cell = ALL["light_gru"]
    before, seen = compiled(), set()
    for hidden in range(64, 97):
        evaluate(problem(Case(cell, hidden=hidden, batch=3, inputs=1 + hidden % 7, steps=1 + hidden % 5)), "cpu")
        seen.add(hidden)
    made = compiled() - before
    # Two forwards (one step, several) and their projection, backward, input and weight gradients, with and without a
    # tail, on a few widths of tiles; and the two packers. A kernel for every size would make about two hundred.
    assert made <= 32, f"{made} kernels for {len(seen)} sizes"
    before = compiled()
    for hidden in range(64, 97, 3):
        evaluate(problem(Case(cell, hidden=hidden, batch=3, inputs=9, steps=7, seed=1)), "cpu")
    assert compiled() == before


def test_one_kernel_for_equal_tiles() -> None:
    """65 and 79 units are five vectors of 16, the last one in part."""
    cell = ALL["rnn"]
    evaluate(problem(Case(cell, hidden=65)), "cpu")
    before = compiled()
    evaluate(problem(Case(cell, hidden=79)), "cpu")
    assert compiled() == before


@pytest.mark.parametrize("tier", tiers.available())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("vectors", [1, 3])
def test_packing(tier: str, dtype: torch.dtype, vectors: int) -> None:
    """Panels hold [block of units][column][vectors], zero beyond the last unit, from both orders of a matrix."""
    to = launch.target(tier, dtype)
    kernel = jit.load(
        f"test pack {dtype}", lambda: pack.emit(str(dtype)[6:], to.tier.vector_bytes), to.tier, pack.entries(pack.WHOLE)
    )
    for units in (1, 15, 16, 33, 100):
        for depth in (1, 7, 16, 50):
            matrix = torch.randn(units, depth + 3, dtype=dtype)[:, :depth]
            per_block = vectors * to.length
            blocks = -(-units // per_block)
            padded = torch.zeros(blocks * per_block, depth, dtype=dtype)
            padded[:units] = matrix
            expected = padded.view(blocks, per_block, depth).transpose(1, 2).contiguous()
            line = per_block * to.size
            for name, source in (("transposed", matrix), ("copied", matrix.T.contiguous())):
                memory = torch.full([expected.numel() + 2 * 64 // to.size], 7.25, dtype=dtype)
                offset = -memory.data_ptr() % 64 // to.size
                row = source.stride(0) * to.size
                address = memory.data_ptr() + offset * to.size
                numbers = [0] * pack.SLOTS
                for slot, value in {
                    pack.SOURCE: source.data_ptr(),
                    pack.SOURCE_ROW: row,
                    pack.UNITS: units,
                    pack.DEPTH: depth,
                    pack.PANEL: address,
                    pack.COLUMN_STRIDE: line,
                    pack.BLOCK_STRIDE: depth * line,
                    pack.VECTORS: vectors,
                    pack.THREADS: 1,
                }.items():
                    numbers[slot] = value
                frame = torch.tensor(numbers, dtype=torch.int64)
                kernel.function(name)(frame.data_ptr())
                assert torch.equal(memory[offset : offset + expected.numel()].view(expected.shape), expected)
                assert (memory[:offset] == 7.25).all()
                assert (memory[offset + expected.numel() :] == 7.25).all()
