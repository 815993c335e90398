"""The tiers: which of them a processor runs, and what LLVM makes of them."""

from __future__ import annotations

import platform
import re

import pytest

from gatewise.backends.cpu import jit, tiers

V2 = {"cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"}
V3 = V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


def runnable(architecture: str, features: set[str]) -> list[str]:
    return tiers._runnable(architecture, dict.fromkeys(features, True))


def test_each_level_of_features_gives_its_tiers() -> None:
    assert runnable("x86_64", V4) == ["avx512", "avx2", "sse2"]
    assert runnable("AMD64", V3) == ["avx2", "sse2"]
    assert runnable("x86_64", V2) == ["sse2"]
    assert runnable("x86_64", set()) == ["sse2"]
    assert runnable("riscv64", V4) == []


@pytest.mark.parametrize("missing", sorted(V4 - V3))
def test_one_missing_feature_of_level_4_leaves_avx2(missing: str) -> None:
    assert runnable("x86_64", V4 - {missing}) == ["avx2", "sse2"]


@pytest.mark.parametrize("missing", sorted(V3))
def test_one_missing_feature_of_level_3_leaves_sse2(missing: str) -> None:
    assert runnable("x86_64", V4 - {missing}) == ["sse2"]


def test_a_feature_reported_as_absent_counts_as_absent() -> None:
    assert tiers._runnable("x86_64", {name: name != "fma" for name in V4}) == ["sse2"]


@pytest.mark.parametrize(("features", "names"), [({}, ["neon"]), ({"neon": True}, ["neon"]), ({"neon": False}, [])])
@pytest.mark.parametrize("architecture", ["aarch64", "arm64"])
def test_aarch64_runs_neon(architecture: str, features: dict[str, bool], names: list[str]) -> None:
    assert tiers._runnable(architecture, features) == names


def test_registers() -> None:
    sizes = {name: (tiers.get(name).vector_bytes, tiers.get(name).registers) for name in tiers._all()}
    vectors = {"avx512": (64, 32), "avx2": (32, 16), "sse2": (16, 16), "neon": (16, 32)}
    assert sizes == {
        **vectors,
        "avx512+amx": vectors["avx512"],
        "avx512+bf16": vectors["avx512"],
        "avx512+vnni": vectors["avx512"],
        "avx2+vnni": vectors["avx2"],
        "avx2+bytes": vectors["avx2"],
    }


def test_this_host_runs_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWISE_TIER", raising=False)
    assert tiers.default() == tiers.detect() == tiers.get(tiers.available()[0])
    if platform.machine().lower() in ("x86_64", "amd64"):
        assert tiers.available()[-1] == "sse2"


def test_the_environment_names_a_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tiers.available():
        monkeypatch.setenv("GATEWISE_TIER", name)
        assert tiers.default().name == name


def test_an_unknown_tier_raises_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="tier 'avx1024' is unknown; expected one of avx512, avx2, sse2, neon"):
        tiers.get("avx1024")
    monkeypatch.setenv("GATEWISE_TIER", "avx1024")
    with pytest.raises(ValueError, match=r"GATEWISE_TIER is 'avx1024', which this host cannot run; available: \w+"):
        tiers.default()


def test_a_tier_of_another_architecture_raises_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    (foreign,) = {"neon", "sse2"} - set(tiers.available())
    monkeypatch.setenv("GATEWISE_TIER", foreign)
    with pytest.raises(ValueError, match=f"{foreign!r}, which this host cannot run; available:"):
        tiers.default()
    with pytest.raises(ValueError, match=f"tier {foreign!r} cannot run here"):
        jit.load("foreign", lambda: "", tiers.get(foreign), ["run"])


def vector_code(lanes: int) -> str:
    vector = f"<{lanes} x float>"
    return f"""
    declare {vector} @llvm.fmuladd.v{lanes}f32({vector}, {vector}, {vector})
    define void @run(ptr %p) {{
      %v = load {vector}, ptr %p, align 4
      %w = call {vector} @llvm.fmuladd.v{lanes}f32({vector} %v, {vector} %v, {vector} %v)
      store {vector} %w, ptr %p, align 4
      ret void
    }}"""


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("avx512", r"vfmadd\d+ps.*%zmm"),
        ("avx2", r"vfmadd\d+ps.*%ymm"),
        ("sse2", r"mulps.*%xmm"),
        ("neon", r"fmla\s+v\d+\.4s"),
    ],
)
def test_a_full_vector_is_one_register(name: str, operation: str) -> None:
    tier = tiers.get(name)
    text = jit.assemble(vector_code(tier.vector_bytes // 4), tier)
    assert len(re.findall(operation, text)) == 1  # two would be a vector split in halves


def test_memory_moves_at_avx512_use_whole_registers() -> None:
    code = """
    declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
    define void @run(ptr %p, ptr %q) {
      call void @llvm.memcpy.p0.p0.i64(ptr %p, ptr %q, i64 64, i1 false)
      ret void
    }"""
    assert "%zmm" in jit.assemble(code, tiers.get("avx512"))


def test_a_program_with_products_of_bytes_runs_where_others_give_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "available", lambda: ["avx2", "sse2"])
    monkeypatch.setattr(tiers, "in_bytes", lambda name: ("avx2+bytes",) if name == "avx2" else ())
    assert tiers.here("avx512+vnni") == tiers.here("avx2+vnni") == tiers.here("avx2+bytes") == "avx2+bytes"
    monkeypatch.setattr(tiers, "in_bytes", lambda name: ())
    with pytest.raises(RuntimeError, match=r"which need the tier avx512\+vnni, and this host cannot run it"):
        tiers.here("avx512+vnni")
