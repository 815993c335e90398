"""Layers in bfloat16, or under torch.autocast, where the processor multiplies in it."""

import copy
from typing import Any

import pytest
import torch
from comparing import MATRIX
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, flat, packed_states, problem
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import gatewise as gw

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(not MATRIX, reason="this processor has no matrix unit"),
]

HALF = torch.bfloat16


def near(found: Tensor, exact: Tensor) -> None:
    """Within what a rounding to bfloat16 of each operand and of the result does."""
    error = (found.detach().double() - exact.detach().double()).norm()
    assert float(error) <= 2**-6 * float(exact.detach().double().norm()), error


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer(layer: str, stack: str) -> None:
    """Under autocast it gives the bits of its copy in bfloat16, but for gradients, which are not rounded."""
    torch.manual_seed(0)
    own = LAYERS[layer](**STACKS[stack])
    half, exact = copy.deepcopy(own).to(HALF), copy.deepcopy(own).to(HALF).double()
    x, states = problem(half)
    x.requires_grad_()
    wide = x.detach().double().requires_grad_()
    found = flat(half(x, packed_states(states)))
    expected = flat(exact(wide, packed_states([s.double() for s in states])))
    with torch.autocast("cpu", HALF):
        cast = flat(own(x.detach().float(), packed_states(states)))
    for a, b, c in zip(found, expected, cast, strict=True):
        assert a.dtype == HALF
        near(a, b)
        assert torch.equal(a, c)
    weights = [torch.randn_like(v, dtype=torch.float32).bfloat16() for v in found]
    gradients = torch.autograd.grad(found, [x, *half.parameters()], weights)
    others = torch.autograd.grad(cast, list(own.parameters()), weights)
    references = torch.autograd.grad(expected, [wide, *exact.parameters()], [w.double() for w in weights])
    for a, b in zip(gradients, references, strict=True):
        near(a, b)
    for a, b in zip(gradients[1:], others, strict=True):
        assert b.dtype == torch.float32
        near(a, b)


def test_rows_alone_packed_padded_and_in_chunks_have_the_same_bits() -> None:
    layer = gw.LSTM(INPUT, HIDDEN, num_layers=2, dtype=HALF)
    x, _ = problem(layer)
    start = tuple(torch.zeros(2, BATCH, HIDDEN) for _ in range(2))
    y, final = layer(x, start)
    assert torch.equal(layer(x[:, 1])[0], y[:, 1])
    assert torch.equal(layer(x, lengths=[STEPS] * BATCH)[0], y)
    packed, _ = layer(pack_sequence([x[:, 0], x[:3, 1]]))
    assert torch.equal(packed.data[0], y[0, 0])
    first, between = layer(x[:2], start)
    second, last = layer(x[2:], between)
    assert torch.equal(torch.cat([first, second]), y)
    assert all(torch.equal(a, b) for a, b in zip(last, final, strict=True))
    assert torch.equal(layer.trace(x).output, y)


def test_a_stream_computes_in_float32() -> None:
    layer = gw.GRU(INPUT, HIDDEN, dtype=HALF)
    x, _ = problem(layer)
    stream = layer.stream(BATCH)
    near(torch.stack([stream.step(frame) for frame in x]), layer(x)[0])
    assert stream.backend.endswith("bfloat16 weights in float32 arithmetic")


@pytest.mark.parametrize("make", [gw.GRUCell, gw.LSTMCell, gw.RNNCell])
def test_single_steps(make: Any) -> None:
    step = make(INPUT, HIDDEN, dtype=HALF)
    x = torch.randn(BATCH, INPUT, dtype=HALF)
    for a, b in zip(flat(step(x)), flat(copy.deepcopy(step).double()(x.double())), strict=True):
        near(a, b)


def test_what_runs() -> None:
    layer = gw.GRU(INPUT, HIDDEN, dtype=HALF)
    assert layer.backend == f"cpu/{MATRIX[0]}: compiled for this machine, bfloat16 products with float32 sums"
    with torch.autocast("cpu", HALF):
        assert layer.float().backend.endswith("bfloat16 products with float32 sums, for torch.autocast")
    with gw.backend("cpu", tier=MATRIX[0].partition("+")[0]):
        assert layer.to(HALF).backend.endswith("bfloat16 weights in float32 arithmetic")


def test_torch_compiles_and_exports_it() -> None:
    layer = gw.GRU(INPUT, HIDDEN, dtype=HALF)
    x, _ = problem(layer)
    torch.compiler.reset()
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x)[0], layer(x)[0])
    torch.compiler.reset()
    assert torch.equal(torch.export.export(layer, (x,)).module()(x)[0], layer(x)[0])


def test_a_projection_is_computed_in_float32() -> None:
    layer = gw.LSTM(INPUT, HIDDEN, proj_size=2)
    x = torch.randn(STEPS, BATCH, INPUT)
    with torch.autocast("cpu", HALF):
        found, _ = layer(x)
    assert torch.equal(found, copy.deepcopy(layer).to(HALF)(x.to(HALF))[0])
