"""Products on the matrix unit, against the reference with operands rounded to bfloat16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparing import MATRIX, Case, Disagreement, Fault, compare, evaluate, problem, threads
from kernel_cells import ALL, BUILT_IN

import gatewise as gw
from gatewise import Cell
from gatewise.backends import choose
from gatewise.backends.cpu import jit, launch, tiers
from gatewise.compiler.plan import make_plans

HALF = torch.bfloat16
FEW = [ALL[name] for name in ("gru", "gru_reset_after", "lstm", "driven")]
SIZES: list[dict[str, Any]] = [
    *({"hidden": n} for n in (1, 7, 16, 17, 64, 100)),
    *({"batch": n} for n in (0, 1, 15, 16, 17, 32, 33, 70)),
    *({"inputs": n} for n in (1, 31, 32, 33, 130)),
    *({"steps": n} for n in (0, 1, 9)),
    {"batch": 33, "steps": 17},  # rows for two runs of the sums over them, and a tail
    {"reverse": True},
    {"bias": False},
    {"layout": "sliced", "cotangents": "last"},
]

pytestmark = pytest.mark.usefixtures("poisoned")
needed = pytest.mark.skipif(not MATRIX, reason="this processor has no matrix unit")


@needed
@pytest.mark.parametrize("cell", [*BUILT_IN.values(), *FEW[3:]], ids=lambda c: c.name)
def test_every_cell(cell: Cell) -> None:
    compare(Case(cell, tier=MATRIX[0], batch=17, inputs=40))


@needed
@pytest.mark.parametrize("varied", SIZES, ids=str)
@pytest.mark.parametrize("cell", FEW[1::2], ids=lambda c: c.name)
def test_sizes(cell: Cell, varied: dict[str, Any]) -> None:
    """All cells: ``test_everything``."""
    compare(Case(cell, tier=MATRIX[0], **varied))


@needed
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("cell", FEW, ids=lambda c: c.name)
def test_threads(cell: Cell, count: int) -> None:
    """Units shared out with few rows, rows with many, some of them within a tile."""
    with threads(count):
        for batch in (3, 20, 40):
            compare(Case(cell, tier=MATRIX[0], batch=batch, hidden=100))


@needed
def test_what_is_rounded() -> None:
    """Numbers that bfloat16 holds multiply without any error but that of sums in float32."""
    case = Case(ALL["gru_reset_after"], tier=MATRIX[0], steps=1, batch=20, inputs=40)
    p = problem(case)
    p.tensors |= {k: v.to(HALF).float() for k, v in p.tensors.items() if not k.startswith("bias")}
    found, exact = evaluate(p, "cpu", grad=False), evaluate(p.to(torch.float64), "eager", grad=False)
    torch.testing.assert_close(found["y"].double(), exact["y"], rtol=1e-5, atol=1e-5)


@needed
@pytest.mark.parametrize("change", ["rows", "depth"])
def test_planted_mistakes(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(ALL["gru"], tier=MATRIX[0], batch=17, inputs=33)
    if change == "rows":
        with pytest.raises(Disagreement):
            compare(case, Fault(tensors=swapped))
        return
    real = launch._depth
    monkeypatch.setattr(launch, "_depth", lambda product, widths, units: real(product, widths, units) - 1)
    monkeypatch.setattr(launch, "_prepared", {})
    monkeypatch.setattr("gatewise.backends.kernels.recipe._recipes", {})
    with pytest.raises(Disagreement):
        compare(case)


def swapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    blocks = tensors["weight_hh"].chunk(3)
    return {**tensors, "weight_hh": torch.cat([blocks[1], blocks[0], blocks[2]])}


@needed
def test_torchs_own_use_of_the_unit_is_left_alone() -> None:
    """Its library configures the unit once and takes it for as it left it."""
    layer, x = gw.GRU(40, 48, dtype=HALF), torch.randn(5, 20, 40, dtype=HALF)
    a, b = torch.randn(70, 90, dtype=HALF), torch.randn(90, 110, dtype=HALF)
    expected, known = a @ b, layer(x)[0]
    for _ in range(3):
        assert torch.equal(layer(x)[0], known)
        assert torch.equal(a @ b, expected)


@needed
def test_recomputing_has_the_same_bits() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 20, 9)
    plain = gw.GRU(9, 33)
    again = gw.GRU(9, 33, recompute=True)
    again.load_state_dict(plain.state_dict())
    found = []
    for layer in (plain, again):
        with torch.autocast("cpu", HALF):
            y, _ = layer(x)
        y.float().square().sum().backward()
        found.append([y.detach(), *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2 * float(b.abs().max()))
    assert torch.equal(found[0][0], found[1][0])


def test_who_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device, plain = torch.device("cpu"), tiers.detect().name
    monkeypatch.delenv("GATEWISE_TIER", raising=False)
    wanted = MATRIX[0] if MATRIX else plain
    assert choose(device, torch.float32, HALF).tier == wanted
    assert choose(device, torch.float32).tier == plain
    assert choose(device, torch.float32, torch.float16).tier == plain
    assert choose(device, torch.float64, HALF).tier == plain
    with gw.backend("cpu", tier=plain):
        assert choose(device, torch.float32, HALF).tier == plain
    monkeypatch.setenv("GATEWISE_TIER", plain)
    assert choose(device, torch.float32, HALF).tier == plain


@pytest.mark.parametrize("missing", ["", "avx512bf16", "amx-tile", "amx-bf16", "permission"])
def test_a_host_without_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = {name: name != missing for name in tiers._MATRIX}
    monkeypatch.setattr(tiers, "_host_features", lambda: features)
    monkeypatch.setattr(tiers, "available", lambda: ["avx512", "avx2", "sse2"])
    monkeypatch.setattr(tiers, "_may_use_tiles", lambda: missing != "permission")
    tiers.with_matrix.cache_clear()
    assert tiers.with_matrix("avx512") == ("avx512" if missing else "avx512+amx")
    assert tiers.with_matrix("avx2") == "avx2"
    tiers.with_matrix.cache_clear()


def test_it_assembles_on_any_host() -> None:
    """Four products are in registers between two loads of either side."""
    from gatewise.backends.cpu import emit, phase, tile

    tier = tiers.get("avx512+amx")
    plan = make_plans(ALL["gru_reset_after"], False).forward
    shapes = tuple(tile.choose(p, tier, 16, 64, 256) for p in plan.phases)
    assert {(t.rows, t.vectors) for p, t in zip(plan.phases, shapes, strict=True) if p.starts} == {(32, 2)}
    text = jit.assemble(emit.emit(plan, phase.KernelOptions("float32", 64, shapes, False, matrix=True)), tier)
    loops = [block for block in text.split("\n.L") if block.count("tdpbf16ps") == 4]
    assert loops
    assert all(block.count("tileloadd") == 4 for block in loops if "jl" in block or "jg" in block)
