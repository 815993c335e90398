"""Accuracy, special values and code of the vector functions."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import platform
import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from gatewise.backends.cpu import vecmath

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
TIERS = {  # name: triple, cpu, features of the host without which it cannot run, lanes of float
    "avx512": (X86, "x86-64-v4", ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"), 16),
    "avx2": (X86, "x86-64-v3", ("avx2", "fma", "bmi2"), 8),
    "sse2": (X86, "x86-64", (), 4),
    "neon": (ARM, "generic", (), 4),
}
NAMES = tuple(vecmath.FUNCTIONS)
TYPES = {np.float32: ir.FloatType(), np.float64: ir.DoubleType()}
# In units in the last place. Softplus inherits exp's error, doubled where log1p crosses a power of two downwards.
LIMIT = dict.fromkeys(NAMES, 2.0) | {"softplus": 3.0}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
Emit = Callable[[ir.IRBuilder, ir.Value], ir.Value]
Run = Callable[[np.ndarray], np.ndarray]

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()


def loop(emit: Emit, element: ir.Type, lanes: int) -> str:
    """IR of f(in, out, n): out[i] = emit(in[i]) for n > 0 vectors (lanes = 0: scalars)."""
    value = ir.VectorType(element, lanes) if lanes else element
    pointer, index = ir.PointerType(), ir.IntType(64)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, pointer, index]), "f")
    entry, body, end = (function.append_basic_block(name) for name in ("entry", "body", "end"))
    ir.IRBuilder(entry).branch(body)
    builder = ir.IRBuilder(body)
    i = builder.phi(index)
    first = builder.mul(i, index(max(lanes, 1)))
    source, target = (builder.gep(p, [first], source_etype=element) for p in function.args[:2])
    align = 4 if isinstance(element, ir.FloatType) else 8
    result = emit(builder, builder.load(source, typ=value, align=align))
    builder.store(result, target, align=align)
    following = builder.add(i, index(1))
    i.add_incoming(index(0), entry)
    i.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, function.args[2]), body, end)
    ir.IRBuilder(end).ret_void()
    return str(module)


def optimised(text: str, tier: str) -> tuple[Any, Any]:
    triple, cpu, _, _ = TIERS[tier]
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    module = llvm.parse_assembly(text)
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return module, machine


def runs_here(tier: str) -> bool:
    triple, _, needs, _ = TIERS[tier]
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    features = llvm.get_host_cpu_features()
    return triple.startswith(machine) and all(features.get(need, False) for need in needs)


def compiled(emit: Emit, dtype: type, tier: str, lanes: int | None = None) -> Run:
    if not runs_here(tier):
        pytest.skip(f"this host does not run {tier}")
    lanes = TIERS[tier][3] * 4 // np.dtype(dtype).itemsize if lanes is None else lanes
    module, machine = optimised(loop(emit, TYPES[dtype], lanes), tier)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    function = signature(engine.get_function_address("f"))

    def run(x: np.ndarray, keep: Any = engine) -> np.ndarray:
        width = max(lanes, 1)
        padded = np.zeros(-(-x.size // width) * width, dtype)
        padded[: x.size] = x
        out = np.empty_like(padded)
        function(padded.ctypes.data, out.ctypes.data, padded.size // width)
        return out[: x.size]

    return run


def tier_of_host() -> str:
    return next(tier for tier in TIERS if runs_here(tier))


def reference(name: str, x: np.ndarray) -> np.ndarray:
    """In the wider type: float64 for float32, long double for float64."""
    with np.errstate(all="ignore"):
        x = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
        if name == "sigmoid":
            e = np.exp(-np.abs(x))
            return np.where(x >= 0, 1 / (1 + e), e / (1 + e))
        if name == "softplus":
            return np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20))))
        return getattr(np, name)(x)


def ulps(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|y - exact| in units in the last place of the rounded exact value; infinite where only one is finite."""
    limits = np.finfo(y.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(y.dtype)
        unit = np.spacing(np.clip(np.abs(rounded), limits.tiny, limits.max))
        error = np.abs(y.astype(exact.dtype) - exact) / unit
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    finite = np.isfinite(y) & np.isfinite(rounded)
    return np.where(finite, error, np.where(same, 0.0, np.inf))


@functools.cache
def arguments(dtype: type) -> np.ndarray:
    """float32: every 2000th or so bit pattern; float64: 20000 numbers where something happens; both: the edges."""
    edges = [0.0, 1.0, 20.0, np.nextafter(dtype(20), dtype(30)), np.inf, np.nan, 88.72, 88.73, 103.9, 104.0, 708.4]
    edges += [709.78, 709.79, 745.1, 745.2, 9.01, 19.06, np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal]
    edges += [*(np.log(2) / 4 * np.arange(1, 130, 2)), np.finfo(dtype).max]
    with np.errstate(all="ignore"):
        edge = np.array(edges).astype(dtype)
    edge = np.concatenate([edge, -edge, np.nextafter(edge, dtype(0)), -np.nextafter(edge, dtype(0))])
    if dtype is np.float32:
        bits = np.arange(0, 2**32, 2003, dtype=np.uint64).astype(np.uint32)
        dense = [np.random.default_rng(1).uniform(-20, 20, 400_000).astype(np.float32)]
        return np.concatenate([bits.view(np.float32), edge, *dense])
    rng = np.random.default_rng(1)
    parts = [rng.uniform(-a, a, 4000) for a in (0.5, 3.0, 40.0, 750.0)]
    parts.append(10 ** rng.uniform(-300, 3, 2000) * rng.choice([-1, 1], 2000))
    parts.append(1 + 10 ** rng.uniform(-16, -0.5, 1000) * rng.choice([-1, 1], 1000))
    parts.append(rng.integers(0, 2**64, 1000, dtype=np.uint64).view(np.float64))
    return np.concatenate([*parts, edge])


def worst(run: Run, name: str, dtype: type) -> tuple[float, float]:
    """The largest error and where it is."""
    x = arguments(dtype)
    error = ulps(run(x), reference(name, x))
    at = int(np.argmax(error))
    return float(error[at]), float(x[at])


@DTYPES
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", TIERS)
def test_error_stays_within_the_limit(tier: str, name: str, dtype: type) -> None:
    if dtype is np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("no long double to compare with")
    # Without fma the reduced argument and each step of a polynomial round twice.
    limit = LIMIT[name] + (0.5 if tier == "sse2" else 0.0)
    error, at = worst(compiled(vecmath.FUNCTIONS[name], dtype, tier), name, dtype)
    assert error <= limit, f"{name}({at!r}) is {error:.3f} ulp off"


@pytest.mark.parametrize("name", NAMES)
def test_double_agrees_with_mpmath(name: str) -> None:
    mpmath = pytest.importorskip("mpmath")
    exact = {
        "exp": mpmath.exp,
        "log": mpmath.log,
        "tanh": mpmath.tanh,
        "sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
        "softplus": lambda v: v if v > 20 else mpmath.log1p(mpmath.exp(v)),
    }[name]
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(-a, a, 100) for a in (0.01, 1.0, 10.0, 700.0)])
    x = np.abs(x) if name == "log" else x
    y = compiled(vecmath.FUNCTIONS[name], np.float64, tier_of_host())(x)
    with mpmath.workprec(200):
        for a, b in zip(x, y, strict=True):
            r = exact(mpmath.mpf(float(a)))
            assert abs(mpmath.mpf(float(b)) - r) <= LIMIT[name] * float(np.spacing(abs(float(r)))), (a, b)


PARTS = [("exp", "exp_wide"), ("exp", "ln2"), ("sigmoid", "exp_minus"), ("sigmoid", "ln2"), ("tanh", "expm1")]
PARTS += [("tanh", "half_ln2"), ("softplus", "exp_wide"), ("softplus", "atanh_ninth"), ("log", "atanh_small")]


@pytest.mark.parametrize(("name", "field"), PARTS)
@DTYPES
def test_a_wrong_coefficient_is_noticed(monkeypatch: pytest.MonkeyPatch, dtype: type, name: str, field: str) -> None:
    which = "_FLOAT" if dtype is np.float32 else "_DOUBLE"
    right = getattr(vecmath, which)
    first, *others = getattr(right, field)
    wrong = dataclasses.replace(right, **{field: (first * 1.0001, *others)})
    monkeypatch.setattr(vecmath, which, wrong)
    error, _ = worst(compiled(vecmath.FUNCTIONS[name], dtype, tier_of_host()), name, dtype)
    assert error > LIMIT[name] + 0.5


INF, NAN = float("inf"), float("nan")
SPECIAL = {  # name: arguments, values
    "exp": ([0.0, -0.0, INF, -INF, NAN, 1e30, -1e30], [1.0, 1.0, INF, 0.0, NAN, INF, 0.0]),
    "sigmoid": ([0.0, -0.0, INF, -INF, NAN, 1e30, -1e30], [0.5, 0.5, 1.0, 0.0, NAN, 1.0, 0.0]),
    "tanh": ([0.0, -0.0, INF, -INF, NAN, 1e30, -1e30], [0.0, -0.0, 1.0, -1.0, NAN, 1.0, -1.0]),
    "log": ([0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, -1e-40], [-INF, -INF, INF, NAN, NAN, 0.0, NAN, NAN]),
    "softplus": ([INF, -INF, NAN, 1e30, -1e30, 21.0], [INF, 0.0, NAN, 1e30, 0.0, 21.0]),
}


@DTYPES
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", TIERS)
def test_special_values(tier: str, name: str, dtype: type) -> None:
    x, expected = (np.array(values, dtype) for values in SPECIAL[name])
    y = compiled(vecmath.FUNCTIONS[name], dtype, tier)(x)
    np.testing.assert_array_equal(y, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y[number]), np.signbit(expected[number]))


@DTYPES
def test_underflow_is_gradual(dtype: type) -> None:
    tiny = float(np.log(np.finfo(dtype).tiny))
    x = np.linspace(tiny - 15, tiny + 1, 1000).astype(dtype)
    for name in ("exp", "sigmoid", "softplus"):
        y = compiled(vecmath.FUNCTIONS[name], dtype, tier_of_host())(x)
        assert (y > 0).all()
        assert (np.diff(y) >= 0).all()


@DTYPES
def test_tanh_is_odd_bounded_and_passes_subnormals(dtype: type) -> None:
    tanh = compiled(vecmath.tanh, dtype, tier_of_host())
    x = np.abs(arguments(dtype))
    x = x[~np.isnan(x)]
    y = tanh(x)
    assert y.max() == 1
    np.testing.assert_array_equal(tanh(-x), -y)
    small = np.finfo(dtype).tiny * np.linspace(0, 4, 1001, dtype=dtype)
    np.testing.assert_array_equal(tanh(small), small)


@DTYPES
@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_width_or_on_the_tier_with_fma(name: str, dtype: type) -> None:
    x = arguments(dtype)[:: 7 if dtype is np.float32 else 1]
    bits = [
        compiled(vecmath.FUNCTIONS[name], dtype, tier, lanes)(x).tobytes()
        for tier, widths in (("avx2", (0, 1, 3, 4, 8, 16)), ("avx512", (0, 2, 8, 16, 32)))
        for lanes in widths
    ]
    assert len(set(bits)) == 1


def foreign(assembly: str) -> list[str]:
    """Instructions that call, or address something outside the code."""
    return re.findall(r"^\s+(?:callq?|blr?|calll)\s.*|.*(?:@PLT|@GOT|:got:|gather).*", assembly, re.MULTILINE)


def assembly_of(emit: Emit, dtype: type, tier: str, lanes: int) -> str:
    module, machine = optimised(loop(emit, TYPES[dtype], lanes), tier)
    return str(machine.emit_assembly(module))


@DTYPES
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", NAMES)
def test_code_calls_nothing_and_does_not_branch(name: str, tier: str, dtype: type) -> None:
    for lanes in (0, TIERS[tier][3] * 4 // np.dtype(dtype).itemsize):
        assert not foreign(assembly_of(vecmath.FUNCTIONS[name], dtype, tier, lanes))
        text = loop(vecmath.FUNCTIONS[name], TYPES[dtype], lanes)
        assert text.count("br i1") == 1, "the loop's own"
        assert set(re.findall(r"call .*? @\"?([\w.]+)", text)) == {next(iter(re.findall(r"llvm.fmuladd[\w.]+", text)))}


@pytest.mark.parametrize("tier", TIERS)
def test_a_call_would_be_noticed(tier: str) -> None:
    def libm(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
        signature = ir.FunctionType(x.type, [x.type])
        return builder.call(ir.Function(builder.module, signature, "llvm.exp.v4f32"), [x])

    assert foreign(assembly_of(libm, np.float32, tier, 4))


def test_integers_are_refused() -> None:
    builder = ir.IRBuilder()
    with pytest.raises(TypeError, match="float"):
        vecmath.exp(builder, ir.Constant(ir.VectorType(ir.IntType(32), 4), [1] * 4))
