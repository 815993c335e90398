"""Products in bfloat16, on each tier that takes them so, against the reference with operands rounded to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparing import IN_BFLOAT16, Case, Disagreement, Fault, compare, evaluate, problem, taking, threads
from kernel_cells import ALL, BUILT_IN

import gatewise as gw
from gatewise import Cell
from gatewise.backends import choose
from gatewise.backends.cpu import launch, tiers

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
needed = pytest.mark.skipif(not IN_BFLOAT16, reason="this processor does not multiply bfloat16")


@pytest.fixture(params=IN_BFLOAT16 or [""])
def tier(request: pytest.FixtureRequest) -> str:
    """Each tier of this host whose products are in bfloat16."""
    return str(request.param)


@needed
@pytest.mark.parametrize("cell", [*BUILT_IN.values(), *FEW[3:]], ids=lambda c: c.name)
def test_every_cell(cell: Cell, tier: str) -> None:
    compare(Case(cell, tier=tier, batch=17, inputs=40))


@needed
@pytest.mark.parametrize("varied", SIZES, ids=str)
@pytest.mark.parametrize("cell", FEW[1::2], ids=lambda c: c.name)
def test_sizes(cell: Cell, varied: dict[str, Any], tier: str) -> None:
    """All cells: ``test_everything``."""
    compare(Case(cell, tier=tier, **varied))


@needed
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("cell", FEW, ids=lambda c: c.name)
def test_threads(cell: Cell, count: int, tier: str) -> None:
    """Units shared out with few rows, rows with many, some of them within a tile."""
    with threads(count):
        for batch in (3, 20, 40):
            compare(Case(cell, tier=tier, batch=batch, hidden=100))


@needed
def test_what_is_rounded(tier: str) -> None:
    """Numbers that bfloat16 holds multiply without any error but that of sums in float32."""
    case = Case(ALL["gru_reset_after"], tier=tier, steps=1, batch=20, inputs=40)
    p = problem(case)
    p.tensors |= {k: v.to(HALF).float() for k, v in p.tensors.items() if not k.startswith("bias")}
    found, exact = evaluate(p, "cpu", grad=False), evaluate(p.to(torch.float64), "eager", grad=False)
    torch.testing.assert_close(found["y"].double(), exact["y"], rtol=1e-5, atol=1e-5)


@needed
@pytest.mark.parametrize("change", ["rows", "depth"])
def test_planted_mistakes(change: str, tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(ALL["gru"], tier=tier, batch=17, inputs=33)
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
def test_recomputing_has_the_same_bits(tier: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 20, 9)
    plain = gw.GRU(9, 33)
    again = gw.GRU(9, 33, recompute=True)
    again.load_state_dict(plain.state_dict())
    found = []
    for layer in (plain, again):
        with taking(tier), torch.autocast("cpu", HALF):
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
    wanted = IN_BFLOAT16[0] if IN_BFLOAT16 else plain
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
    features = {name: name != missing for name in ("avx512bf16", "amx-tile", "amx-bf16")}
    monkeypatch.setattr(tiers, "_host_features", lambda: features)
    monkeypatch.setattr(tiers, "available", lambda: ["avx512", "avx2", "sse2"])
    monkeypatch.setattr(tiers, "_may_use_tiles", lambda: missing != "permission")
    tiers.in_bfloat16.cache_clear()
    expected = {"": ("avx512+amx", "avx512+bf16"), "avx512bf16": ()}.get(missing, ("avx512+bf16",))
    assert tiers.in_bfloat16("avx512") == expected
    assert tiers.in_bfloat16("avx2") == ()
    assert tiers.here("avx512+amx") == (*expected, "avx512")[0]
    assert [tiers.runs(name) for name in ("avx512", "avx512+bf16")] == [True, bool(expected)]
    tiers.in_bfloat16.cache_clear()
