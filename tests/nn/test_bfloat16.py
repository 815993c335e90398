"""Layers in bfloat16: weights, input and results rounded, arithmetic and the state within a sequence in float32."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, flat, packed_states, problem
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import gatewise as gw
from gatewise.backends.cpu import tiers

pytestmark = pytest.mark.usefixtures("poisoned", "without_matrix_unit")

HALF = torch.bfloat16
UNIT = 2.0**-8
"""Half a unit in the last place of bfloat16, relative."""


def rounded(make: Callable[..., gw.Recurrent], **options: Any) -> tuple[gw.Recurrent, gw.Recurrent]:
    """A layer in bfloat16, and one in float64 with its weights as they were rounded."""
    torch.manual_seed(0)
    half = make(**options).to(HALF)
    return half, copy.deepcopy(half).double()


def close(found: Tensor, exact: Tensor) -> None:
    """Within one rounding to bfloat16, and what float32 arithmetic adds."""
    assert found.dtype == HALF
    error = (found.double() - exact.double()).abs()
    assert bool((error <= UNIT * exact.abs() + 1e-4 * exact.abs().max()).all()), error.max()


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("layer", LAYERS)
def test_against_float64_with_the_rounded_weights(layer: str, stack: str, backend: str) -> None:
    half, exact = rounded(LAYERS[layer], **STACKS[stack])
    x, states = problem(half)
    x.requires_grad_()
    wide = x.detach().double().requires_grad_()
    found = flat(half(x, packed_states(states)))
    expected = flat(exact(wide, packed_states([s.double() for s in states])))
    for a, b in zip(found, expected, strict=True):
        close(a, b)
    weights = [torch.randn_like(v, dtype=torch.float32).bfloat16() for v in found]
    a = torch.autograd.grad(found, [x, *half.parameters()], weights)
    b = torch.autograd.grad(expected, [wide, *exact.parameters()], [w.double() for w in weights])
    for own, reference in zip(a, b, strict=True):
        close(own, reference)


def test_what_runs() -> None:
    layer = gw.GRU(3, 4, dtype=HALF)
    assert layer.backend.startswith("cpu")
    assert layer.backend.endswith("bfloat16 weights in float32 arithmetic")
    assert gw.LSTMCell(3, 4, dtype=HALF).backend.endswith("bfloat16 weights in float32 arithmetic")
    assert gw.GRU(3, 4, dtype=torch.float16).backend.startswith("eager")


def test_a_state_in_float32_is_not_rounded_between_chunks() -> None:
    half, _ = rounded(LAYERS["lstm"], num_layers=2)
    x, _ = problem(half)
    zeros = tuple(torch.zeros(2, BATCH, HIDDEN) for _ in range(2))
    whole, final = half(x, zeros)
    first, between = half(x[:2], zeros)
    second, last = half(x[2:], between)
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(last, final, strict=True))
    # In the layer's dtype they are the same, rounded.
    assert all(torch.equal(a, b.bfloat16()) for a, b in zip(half(x)[1], final, strict=True))


def test_rows_alone_packed_and_streamed_have_the_same_bits() -> None:
    half, _ = rounded(LAYERS["lstm"], num_layers=2)
    x, _ = problem(half)
    y, _ = half(x)
    assert torch.equal(half(x[:, 1])[0], y[:, 1])
    assert torch.equal(half(x, lengths=[STEPS] * BATCH)[0], y)
    packed, _ = half(pack_sequence([x[:, 0], x[:3, 1]]))
    assert packed.data.dtype == HALF
    assert torch.equal(packed.data[0], y[0, 0])
    stream = half.stream(BATCH)
    assert torch.equal(torch.stack([stream.step(frame) for frame in x]), y)
    state = stream.state
    assert all(s.dtype == torch.float32 for s in state)
    stream.state = state
    stream.state = half(x)[1]
    stream.reset(0)
    with pytest.raises(ValueError, match=r"x must have the dtype of the stream, torch\.bfloat16"):
        stream.step(x[0].float())


@pytest.mark.parametrize("tier", tiers.available())
@pytest.mark.parametrize("rows", [1, 3])
def test_a_stream_of_weights_that_outgrow_the_cache(tier: str, rows: int) -> None:
    """Then they lie packed in bfloat16."""
    torch.manual_seed(0)
    half = gw.GRU(39, 301, num_layers=2, dtype=HALF)
    x = torch.randn(3, rows, 39, dtype=HALF)
    with gw.backend("cpu", tier=tier):
        y, _ = half(x)
        stream = half.stream(rows)
    assert torch.equal(torch.stack([stream.step(frame) for frame in x]), y)
    with torch.no_grad():
        half.weight_hh_l0.mul_(0.5)
    stream.refresh()
    stream.reset()
    with gw.backend("cpu", tier=tier):
        assert torch.equal(stream.step(x[0]), half(x[:1])[0][0])


@pytest.mark.parametrize("make", [gw.GRUCell, gw.LSTMCell, gw.RNNCell])
def test_single_steps(make: Any) -> None:
    torch.manual_seed(0)
    step = make(INPUT, HIDDEN, dtype=HALF)
    exact = copy.deepcopy(step).double()
    x = torch.randn(BATCH, INPUT, dtype=HALF)
    for found, expected in zip(flat(step(x)), flat(exact(x.double())), strict=True):
        close(found, expected)


@pytest.mark.parametrize("options", [{"recompute": True}, {"learn_initial_state": True}], ids=str)
def test_a_training_step(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = gw.GRU(INPUT, HIDDEN, dtype=HALF, **options)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu")
    x = torch.randn(STEPS, BATCH, INPUT, dtype=HALF)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = layer(x, reset=torch.zeros(STEPS, BATCH, dtype=torch.bool))[0].float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.dtype == HALF and p.grad is not None and p.grad.dtype == HALF for p in layer.parameters())


def test_torch_compiles_it() -> None:
    half, _ = rounded(LAYERS["gru"])
    x, _ = problem(half)
    torch.compiler.reset()
    assert torch.equal(torch.compile(half, fullgraph=True, backend="aot_eager")(x)[0], half(x)[0])
    torch.compiler.reset()


def test_torch_exports_it() -> None:
    half, _ = rounded(LAYERS["gru"])
    x, _ = problem(half)
    assert torch.equal(torch.export.export(half, (x,)).module()(x)[0], half(x)[0])


def test_gradients_of_each_row() -> None:
    half, _ = rounded(LAYERS["gru"])
    x, _ = problem(half)
    weights = dict(half.named_parameters())

    def loss(weights: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(half, weights, (row,))[0].float().square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 1))(weights, x)
    for row in range(BATCH):
        for name, exact in torch.func.grad(loss)(weights, x[:, row]).items():
            assert torch.equal(found[name][row], exact)


def test_refusals() -> None:
    half = gw.GRU(INPUT, HIDDEN, dtype=HALF)
    with pytest.raises(ValueError, match=r"input must have the dtype of the weights, torch\.bfloat16"):
        half(torch.zeros(STEPS, BATCH, INPUT))
    with pytest.raises(RuntimeError, match="hx must have the dtype of the input"):
        gw.GRU(INPUT, HIDDEN)(torch.zeros(STEPS, BATCH, INPUT), torch.zeros(1, BATCH, HIDDEN, dtype=HALF))


@pytest.mark.parametrize("kind", [gw.GRU, gw.LSTM])
def test_a_processor_that_is_asked_for_by_name_computes_in_float32(kind: type[gw.Recurrent]) -> None:
    layer, x = kind(5, 7).to(HALF), torch.randn(4, 2, 5, dtype=HALF)
    with gw.backend("cpu"):
        found = layer(x)[0]
    assert found.dtype == HALF
    assert torch.equal(found, layer(x)[0])
