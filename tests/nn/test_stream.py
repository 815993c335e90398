"""A layer one step at a time: contract 2 against the whole sequence, its state, and where it runs."""

from typing import Any

import pytest
import torch
from comparing import threads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cells import ALL
from torch import Tensor

import gatewise as gw

CELLS = [gw.cells.gru, gw.cells.gru_reset_after, gw.cells.lstm, ALL["peephole_lstm"]]
CELLS += [gw.cells.augru, gw.cells.gru_d, ALL["driven"], ALL["vectors"]]


pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def parts(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def assert_as_sequence(layer: gw.Recurrent, batch: int, steps: int = 4) -> None:
    """Steps from a given state are the layer's call, to the bit."""
    kind = {"dtype": next((p.dtype for p in layer.parameters()), torch.float32)}
    x = torch.randn(steps, batch, layer.input_size, **kind)
    start = [torch.randn(layer.num_layers, batch, layer.hidden_size, **kind) for _ in layer.cell.states]
    columns = {"input": layer.input_size, "hidden": layer.hidden_size}
    inputs = {n: torch.randn(steps, batch, columns.get(str(w), w), **kind) for n, w in layer.cell.inputs}
    whole, final = layer(x, start[0] if len(start) == 1 else tuple(start), **inputs)
    stream = layer.stream(batch)
    stream.state = start[0] if len(start) == 1 else tuple(start)
    stepped = [stream.step(row, **{n: v[t] for n, v in inputs.items()}) for t, row in enumerate(x)]
    assert torch.equal(torch.stack(stepped), whole)
    for got, wanted in zip(parts(stream.state), parts(final), strict=True):
        assert torch.equal(got, wanted)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    cell=st.sampled_from(CELLS),
    layers=st.integers(1, 3),
    batch=st.sampled_from([1, 2, 5]),
    width=st.integers(1, 40),
    hidden=st.sampled_from([1, 16, 37, 160]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    count=st.sampled_from([1, 2]),
    bias=st.booleans(),
)
def test_same_bits(cell: gw.Cell, layers: int, batch: int, width: int, hidden: int, dtype: Any, count: int, bias: bool):
    layers = 1 if "input" in dict(cell.inputs).values() else layers
    with threads(count):
        assert_as_sequence(gw.Recurrent(cell, width, hidden, layers, bias, dtype=dtype), batch)


@pytest.mark.parametrize("name", ALL)
def test_every_cell(name: str) -> None:
    """At the sizes of ``test_accuracy``, whose kernels serve here too."""
    layers = 1 if "input" in dict(ALL[name].inputs).values() else 2
    assert_as_sequence(gw.Recurrent(ALL[name], 5, 65, layers), 3)


def test_cell_that_computes_with_x_first() -> None:
    @gw.cell
    def clipped(gate, x, h):  # type: ignore[no-untyped-def]
        return gw.tanh(gate.n(gw.minimum(x, 1.0), h))

    layer = gw.Recurrent(clipped, 6, 20, 2)
    assert_as_sequence(layer, 2)
    assert layer.stream().backend.endswith("what cell clipped computes before a product in torch operations")


@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_keyword_inputs(backend: str) -> None:
    """Unbatched, of width 1 without a last dimension, with any strides, and with weights taken over by value."""
    layer = gw.Recurrent(ALL["driven"], 3, 5, 2)
    x, drive, rate, code = (torch.randn(4, 1, width) for width in (3, 5, 1, 3))
    with gw.backend(backend):
        whole, _ = layer(x, drive=drive, rate=rate, code=code)
        stream = layer.stream()
    for parameter in layer.parameters():
        parameter.data += 1.0
    strided = torch.empty(4, 3, 2)[..., 0].copy_(code[:, 0])
    out = torch.empty(5)
    for t in range(4):
        y = stream.step(x[t, 0], out, drive=drive[t, 0], rate=rate[t, 0, 0], code=strided[t])
        torch.testing.assert_close(y, whole[t, 0], rtol=0, atol=0 if backend == "cpu" else 1e-6)
    with pytest.raises(TypeError, match="cell gru takes the keyword inputs \\(none\\), got rate"):
        gw.GRU(3, 5).stream().step(x[0], rate=rate[0])


def test_refresh_takes_new_vectors_over() -> None:
    layer = gw.Recurrent(ALL["vectors"], 3, 5)
    given = {"x": torch.randn(1, 3), "m": torch.randn(1, 3), "d": torch.randn(1, 1)}
    stream, old = layer.stream(), layer.stream().step(**given)
    for name, parameter in layer.named_parameters():
        parameter.data += name.startswith("vector")
    assert torch.equal(stream.step(**given), old)
    stream.reset()
    stream.refresh()
    y = stream.step(**given)
    assert not torch.equal(y, old)
    assert torch.equal(y, layer(given["x"][None], m=given["m"][None], d=given["d"][None])[0][0])


def test_redundant_biases() -> None:
    assert_as_sequence(gw.GRU(6, 20, reset_after=True), 2)
    assert_as_sequence(gw.LSTM(6, 20, 2), 1)


def test_inference_only() -> None:
    layer = gw.GRU(4, 8, 2, dropout=0.9)
    x = torch.randn(1, 4, requires_grad=True)
    y = layer.stream().step(x)
    assert not y.requires_grad
    assert torch.equal(y, layer.eval()(x[None])[0][0])


def test_made_and_used_in_and_out_of_inference_mode() -> None:
    layer = gw.GRU(4, 8)
    with torch.inference_mode():
        stream = layer.stream()
        stream.step(torch.randn(1, 4))
    stream.reset()
    stream.refresh()
    assert not stream.step(torch.randn(1, 4)).is_inference()


def test_out() -> None:
    layer = gw.GRU(4, 8)
    x = torch.randn(1, 4)
    wanted = layer.stream().step(x)
    for out in (torch.empty(1, 8), torch.empty(1, 16)[:, ::2]):
        assert layer.stream().step(x, out) is out
        assert torch.equal(out, wanted)
    flat = layer.stream().step(x[0])
    assert flat.shape == (8,)
    assert torch.equal(flat, wanted[0])
    square = gw.GRU(8, 8).stream()
    y = torch.randn(1, 8)
    expected = square.layer(y[None])[0][0]
    assert torch.equal(square.step(y, y), expected)


def test_any_strides() -> None:
    layer = gw.GRU(4, 8)
    x = torch.randn(8, 4).t()[:, :2].t()
    assert torch.equal(layer.stream(2).step(x), layer.stream(2).step(x.contiguous()))
    negative = torch.complex(torch.randn(2, 4), torch.randn(2, 4)).conj().imag
    assert torch.equal(layer.stream(2).step(negative), layer.stream(2).step(negative.clone().contiguous()))


@pytest.mark.parametrize("layer", [gw.GRU(3, 5, 2), gw.LSTM(3, 5, 2)], ids=["one state", "two states"])
def test_state_is_a_copy(layer: Any, tmp_path: Any) -> None:
    stream = layer.stream(2)
    a, b = torch.randn(2, 2, 3)
    stream.step(a)
    kept = stream.state
    torch.save(kept, tmp_path / "state.pt")
    y = stream.step(b)
    stream.state = torch.load(tmp_path / "state.pt")
    assert torch.equal(stream.step(b), y)
    stream.state = kept
    for part in parts(kept):
        part.fill_(7)
    assert torch.equal(stream.step(b), y)
    assert parts(stream.state)[0].shape == (2, 2, 5)


def test_state_crosses_to_the_layer_and_back() -> None:
    layer = gw.LSTM(3, 5, 2)
    x = torch.randn(6, 2, 3)
    whole, final = layer(x)
    stream = layer.stream(2)
    stream.state = layer(x[:3])[1]
    for t in (3, 4, 5):
        assert torch.equal(stream.step(x[t]), whole[t])
    assert torch.equal(torch.stack(stream.state), torch.stack(final))


@pytest.mark.parametrize(
    "rows", [1, [1], (1,), torch.tensor(1), torch.tensor([1]), [False, True, False], torch.tensor([False, True, False])]
)
def test_reset_of_rows(rows: Any) -> None:
    layer = gw.LSTM(3, 5, 2)
    stream = layer.stream(3)
    a, b = torch.randn(2, 3, 3)
    stream.step(a)
    before = stream.state
    stream.reset(rows)
    for now, then in zip(stream.state, before, strict=True):
        assert not now[:, 1].any()
        assert torch.equal(now[:, [0, 2]], then[:, [0, 2]])
    assert torch.equal(stream.step(b)[1], layer.stream(3).step(b)[1])


def test_reset_of_all_and_of_none() -> None:
    stream = gw.GRU(3, 5).stream(2)
    x = torch.randn(2, 3)
    first = stream.step(x)
    kept = stream.state
    stream.reset([])
    assert torch.equal(stream.state, kept)
    stream.reset()
    assert torch.equal(stream.step(x), first)


def test_learned_initial_state() -> None:
    """The layer's parameters of each layer, a row for each state; whatever the option to make them is called."""
    layer = gw.LSTM(3, 5, 2)
    starts = torch.randn(2, 2, 5)  # layer, state
    layer._initial_names = ["start_a", "start_b"]
    for name, start in zip(layer._initial_names, starts, strict=True):
        layer.register_parameter(name, torch.nn.Parameter(start))
    stream = layer.stream(2)
    for _ in range(2):
        for k, state in enumerate(stream.state):
            assert torch.equal(state, starts[:, k, None].expand(2, 2, 5))
        stream.step(torch.randn(2, 3))
        moved = stream.state
        stream.reset(1)
        for k, state in enumerate(stream.state):
            assert torch.equal(state[:, 1], starts[:, k])
            assert torch.equal(state[:, 0], moved[k][:, 0])
        stream.reset()


def test_nan_passes_and_leaves_with_a_reset() -> None:
    stream = gw.GRU(3, 5).stream(2)
    x = torch.randn(2, 3)
    clean = stream.step(x)
    stream.reset()
    dirty = x.clone()
    dirty[1, 2] = torch.nan
    y = stream.step(dirty)
    assert y[1].isnan().all()
    assert torch.equal(y[0], clean[0])
    stream.reset(1)
    assert stream.step(x).isfinite().all()


@pytest.mark.parametrize("name", ["cpu", "eager"])
def test_refresh_takes_new_weights_over(name: str) -> None:
    layer = gw.GRU(3, 5, 2)
    x = torch.randn(1, 3)
    with gw.backend(name):
        stream, old = layer.stream(), layer.stream().step(x)
    for parameter in layer.parameters():
        parameter.data += 1.0
    assert torch.equal(stream.step(x), old)  # biases as well as matrices
    stream.reset()
    stream.refresh()
    with gw.backend(name):
        assert torch.equal(stream.step(x), layer(x[None])[0][0])
    layer.double()
    with pytest.raises(ValueError, match=r"must be as the stream was made, torch.float32 on cpu, but is torch.float64"):
        stream.refresh()


def test_weights_may_go() -> None:
    layer = gw.GRU(30, 50, 2)
    x = torch.randn(1, 30)
    y = layer.stream().step(x)
    stream = layer.stream()
    for parameter in layer.parameters():
        parameter.data = torch.full_like(parameter, torch.nan)
    assert torch.equal(stream.step(x), y)


def test_eager_by_name_stays() -> None:
    layer = gw.LSTM(3, 5, 2)
    x = torch.randn(4, 2, 3)
    with gw.backend("eager"):
        stream = layer.stream(2)
        whole, _ = layer(x)
    y = torch.stack([stream.step(row) for row in x])
    torch.testing.assert_close(y, whole)
    assert stream.backend == "eager: asked for by name"
    assert not y.requires_grad


def test_half_precision_runs_on_eager() -> None:
    layer = gw.GRU(3, 5, dtype=torch.float16)
    stream = layer.stream()
    out = torch.empty(1, 5, dtype=torch.float16)
    assert stream.step(torch.randn(1, 3, dtype=torch.float16), out) is out
    assert stream.state.dtype == torch.float16
    assert stream.backend.startswith("eager: the cpu backend computes in float32 and float64")


def test_backend_says_what_runs() -> None:
    assert gw.GRU(3, 5).stream().backend.startswith("cpu/")


def test_number_of_threads_may_change() -> None:
    layer = gw.GRU(64, 200)
    x = torch.randn(6, 1, 64)
    whole, _ = layer(x)
    with threads(1):
        stream = layer.stream()
    for t, count in enumerate((1, 2, 3, 1, 2, 1)):
        with threads(count):
            assert torch.equal(stream.step(x[t]), whole[t])
    alone = layer.stream(threads=1)
    assert torch.equal(torch.stack([alone.step(row) for row in x]), whole)
