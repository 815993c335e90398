"""Short calls read the weights as they lie: the same bits as packed ones, and no code that packs."""

from dataclasses import replace

import pytest
import torch
from comparing import IN_BFLOAT16, Case, evaluate, problem, same_bits, threads
from kernel_cells import ALL

from gatewise import Cell
from gatewise.backends.cpu import emit, jit, launch, tiers, tile
from gatewise.backends.cpu.phase import KernelOptions
from gatewise.backends.cpu.products import KINDS as PRODUCTS
from gatewise.backends.kernels import recipe
from gatewise.compiler.plan import make_plans

pytestmark = pytest.mark.usefixtures("poisoned")

CELLS = [ALL[name] for name in ("gru", "gru_reset_after", "lstm", "driven", "gru_d", "rnn")]
KINDS = [(torch.float64, None), *[(torch.float32, tier) for tier in tiers.available()]]
ROUNDED = [tier for tier in IN_BFLOAT16 if PRODUCTS[tiers.get(tier).products].straight]
EACH = [(CELLS[0], *kind) for kind in KINDS]
EACH += [(cell, torch.float32, tier) for tier in (None, *ROUNDED) for cell in CELLS[tier is None :]]
SIZES = [(1, 33, 17, 1), (3, 64, 5, 1), (10, 7, 32, 2), (2, 31, 13, 1)]
"""Rows, units, inputs, steps: each side a whole number of squares, and not; of their edges both halves."""


def fresh(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(launch, "STRAIGHT", most)
    monkeypatch.setattr(launch, "_prepared", {})
    monkeypatch.setattr(recipe, "_recipes", {})


@pytest.mark.parametrize(
    ("cell", "dtype", "tier"), EACH, ids=lambda v: v.name if isinstance(v, Cell) else str(v).removeprefix("torch.")
)
def test_the_same_bits_as_packed(
    cell: Cell, dtype: torch.dtype, tier: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and gradients; weights end at a page's end in the fuzzing of memory."""
    cases = [
        Case(cell, dtype, tier, batch=rows, hidden=units, inputs=inputs, steps=steps)
        for rows, units, inputs, steps in SIZES
    ]
    cases.append(replace(cases[0], bias=False, reverse=True))
    found = []
    for most in (launch.STRAIGHT, 0):
        fresh(monkeypatch, most)
        found.append([evaluate(problem(case), "cpu") for case in cases])
        assert {prepared.straight for prepared in launch._prepared.values()} == {most > 0}
    for own, other in zip(*found, strict=True):
        same_bits(own, other)


def test_threads_share_out_units(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh(monkeypatch, launch.STRAIGHT)
    p = problem(Case(ALL["gru"], batch=2, hidden=200, steps=1))
    with threads(1):
        one = evaluate(p, "cpu")
    with threads(3):
        same_bits(one, evaluate(p, "cpu"))
    assert any(prepared.header[2] == 3 and prepared.straight for prepared in launch._prepared.values())


def test_long_and_large_calls_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh(monkeypatch, launch.STRAIGHT)
    for rows, steps, straight in ((1, 5, False), (33, 1, False), (32, 1, True), (8, 4, True)):
        launch._prepared.clear()
        with threads(1):
            evaluate(problem(Case(ALL["rnn"], batch=rows, steps=steps)), "cpu", grad=False)
        recurrent = [p for key, p in launch._prepared.items() if "project" not in str(key[0])]
        assert [p.straight for p in recurrent] == [straight], (rows, steps)


@pytest.mark.parametrize("tier", ["avx512", "avx512+bf16", "avx2", "sse2", "neon"])
def test_every_tier_assembles(tier: str) -> None:
    chosen, plans = tiers.get(tier), make_plans(ALL["gru"], False)
    length = chosen.vector_bytes // 4
    for plan, entry, choose in ((plans.training, "transposed", tile.turned), (plans.backward, "copied", tile.choose)):
        shapes = tuple(choose(phase, chosen, length, 2, 65) for phase in plan.phases)
        how = {"products": chosen.products, "straight": entry}
        options = KernelOptions("float32", chosen.vector_bytes, shapes, True, **how)
        assert "phase1" in jit.assemble(emit.emit(plan, options), chosen)
