"""Layers in bfloat16, or under torch.autocast, where the processor multiplies in it."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from comparing import IN_BFLOAT16, taking
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, flat, packed_states, problem
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import gatewise as gw
from gatewise.backends.cpu import tiers
from gatewise.backends.kernels import recipe

pytestmark = [
    pytest.mark.usefixtures("poisoned", "tier"),
    pytest.mark.skipif(not IN_BFLOAT16, reason="this processor does not multiply bfloat16"),
]

HALF = torch.bfloat16


@pytest.fixture(params=IN_BFLOAT16 or [""])
def tier(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each tier of this host whose products are in bfloat16, taken by all calls in it."""
    with taking(request.param):
        yield request.param


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


@pytest.mark.parametrize("units", [16, 400])
def test_a_stream_made_under_autocast_rounds_its_weights(units: int) -> None:
    """Also those that lie packed in bfloat16 since they outgrow the cache."""
    own = gw.GRU(16, units)
    half = copy.deepcopy(own).to(HALF)
    x = torch.randn(3, 1, 16, dtype=HALF)
    with torch.autocast("cpu", HALF):
        stream = own.stream()
        found = [stream.step(frame) for frame in x]
        stream.refresh()
    expected = half.stream()
    assert all(torch.equal(a, expected.step(frame)) for a, frame in zip(found, x, strict=True))
    assert torch.equal(stream.state, expected.state)


@pytest.mark.parametrize("make", [gw.GRU, gw.LSTM, gw.GRUCell])
def test_a_parametrised_matrix_that_autocast_makes_bfloat16(make: Any) -> None:
    torch.manual_seed(0)
    layer = make(INPUT, HIDDEN)
    name = next(n for n, _ in layer.named_parameters() if n.startswith("weight_hh"))
    exact = copy.deepcopy(layer)
    torch.nn.utils.parametrize.register_parametrization(layer, name, Rotated(HIDDEN))
    x = torch.randn(BATCH, INPUT) if make is gw.GRUCell else torch.randn(STEPS, BATCH, INPUT)
    with torch.autocast("cpu", HALF):
        assert getattr(layer, name).dtype == HALF
        found = flat(layer(x))[0]
    near(found, flat(exact(x))[0])
    found.float().square().sum().backward()
    assert all(bool(p.grad is not None and p.grad.isfinite().all()) for p in layer.parameters())


class Rotated(torch.nn.Module):
    """A product with the identity."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.by = torch.nn.Parameter(torch.eye(size))

    def forward(self, weight: Tensor) -> Tensor:
        return weight @ self.by


@pytest.mark.parametrize("make", [gw.GRUCell, gw.LSTMCell, gw.RNNCell])
def test_single_steps(make: Any) -> None:
    step = make(INPUT, HIDDEN, dtype=HALF)
    x = torch.randn(BATCH, INPUT, dtype=HALF)
    for a, b in zip(flat(step(x)), flat(copy.deepcopy(step).double()(x.double())), strict=True):
        near(a, b)


def test_what_runs(tier: str) -> None:
    layer = gw.GRU(INPUT, HIDDEN, dtype=HALF)
    assert layer.backend == f"cpu/{tier}: compiled for this machine, bfloat16 products with float32 sums"
    with torch.autocast("cpu", HALF):
        assert layer.float().backend.endswith("bfloat16 products with float32 sums, for torch.autocast")
    with gw.backend("cpu", tier=tier.partition("+")[0]):
        assert layer.to(HALF).backend.endswith("bfloat16 weights in float32 arithmetic")


def test_torch_compiles_and_exports_it() -> None:
    layer = gw.GRU(INPUT, HIDDEN, dtype=HALF)
    x, _ = problem(layer)
    torch.compiler.reset()
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x)[0], layer(x)[0])
    torch.compiler.reset()
    assert torch.equal(torch.export.export(layer, (x,)).module()(x)[0], layer(x)[0])


def test_an_exported_program_runs_where_there_are_no_such_products(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = gw.GRU(INPUT, HIDDEN, dtype=HALF)
    x, _ = problem(layer)
    program = torch.export.export(layer, (x,)).module()
    with gw.backend("cpu", tier=tiers.detect().name):
        expected, _ = layer(x)
    monkeypatch.setattr(tiers, "_host_features", dict)
    monkeypatch.setattr(recipe, "_recipes", {})
    tiers.in_bfloat16.cache_clear()
    assert torch.equal(program(x)[0], expected)
    tiers.in_bfloat16.cache_clear()


def test_its_tier_cannot_be_named(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="calls in bfloat16 take it by themselves"), gw.backend("cpu", tier=tier):
        pass
    monkeypatch.setenv("GATEWISE_TIER", tier)
    with pytest.raises(ValueError, match=r"which cannot be named; available: .*; calls in bfloat16 take"):
        tiers.default()


def test_a_projection_is_computed_in_float32() -> None:
    layer = gw.LSTM(INPUT, HIDDEN, proj_size=2)
    x = torch.randn(STEPS, BATCH, INPUT)
    with torch.autocast("cpu", HALF):
        found, _ = layer(x)
    assert torch.equal(found, copy.deepcopy(layer).to(HALF)(x.to(HALF))[0])
