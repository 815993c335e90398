"""The operators and layers on the kernels for the GPU, by the emulation; and what is said where they cannot run."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from comparing import Case, Problem, evaluate, prepared, problem, through_prologue
from compiling import needs_cpp
from cuda_layers import near
from emulated import Emulator, small
from kernel_cells import ALL
from torch import Tensor

import gatewise as gw
from gatewise import backends
from gatewise.backends import cuda, cudnn
from gatewise.backends.cuda import calls
from gatewise.backends.cuda.layout import Exchange, Number
from gatewise.ops.operators import CallOptions, Keep

SIZES = {"hidden": 20, "batch": 3, "steps": 4, "inputs": 3}


def machine() -> Emulator:
    return Emulator(small(Exchange.CLUSTER))


def flat(p: Problem, keep: Keep) -> tuple[Any, list[Tensor], Any]:
    """What the operator is told, its tensors, and what ``prepared`` gave."""
    given = prepared(p)
    _, operands, terms = given
    states = list(p.of("state.").values())
    parameters = {n: v for n, v in p.parameters().items() if not n.startswith("vector_")}
    counts = (len(operands), len(terms), len(states))
    options = CallOptions(CallOptions.written("cuda/tf32", p.case.reverse, keep, counts, list(parameters)))
    tensors = [*(o.detach() for o in operands.values()), *(t.detach() for t in terms.values()), *states]
    return lambda: (p.case.cell, options), [*tensors, *parameters.values()], given


def called(p: Problem, keep: Keep, wanted: Sequence[bool] | None = None) -> dict[str, Tensor | None]:
    """Results and gradients by name, as ``comparing.evaluate``."""
    meaning, tensors, given = flat(p, keep)
    _, operands, terms = given
    cell, device = p.case.cell, machine()
    y, *finals, saved = calls.forward(device, Number.DOUBLE, meaning, tensors)
    found: dict[str, Tensor | None] = {"y": y, **{f"final.{s}": f for s, f in zip(cell.states, finals, strict=True)}}
    arriving = [p.cotangents.get(s) for s in cell.states]
    dy = p.cotangents.get("y")
    needed = wanted or [True] * len(tensors)
    d = calls.backward(device, Number.DOUBLE, meaning, tensors, y, saved, dy, arriving, needed)
    n, m = len(operands), len(terms)
    named = dict(zip(terms, d[n : n + m], strict=True))
    if all(needed):
        found |= through_prologue(p, given, d[:n], named)
    found |= {f"d.state.{s}": g for s, g in zip(cell.states, d[n + m :], strict=False)}
    names = [name for name in p.parameters() if not name.startswith("vector_")]
    return found | {f"d.{name}": g for name, g in zip(names, d[n + m + len(cell.states) :], strict=True)}


def agree(found: dict[str, Tensor | None], truth: dict[str, Tensor]) -> None:
    for name, value in truth.items():
        got = found[name]
        assert got is not None
        assert got.dtype == value.dtype
        torch.testing.assert_close(got, value, rtol=1e-10, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")


@needs_cpp
@pytest.mark.parametrize("keep", [Keep.GATES, Keep.STATES], ids=["gates", "recompute"])
def test_operators_give_what_eager_gives(keep: Keep) -> None:
    p = problem(Case(ALL["driven"], torch.float64, **SIZES))
    agree(called(p, keep), evaluate(p, "eager"))


@needs_cpp
def test_gradients_that_nobody_wants_are_none() -> None:
    p = problem(Case(ALL["gru"], torch.float64, **SIZES))
    wanted = [False, False, True, False, False]
    found, truth = called(p, Keep.GATES, wanted), evaluate(p, "eager")
    assert [name for name, value in found.items() if value is None] == ["d.state.h", "d.weight_hh", "d.bias_ih"]
    torch.testing.assert_close(found["d.weight_ih"], truth["d.weight_ih"], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("sizes", [{"steps": 0}, {"batch": 0}], ids=str)
def test_nothing_to_compute_needs_no_kernel(sizes: dict[str, int]) -> None:
    p = problem(Case(ALL["lstm"], torch.float64, **{**SIZES, **sizes}))
    found, truth = called(p, Keep.GATES), evaluate(p, "eager")
    agree(found, {name: value for name, value in truth.items() if name in found})


@needs_cpp
def test_autocast_rounds_nothing_within_a_call() -> None:
    p = problem(Case(ALL["gru"], torch.float32, **SIZES))
    meaning, tensors, _ = flat(p, Keep.GATES)
    plain = calls.forward(machine(), Number.TF32, meaning, tensors)
    with torch.autocast("cpu", torch.bfloat16):
        under = calls.forward(machine(), Number.TF32, meaning, tensors)
    assert all(torch.equal(a, b) for a, b in zip(plain, under, strict=True))


@needs_cpp
def test_values_of_gates() -> None:
    p = problem(Case(ALL["gru"], torch.float64, **SIZES))
    meaning, tensors, _ = flat(p, Keep.NOTHING)
    gates = torch.full((3, 4, 3, 20), torch.nan, dtype=torch.float64)
    y, _ = calls.trace(machine(), Number.DOUBLE, meaning, tensors, gates)
    truth = torch.empty_like(gates)
    with gw.backend("eager"):
        gw.ops.trace(p.case.cell, p.tensors["x"], {}, list(p.of("state.").values()), p.parameters(), truth)
    torch.testing.assert_close(gates, truth, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(y, evaluate(p, "eager", grad=False)["y"], rtol=1e-10, atol=1e-11)


def test_tensors_that_do_not_fit_get_a_sentence() -> None:
    p = problem(Case(ALL["gru"], torch.float64, **SIZES))
    meaning, tensors, _ = flat(p, Keep.NOTHING)
    short = [*tensors[:1], tensors[1][:-1], *tensors[2:]]
    with pytest.raises(RuntimeError, match=r"operand 0 of cell gru must have shape \(4, 2, 3\), got \(4, 3, 3\)"):
        calls.forward(machine(), Number.DOUBLE, meaning, short)
    other = [*tensors[:-1], tensors[-1].float()]
    with pytest.raises(RuntimeError, match=r"must have the dtype of the other tensors, torch\.float64"):
        calls.forward(machine(), Number.DOUBLE, meaning, other)


# --- layers, on the emulation in place of a card ---


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cuda backend takes tensors in main memory, and its machine is the emulation."""
    device = machine()
    monkeypatch.setattr(cuda, "_gpu", lambda _: device)
    monkeypatch.setattr(cuda, "_problem", lambda: "")
    offer = cuda.Cuda.offer
    monkeypatch.setattr(cuda.Cuda, "offer", lambda self, _, *rest: offer(self, "cuda", *rest))


@needs_cpp
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-3), (torch.bfloat16, 2e-2)], ids=str)
def test_a_layer_in_both_directions(emulated: None, dtype: torch.dtype, limit: float) -> None:
    torch.manual_seed(0)
    layer = gw.GRU(5, 24, num_layers=2, bidirectional=True, dtype=dtype)
    near(layer, torch.randn(6, 3, 5).to(dtype), limit)


@needs_cpp
@pytest.mark.parametrize("kind", [gw.LSTM, gw.RNN, gw.GRU])
def test_gradients_that_are_added_up_share_no_memory(kind: type[gw.Recurrent], emulated: None) -> None:
    """Both biases come from one sum over time, in whole pieces of memory at this size."""
    torch.manual_seed(0)
    layer, x = kind(3, 32), torch.randn(4, 2, 3)
    with gw.backend("cuda"):
        layer(x)[0].sum().backward()
        once = [p.grad.clone() for p in layer.parameters()]
        layer(x)[0].sum().backward()
    assert all(torch.equal(p.grad, 2 * first) for p, first in zip(layer.parameters(), once, strict=True))
    assert len({p.grad.untyped_storage().data_ptr() for p in layer.parameters()}) == len(once)


@needs_cpp
@pytest.mark.slow
def test_lengths_and_resets(emulated: None) -> None:
    torch.manual_seed(0)
    layer = gw.LSTM(5, 24)
    given = {"lengths": torch.tensor([6, 2, 4]), "reset": torch.rand(6, 3) < 0.3}
    near(layer, torch.randn(6, 3, 5), 2e-3, **given)


# --- the registry ---


def test_the_cuda_backend_runs_where_it_is_asked_for_by_name() -> None:
    device = torch.device("cuda")
    choice = backends.choose(device, torch.float32)
    assert choice.name == "eager"
    assert "GPU" in choice.reason or "by name" in choice.reason


@pytest.mark.parametrize(
    ("device", "dtype", "sentence"),
    [
        ("cpu", torch.float32, "computes on a GPU, but the tensors are on cpu"),
        ("cuda", torch.float64, "computes in float32, float16 and bfloat16, but the tensors are float64"),
    ],
)
def test_what_it_cannot_run_raises(device: str, dtype: torch.dtype, sentence: str) -> None:
    with gw.backend("cuda"), pytest.raises(RuntimeError, match=sentence):
        backends.choose(torch.device(device), dtype)


def test_what_products_are_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_problem", lambda: "")
    with gw.backend("cuda"):
        found = [str(backends.choose(torch.device("cuda"), d)) for d in (torch.float32, torch.float16)]
        found.append(str(backends.choose(torch.device("cuda"), torch.float32, torch.bfloat16)))
    assert found == ["cuda/tf32", "cuda/fp16", "cuda/bf16"]
    monkeypatch.setattr(torch.backends.cudnn.rnn, "fp32_precision", "ieee")
    with gw.backend("cuda"), pytest.raises(RuntimeError, match="asks for full float32"):
        backends.choose(torch.device("cuda"), torch.float32)


def test_full_float32_goes_on_to_the_next_way_which_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a card whose kernels are proved."""
    monkeypatch.setattr(cuda, "_problem", lambda: "")
    monkeypatch.setattr(cudnn, "enabled", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn.rnn, "fp32_precision", "ieee")
    for cell, name in ((ALL["lstm"], "cudnn"), (ALL["gru"], "eager")):
        choice = backends.choose(torch.device("cuda"), torch.float32, None, cell, 64)
        assert choice.name == name
        assert "takes products of float32 in TF32, but torch asks for full float32" in choice.reason


OLD_SETTING = """
import torch
from gatewise.backends import cuda
before = cuda._tf32_allowed()
torch.backends.cudnn.allow_tf32 = False
print(before, cuda._tf32_allowed())
"""


def test_the_older_setting_forbids_tf32_too() -> None:
    """In a process of its own: torch keeps both settings apart and has no way back to what it began with."""
    process = subprocess.run([sys.executable, "-c", OLD_SETTING], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["True", "False"]


def test_tiers_have_their_names() -> None:
    with pytest.raises(ValueError, match="tier of the cuda backend must be one of bf16, fp16, tf32, got 'avx2'"):
        gw.backend("cuda", tier="avx2").__enter__()
    assert sorted(calls.NUMBERS) == sorted(cuda.TIERS.values())


def test_info_says_so() -> None:
    assert "cuda" in backends.report()["backends"]
