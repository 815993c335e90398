"""Layers in int8 and bfloat16: against the reference that rounds as kernels do, their bits, and how they are saved."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from asymmetric import asymmetric
from comparing import threads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cells import ALL
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import gatewise as gw
from gatewise.backends.cpu import tiers
from gatewise.nn import held
from gatewise.quantization import grid
from gatewise.tasks.text.exact import affine

pytestmark = pytest.mark.usefixtures("poisoned")
kernels = pytest.mark.skipif(not tiers.of_bytes(), reason="this processor has no products of bytes")

CELLS = [gw.cells.gru, gw.cells.gru_reset_after, gw.cells.lstm, gw.cells.rnn, ALL["peephole_lstm"], gw.cells.mgu]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def parts(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def joined(states: list[Tensor]) -> Any:
    return states[0] if len(states) == 1 else tuple(states)


def small(cell: gw.Cell, width: int, hidden: int, layers: int = 1, **options: Any) -> Any:
    return gw.quantize(asymmetric(gw.Recurrent(cell, width, hidden, layers, **options)))


@kernels
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    rows=st.sampled_from([1, 2, 3, 5, 8, 17]),
    width=st.integers(1, 150),
    units=st.sampled_from([1, 15, 16, 17, 48, 100, 130]),
    steps=st.sampled_from([1, 2, 9, 40]),
    count=st.sampled_from([1, 2]),
)
def test_products_are_those_of_whole_numbers(rows: int, width: int, units: int, steps: int, count: int) -> None:
    """A layer without recurrence is one product: bytes, sums and scales are the reference's, float32 rounds twice."""
    layer = small(affine, width, units)
    x = torch.randn(steps, rows, width) * 10.0 ** torch.randint(-5, 5, (steps, rows, 1))
    x[0, 0] = 0
    with threads(count):
        found = layer(x)[0]
    bare = grid.linear(x, layer.weight_ih_l0)
    assert bool(((found - (bare + layer.bias_ih_l0)).abs() <= 2.0**-22 * (bare.abs() + layer.bias_ih_l0.abs())).all())


@kernels
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
@pytest.mark.parametrize(("width", "hidden", "rows"), [(3, 5, 1), (37, 33, 3), (64, 96, 1), (20, 130, 9)])
def test_a_step_is_the_references(cell: gw.Cell, width: int, hidden: int, rows: int) -> None:
    """From the kernel's own states, so that what was rounded before is the same. An operand that the step itself
    computes may be an ulp off and round to the next byte: then a pre-activation moves by a byte's worth."""
    layer = small(cell, width, hidden)
    stream, x = layer.stream(rows), torch.randn(6, rows, width)
    bound = 4e-6
    if cell in (gw.cells.gru, gw.cells.mgu):
        bound += float(layer.weight_hh_l0.abs().max()) / 127
    for t, own in enumerate(x):
        before = parts(stream.state)
        y = stream.step(own)
        with gw.backend("eager"):
            wanted, finals = layer(x[t : t + 1], joined(before))
        assert float((y - wanted[0]).abs().max()) <= bound
        for a, b in zip(parts(stream.state), parts(finals), strict=True):
            assert float((a - b).abs().max()) <= bound


@kernels
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    cell=st.sampled_from(CELLS),
    layers=st.integers(1, 2),
    batch=st.sampled_from([1, 2, 11]),
    width=st.integers(1, 70),
    hidden=st.sampled_from([1, 16, 37, 160]),
    steps=st.sampled_from([1, 3, 12]),
    count=st.sampled_from([1, 2]),
    bias=st.booleans(),
)
def test_same_bits(
    cell: gw.Cell, layers: int, batch: int, width: int, hidden: int, steps: int, count: int, bias: bool
) -> None:
    """In whatever chunks, steps, batch and threads."""
    layer = small(cell, width, hidden, layers, bias=bias)
    x = torch.randn(steps, batch, width)
    with threads(count):
        whole, finals = layer(x)
        stream = layer.stream(batch)
        stepped = torch.stack([stream.step(row) for row in x])
    assert torch.equal(stepped, whole)
    first, state = layer(x[: steps // 2]) if steps > 1 else (whole[:0], None)
    rest, last = layer(x[len(first) :], state)
    assert torch.equal(torch.cat([first, rest]), whole)
    for a, b, c in zip(parts(finals), parts(last), parts(stream.state), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert torch.equal(layer(x[:, -1:])[0], whole[:, -1:])


@pytest.mark.parametrize("to", ["int8", "bf16"])
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_every_way_through_a_layer(to: str, backend: str) -> None:
    """Two directions, lengths, resets, packed sequences and traces agree with each other and stay near float32."""
    own = gw.GRU(20, 33, 2, bidirectional=True)
    layer, x = gw.quantize(own, to), torch.randn(12, 3, 20)
    with gw.backend(backend):
        whole, _ = layer(x)
        assert float((whole - own(x)[0]).detach().abs().max()) < 0.03
        traced = layer.trace(x)
        assert torch.equal(traced.output, whole)
        short, _ = layer(x, lengths=[12, 5, 1])
        packed, _ = layer(pack_sequence([x[:12, 0], x[:5, 1], x[:1, 2]]))
        padded = nn.utils.rnn.pad_packed_sequence(packed)[0]
        assert torch.equal(short, padded)
        reset = torch.zeros(12, 3, dtype=torch.bool)
        reset[4] = True
        forward = gw.quantize(asymmetric(gw.GRU(20, 33)), to)
        assert torch.equal(forward(x, reset=reset)[0][4:], forward(x[4:])[0])


@pytest.mark.parametrize("make", [gw.GRUCell, gw.LSTMCell, gw.RNNCell])
def test_single_steps(make: Callable[..., Any]) -> None:
    cell = asymmetric(make(10, 21))
    narrow = gw.quantize(cell)
    x, state = torch.randn(3, 10), None
    other = None
    for _ in range(3):
        state, other = narrow(x, state), cell(x, other)
        for a, b in zip(parts(state), parts(other), strict=True):
            assert float((a - b).detach().abs().max()) < 0.1  # asymmetric weights are large


@kernels
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_row_that_is_no_number_is_nan_and_no_other_row_is(bad: float) -> None:
    for cell in (gw.cells.gru, gw.cells.lstm):
        layer, x = small(cell, 9, 18), torch.randn(4, 3, 9)
        clean = layer(x)[0]
        x[1, 1, 4] = bad
        found = layer(x)[0]
        assert bool(found[1:, 1].isnan().all())
        assert torch.equal(found[:, ::2], clean[:, ::2])
        assert torch.equal(found[0], clean[0])


def test_float64_runs_on_the_reference() -> None:
    layer = small(gw.cells.gru_reset_after, 9, 18)
    wide, x = copy.deepcopy(layer).double(), torch.randn(3, 2, 9)
    assert wide.backend.startswith("eager: the cpu backend has int8 products beside float32")
    with gw.backend("eager"):
        assert float((wide(x.double())[0] - layer(x)[0]).abs().max()) < 0.02


@kernels
@pytest.mark.parametrize("tier", [t for t in tiers.available() if tiers.in_bytes(t)])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
def test_every_tier_gives_the_same_bits(cell: gw.Cell, tier: str) -> None:
    """Of calls that pack, calls whose packed weights are held, and streams; with rows of zeros and of no numbers."""
    layer, x = small(cell, 37, 45), torch.randn(held.STEPS + 2, 3, 37)
    x[1, 0], x[2, 1, 4] = 0, torch.inf

    def results() -> list[Tensor]:
        stream = layer.stream(3)
        return [layer(x)[0], layer(x[:1])[0], torch.stack([stream.step(row) for row in x])]

    own = results()
    with gw.backend("auto", tier=tier):
        assert layer.backend.startswith(f"cpu/{tiers.in_bytes(tier)[0]}: ")
        for found, expected in zip(results(), own, strict=True):
            assert torch.equal(found.view(torch.int32), expected.view(torch.int32))


@kernels
def test_backends_say_what_runs() -> None:
    layer = small(gw.cells.gru, 3, 4)
    assert layer.backend == f"cpu/{tiers.of_bytes()}: compiled for this machine, int8 products"
    assert layer.stream().backend == layer.backend
    with gw.backend("eager"):
        assert layer.backend == "eager: asked for by name, int8 products as kernels round them, in torch operations"
    with gw.backend("auto", tier="sse2"):
        assert layer.backend.startswith("eager: the tier sse2, asked for by name, has no int8 products")
    with gw.backend("cpu", tier="sse2"), pytest.raises(RuntimeError, match="has no int8 products"):
        layer(torch.randn(1, 1, 3))
    halves = gw.quantize(gw.GRU(3, 4), "bf16")
    assert "bfloat16" in halves.backend
    assert halves(torch.randn(2, 1, 3))[0].dtype == torch.float32


@pytest.mark.parametrize("to", ["int8", "bf16"])
def test_saved_and_loaded(to: str) -> None:
    own = asymmetric(nn.Sequential(gw.GRU(7, 9, 2)))
    model, x = gw.quantize(own, to), torch.randn(30, 2, 7)
    state = model.state_dict()
    assert state["0.weight_ih_l0"].dtype == {"int8": torch.int8, "bf16": torch.bfloat16}[to]
    assert ("0.weight_hh_l1_scale" in state) == (to == "int8")
    other = gw.quantize(nn.Sequential(gw.GRU(7, 9, 2)), to)
    assert not torch.equal(other(x)[0], model(x)[0])
    other.load_state_dict(state)
    for found in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(found(x)[0], model(x)[0])
    state["0.weight_ih_l0"].zero_()  # a copy
    assert torch.equal(other(x)[0], model(x)[0])
    with torch.no_grad():
        assert torch.equal(own(x)[0], asymmetric(nn.Sequential(gw.GRU(7, 9, 2)))(x)[0])  # left as it was


def test_weights_that_do_not_fit_are_refused_and_nothing_is_loaded() -> None:
    plain = gw.GRU(7, 9)
    narrow = gw.quantize(gw.GRU(7, 9))
    before = narrow.state_dict()
    with pytest.raises(RuntimeError, match=r"weight_ih_l0 is of torch.float32, but the layer has int8"):
        narrow.load_state_dict(plain.state_dict())
    with pytest.raises(RuntimeError, match=r"weight_ih_l0 is of torch.int8, but the layer has no int8 weights"):
        plain.load_state_dict(before)
    damaged = {**before, "weight_hh_l0": before["weight_hh_l0"] // 2}
    with pytest.raises(RuntimeError, match="weight_hh_l0 each row of bytes must have a ±127"):
        narrow.load_state_dict(damaged)
    with pytest.raises(RuntimeError, match="Missing key"):
        narrow.load_state_dict({n: v for n, v in before.items() if not n.endswith("scale")})
    assert all(torch.equal(v, before[n]) for n, v in narrow.state_dict().items())


@kernels
def test_held_weights_follow_what_is_loaded_and_written() -> None:
    """Calls of a few steps, whose packed weights are held, beside a call that packs."""
    layer, x = small(gw.cells.gru_reset_after, 7, 9), torch.randn(held.STEPS + 1, 2, 7)

    def same() -> Tensor:
        first, whole = layer(x[:2])[0], layer(x)[0]
        assert torch.equal(first, whole[:2])
        return whole

    before = same()
    layer.load_state_dict(gw.quantize(asymmetric(gw.Recurrent(layer.cell, 7, 9), 1)).state_dict())
    after = same()
    assert not torch.equal(before, after)
    layer.bias_hh_l0.data[4] += 1  # no version counter tells of it
    written = same()
    assert not torch.equal(written, after)
    nn.utils.parametrize.register_parametrization(layer, "bias_hh_l0", Negative())
    assert not torch.equal(same(), written)


class Negative(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return -value


@kernels
def test_held_weights_whose_bias_has_no_memory() -> None:
    layer, x = small(gw.cells.gru_reset_after, 7, 9), torch.randn(2, 2, 7)
    layer(x)
    layer.bias_hh_l0.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="must have memory for shape"):
        layer(x)


def test_what_cannot_be_quantised() -> None:
    layer = gw.GRU(3, 4)
    with pytest.raises(ValueError, match="to: got 'int4', expected 'int8' or 'bf16'"):
        gw.quantize(layer, "int4")
    with pytest.raises(TypeError, match=r"model: got int, expected a torch.nn.Module"):
        gw.quantize(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="without a recurrent layer of Gatewise"):
        gw.quantize(nn.GRU(3, 4))
    with pytest.raises(ValueError, match="quantised already"):
        gw.quantize(gw.quantize(layer))
    with pytest.raises(ValueError, match="with a proj_size"):
        gw.quantize(gw.LSTM(3, 4, proj_size=2))
    with pytest.raises(ValueError, match=r"with weights in torch.bfloat16, expected torch.float32 or torch.float64"):
        gw.quantize(gw.GRU(3, 4, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="is parametrised"):
        gw.quantize(nn.utils.parametrizations.weight_norm(gw.GRU(3, 4), "weight_hh_l0"))
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight_hh_l0 has infinity or not-a-number"):
        gw.quantize(layer)


def test_inference_alone() -> None:
    layer, x = gw.quantize(gw.GRU(3, 4)), torch.randn(12, 1, 3)
    with pytest.raises(RuntimeError, match="for inference alone, got train"):
        layer.train()
    layer.eval()
    with pytest.raises(RuntimeError, match="has no gradients, got a tensor that requires one"):
        layer(x.clone().requires_grad_())
    with torch.no_grad():
        assert torch.equal(layer(x.clone().requires_grad_())[0], layer(x)[0])
    with pytest.raises(RuntimeError, match="has no gradients"):
        torch.func.grad(lambda v: layer(v)[0].sum())(x)


@pytest.mark.slow
def test_a_compiled_program() -> None:
    layer, x = gw.quantize(gw.GRU(5, 6, 2)), torch.randn(20, 2, 5)
    with torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True)
        assert torch.equal(compiled(x)[0], layer(x)[0])
