"""No native call reads or writes beside the tensors that it was given; see ``fuzzing`` for random attacks."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gatewise as gw
from gatewise import ops
from gatewise.backends import choose, signature
from gatewise.compiler.plan import make_plans
from gatewise.ops.operators import CallOptions, Keep

SUPPORT = Path(__file__).parents[1] / "support"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, which finds the code that is tested here and the tests' helpers."""
    path = os.pathsep.join([str(Path(gw.__file__).parents[1]), str(SUPPORT)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def test_random_calls_between_forbidden_pages() -> None:
    result = run(str(SUPPORT / "fuzzing.py"), "--seconds", "0", "--seed", "7", "--calls", "15")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_random_calls_between_forbidden_pages_for_minutes() -> None:
    result = run(str(SUPPORT / "fuzzing.py"), "--seconds", "120", "--seed", "1000")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_forbidden_page_is_there() -> None:
    code = (
        "import ctypes, fenced, torch; t = fenced.empty((3,), torch.float32, at_end={}); print('made', flush=True);"
        "ctypes.c_float.from_address(t.data_ptr() + {}).value"
    )
    for at_end, offset in ((True, 12), (False, -4)):
        result = run("-c", code.format(at_end, offset))
        assert (result.stdout, result.returncode) == ("made\n", -11)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: gw.LSTM(6, 8),
    "GRU": lambda: gw.GRU(6, 8, reset_after=True),
    "GRUCell": lambda: gw.GRUCell(6, 8),
    "gru_d": lambda: gw.Recurrent(gw.cells.gru_d, 6, 8),
}
BROKEN: dict[str, Callable[[Tensor], Any]] = {
    "one number": lambda w: torch.zeros(1),
    "three by three": lambda w: torch.zeros(3, 3),
    "float16": lambda w: w.half(),
    "float64": lambda w: w.double(),
    "meta": lambda w: w.to("meta"),
    "sparse": lambda w: w.to_sparse(),
    "freed": lambda w: _freed(w, 0),
    "made smaller": lambda w: _freed(w, 16),
    "nothing": lambda w: None,
}


def _freed(w: Tensor, size: int) -> Tensor:
    w = w.clone()
    w.untyped_storage().resize_(size)
    return w


def call(module: nn.Module) -> Tensor:
    torch.manual_seed(0)
    if isinstance(module, gw.GRUCell):
        return module(torch.randn(3, 6))
    x = torch.randn(5, 3, 6)
    inputs = {"mask": x.sign().clamp(0), "gap": x.abs(), "last": x} if module.cell.inputs else {}
    return module(x, **inputs)[0]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_a_broken_weight_gets_a_sentence(name: str, how: str, backend: str) -> None:
    whole = LAYERS[name]()
    if (backend, how) == ("eager", "sparse"):
        pytest.skip("torch multiplies by sparse weights")
    for parameter, value in whole.named_parameters():
        if name == "GRUCell" and how == "nothing" and parameter.startswith("bias"):
            continue  # as a cell without biases
        module, broken = copy.deepcopy(whole), BROKEN[how](value.detach())
        module._parameters[parameter] = None if broken is None else nn.Parameter(broken)
        with gw.backend(backend), pytest.raises((RuntimeError, TypeError, ValueError)) as caught:
            call(module).sum().backward()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", BROKEN)
def test_streams_and_functional_call_look_too(how: str) -> None:
    layer = gw.GRU(6, 8)
    broken = BROKEN[how](layer.weight_hh_l0.detach())
    given = {**dict(layer.named_parameters()), "weight_hh_l0": broken}
    if broken is not None:  # functional_call itself ignores None
        with pytest.raises((RuntimeError, TypeError)):
            torch.func.functional_call(layer, given, (torch.randn(5, 3, 6),))
    stream = layer.stream(2)
    layer._parameters["weight_hh_l0"] = None if broken is None else nn.Parameter(broken)
    for attempt in (stream.refresh, layer.stream):
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            attempt()
    assert stream.step(torch.zeros(2, 6)).isfinite().all()


@pytest.mark.parametrize("size", [0, 8])
def test_what_a_step_brings_must_have_memory(size: int) -> None:
    stream, out = gw.GRU(6, 8).stream(2), torch.empty(2, 8)
    for arguments in ((_freed(torch.zeros(2, 6), size), out), (torch.zeros(2, 6), _freed(out, size))):
        with pytest.raises(RuntimeError, match="memory"):
            stream.step(*arguments)


def test_zeros_without_memory_are_zeros() -> None:
    layer, zeros = gw.GRU(6, 8), torch._efficientzerotensor((5, 3, 6))
    with torch.no_grad():
        assert torch.equal(layer(zeros)[0], layer(torch.zeros(5, 3, 6))[0])


def test_a_negative_view_of_a_weight_in_a_stream() -> None:
    layer = gw.GRU(6, 8)
    expected = layer.stream().step(torch.ones(6))
    layer.weight_hh_l0 = nn.Parameter(torch._neg_view(-layer.weight_hh_l0.detach()))
    assert torch.equal(layer.stream().step(torch.ones(6)), expected)


def test_assigned_weights_of_another_dtype(tmp_path: Path) -> None:
    layer = gw.GRU(6, 8)
    for dtype, words in ((torch.float16, "in float32 or float64"), (torch.float64, "dtype of the other tensors")):
        state = layer.state_dict()
        other = copy.deepcopy(layer)
        other.load_state_dict({**state, "weight_hh_l0": state["weight_hh_l0"].to(dtype)}, assign=True)
        with pytest.raises(RuntimeError, match=words):
            other(torch.randn(5, 3, 6))


def test_an_exported_program_looks_at_its_weights() -> None:
    layer = gw.GRU(6, 8)
    program = torch.export.export(layer, (torch.randn(5, 3, 6),)).module()
    program.weight_hh_l0 = nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(RuntimeError, match="must have shape"):
        program(torch.randn(5, 3, 6))


def test_vmap_over_weights_looks_at_each() -> None:
    layer, x = gw.GRU(6, 8), torch.randn(5, 3, 6)
    many = {n: torch.stack([p.detach()] * 2) for n, p in layer.named_parameters()}
    many["weight_hh_l0"] = torch.zeros(2, 3, 3)
    with pytest.raises(RuntimeError, match="must have shape"):
        torch.func.vmap(lambda p: torch.func.functional_call(layer, p, (x,))[0])(many)


def test_parameters_start_initialised_before_a_function_changes_them() -> None:
    torch.manual_seed(0)
    layer = gw.LSTM(6, 8, initialise=lambda layer: nn.init.zeros_(layer.bias_ih_l0))
    assert not layer.bias_ih_l0.any()
    assert all(p.abs().max() <= 8**-0.5 for p in layer.parameters())
    assert layer.weight_hh_l0.std() > 0.1


# --- the operators themselves ---


def operands(cell: gw.Cell = gw.cells.gru) -> dict[str, Any]:
    """Arguments of ``gatewise::backward``."""
    torch.manual_seed(0)
    x, h = torch.randn(5, 3, 6), torch.randn(3, 8)
    parameters = {n: torch.randn(s) for n, s in cell.parameter_shapes(6, 8).items()}
    slabs = len(make_plans(cell).saved) + len(make_plans(cell).histories)
    given: dict[str, Any] = {"x": x, "h": h, **parameters, "y": torch.randn(5, 3, 8)}
    return given | {"saved": torch.rand(slabs, 5, 3, 8), "dy": torch.randn(5, 3, 8), "final": torch.randn(3, 8)}


def shapes_beside(t: Tensor) -> list[tuple[int, ...]]:
    shape = tuple(t.shape)
    changed = [(*shape[:k], n + d, *shape[k + 1 :]) for k, n in enumerate(shape) for d in (-1, 1)]
    return [*changed, shape[1:], (*shape, 1), shape[::-1]] if shape[::-1] != shape else [*changed, shape[1:]]


def test_every_tensor_of_a_backward_is_looked_at() -> None:
    names = list(gw.cells.gru.parameter_shapes(6, 8))
    options = CallOptions.text(str(choose(torch.device("cpu"), torch.float32)), False, Keep.GATES, (1, 0, 1), names)
    backward(options, names, operands())
    for wrong in operands():
        for shape in shapes_beside(operands()[wrong]):
            given = operands()
            given[wrong] = torch.zeros(shape)
            with pytest.raises(RuntimeError):
                backward(options, names, given)


def backward(options: str, names: list[str], g: dict[str, Any]) -> Any:
    wanted = [True] * (2 + len(names))
    parts = [[g["x"], g["h"], *(g[n] for n in names)], g["y"], g["saved"], g["dy"], [g["final"]], wanted]
    return torch.ops.gatewise.backward(gw.cells.gru.text, options, *parts)


def test_kernels_refuse_a_width_of_zero() -> None:
    for width, hidden in ((0, 8), (6, 0)):
        parameters = {"weight_ih": torch.zeros(3 * hidden, width), "weight_hh": torch.zeros(3 * hidden, hidden)}
        with pytest.raises(RuntimeError, match="no width of zero"):
            ops.run(gw.cells.gru, torch.zeros(5, 3, width), {}, [torch.zeros(3, hidden)], parameters)


def test_what_a_trace_fills_is_memory_of_its_own() -> None:
    cell, x, h = gw.cells.gru, torch.randn(5, 3, 6), torch.randn(3, 8)
    parameters = {n: torch.randn(s) for n, s in cell.parameter_shapes(6, 8).items()}
    whole = torch.empty(3, 5, 3, 8)
    for gates in (whole[:2], whole[:, :4], torch.empty(1).expand(3, 5, 3, 8), torch.empty(3, 5, 3, 16)[..., ::2]):
        with pytest.raises((RuntimeError, ValueError)):
            ops.trace(cell, x, {}, [h], parameters, gates)
    with pytest.raises(RuntimeError, match="of its own"):
        ops.trace(cell, x, {}, [whole[0, 0]], parameters, whole)


@pytest.mark.parametrize(
    ("strides", "overlaps"),
    [((24, 8, 1), False), ((0, 8, 1), True), ((7, 8, 1), True), ((8, 16, 1), True), ((8, 40, 1), False)],
)
def test_overlap(strides: tuple[int, ...], overlaps: bool) -> None:
    assert signature.overlaps_itself(torch.empty(500).as_strided((5, 3, 8), strides)) is overlaps
