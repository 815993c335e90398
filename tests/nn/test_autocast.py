"""Under torch.autocast a module in float32 gives the bits of its copy in bfloat16, and has gradients of its own."""

import copy
from typing import Any

import pytest
import torch
from cells_zoo import ZOO
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, flat, packed_states, problem
from torch.nn.utils.rnn import pack_sequence

import gatewise as gw

pytestmark = pytest.mark.usefixtures("poisoned", "without_matrix_unit")

HALF = torch.bfloat16


def autocast() -> torch.autocast:
    return torch.autocast("cpu", HALF)


def pair(layer: torch.nn.Module) -> tuple[Any, Any]:
    return layer, copy.deepcopy(layer).to(HALF)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer(layer: str, stack: str, backend: str) -> None:
    torch.manual_seed(0)
    own, half = pair(LAYERS[layer](**STACKS[stack]))
    x, states = problem(own)
    x.requires_grad_()
    narrow = x.detach().to(HALF).requires_grad_()
    expected = flat(half(narrow, packed_states([s.to(HALF) for s in states])))
    with autocast():
        found = flat(own(x, packed_states([s.to(HALF) for s in states])))
        again, _ = own(narrow)
    assert again.dtype == HALF
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == HALF
        assert torch.equal(a, b)
    seeds = [torch.randn_like(v, dtype=torch.float32).to(HALF) for v in found]
    gradients = torch.autograd.grad(found, [x, *own.parameters()], seeds)
    for a, b in zip(gradients, torch.autograd.grad(expected, [narrow, *half.parameters()], seeds), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b.float())


def test_a_state_in_float32_is_not_rounded_between_chunks(backend: str) -> None:
    layer, x, zero = gw.GRU(INPUT, HIDDEN), torch.randn(STEPS, BATCH, INPUT), torch.zeros(1, BATCH, HIDDEN)
    with autocast():
        whole, final = layer(x, zero)
        first, between = layer(x[:2], zero)
        second, last = layer(x[2:], between)
    assert final.dtype == between.dtype == torch.float32
    if backend == "cpu":  # torch's own products depend on the number of rows
        assert torch.equal(torch.cat([first, second]), whole)
        assert torch.equal(last, final)


def test_learned_states_lengths_resets_and_inputs() -> None:
    torch.manual_seed(0)
    own, half = pair(gw.Recurrent(gw.cells.gru_d, INPUT, HIDDEN, learn_initial_state=True))
    torch.nn.init.normal_(own.h_0_l0)
    half.load_state_dict(own.state_dict())
    series = torch.randn(STEPS, BATCH, INPUT)
    series[1:3, 0] = torch.nan
    gaps = gw.gaps(series)
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[2, 1] = True
    along = {"lengths": [STEPS] * (BATCH - 1) + [2], "reset": reset}
    expected = half(gaps.x.to(HALF), **along, **{k: v.to(HALF) for k, v in gaps.inputs.items()})
    with autocast():
        found = own(gaps.x, **along, **gaps.inputs)
        trace = own.trace(gaps.x, **along, **gaps.inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(trace.output, expected[0])


def test_a_packed_sequence() -> None:
    own, half = pair(gw.LSTM(INPUT, HIDDEN, bidirectional=True))
    rows = [torch.randn(n, INPUT) for n in (3, 2)]
    with autocast():
        found, _ = own(pack_sequence(rows))
    assert torch.equal(found.data, half(pack_sequence([row.to(HALF) for row in rows]))[0].data)


@pytest.mark.parametrize("make", [gw.GRUCell, gw.LSTMCell, gw.RNNCell])
def test_single_steps(make: Any, backend: str) -> None:
    own, half = pair(make(INPUT, HIDDEN))
    x = torch.randn(BATCH, INPUT)
    with autocast():
        found = flat(own(x))
    assert all(torch.equal(a, b) for a, b in zip(found, flat(half(x.to(HALF))), strict=True))


def test_a_stream_is_as_it_was_made(backend: str) -> None:
    own, half = pair(gw.GRU(INPUT, HIDDEN, num_layers=2, learn_initial_state=True))
    x = torch.randn(STEPS, BATCH, INPUT)
    plain, expected = own.stream(BATCH), half.stream(BATCH)
    with autocast():
        stream = own.stream(BATCH)
    assert stream.backend == expected.backend + ", for torch.autocast"
    stream.refresh()
    for frame in x:
        known = expected.step(frame.to(HALF))
        with autocast():
            assert torch.equal(stream.step(frame), known)
            assert plain.step(frame.to(HALF)).dtype == torch.float32
    assert torch.equal(stream.state, expected.state)
    with pytest.raises(ValueError, match=r"x must have the dtype of the stream, torch\.bfloat16"):
        stream.step(x[0])


def test_what_is_left_alone(backend: str) -> None:
    layer, x = gw.GRU(INPUT, HIDDEN).double(), torch.randn(STEPS, BATCH, INPUT).double()
    expected, _ = layer(x)
    empty = gw.Recurrent(ZOO["fading"], INPUT, INPUT)
    with autocast():
        assert torch.equal(layer(x)[0], expected)
        assert empty(x.float())[0].dtype == HALF
        with torch.device("meta"):
            assert gw.GRU(INPUT, HIDDEN)(torch.empty(STEPS, BATCH, INPUT))[0].dtype == torch.float32
    assert layer(x.float().double())[0].dtype == torch.float64


def test_what_runs() -> None:
    layer = gw.GRU(INPUT, HIDDEN)
    outside = layer.backend
    with autocast():
        assert layer.backend == outside + ", bfloat16 weights in float32 arithmetic, for torch.autocast"
    with torch.autocast("cpu", torch.float16):
        assert layer(torch.randn(STEPS, BATCH, INPUT))[0].dtype == torch.float16


def test_torch_compiles_it() -> None:
    layer, x = gw.GRU(INPUT, HIDDEN), torch.randn(2, BATCH, INPUT)
    torch.compiler.reset()
    traced = torch.compile(layer, fullgraph=True, backend="aot_eager")
    outside = traced(x)[0]
    with autocast():
        assert torch.equal(traced(x)[0], layer(x)[0])
    assert torch.equal(traced(x)[0], outside)
    assert outside.dtype == torch.float32
    torch.compiler.reset()
