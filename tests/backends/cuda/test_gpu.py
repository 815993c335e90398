"""What only a card can prove; skipped where there is none. The same layers run on the emulation in ``test_calls``."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cuda_layers import near, trained
from kernel_cells import BUILT_IN

import gatewise as gw
from gatewise.backends import cuda

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]
LIMITS = {torch.float32: 2e-3, torch.float16: 4e-3, torch.bfloat16: 2e-2}
"""On an H200 nothing was wrong by more than 0.0005, 0.0006 and 0.006, but for gradients through a bend."""
BENT, BENT_LIMIT = ("rnn_relu", "light_gru", "gru_d"), 0.1
"""Cells with relu or maximum: where rounding moves a value across the bend, its whole gradient is there or is not. So
the error is that of the share of such values, up to 0.06 in bfloat16."""
SHAPES = [(5, 20, 32, 256), (17, 20, 32, 256), (1, 9, 16, 128), (3, 9, 24, 112), (64, 12, 64, 512), (300, 7, 64, 100)]
"""Rows, steps, inputs, units."""


def gru(units: int = 128, **more: object) -> gw.GRU:
    torch.manual_seed(0)
    return gw.GRU(32, units, device="cuda", **more)


@pytest.fixture
def named() -> Iterator[None]:
    with gw.backend("cuda"):
        yield


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", BUILT_IN)
def test_every_cell(cell: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    rows, steps, inputs, units = shape
    torch.manual_seed(0)
    layer = gw.Recurrent(BUILT_IN[cell], inputs, units, device="cuda", dtype=dtype)
    widths = {"input": inputs, "hidden": units}
    given = {
        name: torch.rand(steps, rows, int(widths.get(str(width), width)), device="cuda", dtype=dtype)
        for name, width in BUILT_IN[cell].inputs
    }
    limit = BENT_LIMIT if cell in BENT else LIMITS[dtype]
    near(layer, torch.randn(steps, rows, inputs, device="cuda", dtype=dtype), limit, **given)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_a_layer_takes_it_by_itself(dtype: torch.dtype) -> None:
    layer = gru(dtype=dtype)
    if torch.cuda.get_device_capability() == (9, 0):
        assert layer.backend.startswith(f"cuda/{cuda.TIERS[dtype]}: compiled for this machine")
    else:
        assert "was not run on a card of this kind" in layer.backend
    assert gru(dtype=torch.float64).backend.startswith("eager: ")


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("form", ["directions", "lengths", "reset", "recompute"])
def test_what_layers_do_around_it(form: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kind = {"num_layers": 2, "bidirectional": form != "reset", "recompute": form == "recompute"}
    layer = gw.LSTM(24, 80, device="cuda", dtype=dtype, **kind)
    x = torch.randn(15, 7, 24, device="cuda", dtype=dtype)
    given = {"lengths": torch.tensor([15, 3, 9, 1, 15, 8, 2])} if form == "lengths" else {}
    given |= {"reset": torch.rand(15, 7, device="cuda") < 0.2} if form == "reset" else {}
    near(layer, x, LIMITS[dtype], **given)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
def test_states_keep_the_precision_that_they_came_in(kind: torch.dtype, named: None) -> None:
    """In chunks with states in float32 there is no rounding between them, in bfloat16 there is."""
    layer, x = gru(dtype=torch.bfloat16), torch.randn(20, 8, 32, device="cuda", dtype=torch.bfloat16)
    state = torch.zeros(1, 8, 128, device="cuda", dtype=kind)
    with torch.no_grad():
        whole, final = layer(x, state)
        first, between = layer(x[:9], state)
        second, last = layer(x[9:], between)
    assert final.dtype == between.dtype == last.dtype == kind
    assert torch.equal(torch.cat([first, second]), whole) == (kind == torch.float32)


def test_the_same_bits_each_time() -> None:
    layer, x = gru(512), torch.randn(200, 64, 32, device="cuda")
    first = trained(layer, x, "cuda")
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(first, trained(layer, x, "cuda"), strict=True))


def test_a_call_is_recorded_into_a_graph(named: None) -> None:
    layer, x = gru(), torch.randn(20, 8, 32, device="cuda")
    with torch.no_grad():
        expected = layer(x)[0]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            layer(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(x)[0]
        graph.replay()
    assert torch.equal(y, expected)


def test_what_is_not_loaded_cannot_be_recorded(named: None) -> None:
    layer, x = gru(80), torch.randn(2, 3, 32, device="cuda")
    sentence = pytest.raises(RuntimeError, match="make the same call once before")
    with sentence, torch.no_grad(), torch.cuda.graph(torch.cuda.CUDAGraph()):
        layer(x)


def test_a_stream_replays_its_steps(named: None) -> None:
    layer, x = gru(), torch.randn(20, 8, 32, device="cuda")
    stream = layer.stream(8)
    with torch.no_grad(), gw.backend("eager"):
        y, final = layer(x)
    torch.testing.assert_close(torch.stack([stream.step(part) for part in x]), y, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(stream.state, final, rtol=1e-3, atol=1e-4)


def test_a_thread_of_its_own(named: None) -> None:
    layer, x = gru(), torch.randn(20, 8, 32, device="cuda")
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: trained(layer, x, "cuda")).result()
    assert all(torch.equal(a, b) for a, b in zip(found, trained(layer, x, "cuda"), strict=True))


def test_compiled_by_torch(named: None) -> None:
    layer, x = gru(), torch.randn(20, 8, 32, device="cuda")
    compiled = torch.compile(layer, fullgraph=True)
    assert torch.equal(compiled(x)[0], layer(x)[0])


def test_streams_at_once(named: None) -> None:
    layer = gru(512)
    xs = [torch.randn(100, 64, 32, device="cuda") for _ in range(4)]
    with torch.no_grad():
        expected = [layer(x)[0] for x in xs]
        streams = [torch.cuda.Stream() for _ in xs]
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream())
        found = []
        for stream, x in zip(streams, xs, strict=True):
            with torch.cuda.stream(stream):
                found.append(layer(x)[0])
        torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU here")
def test_a_second_card(named: None) -> None:
    layer, x = gru(), torch.randn(20, 8, 32, device="cuda")
    expected = layer(x)[0].cpu()
    assert torch.equal(layer.to("cuda:1")(x.to("cuda:1"))[0].cpu(), expected)


def test_weights_that_do_not_fit_get_a_sentence(named: None) -> None:
    layer = gw.LSTM(32, 4096, device="cuda")
    with pytest.raises(RuntimeError, match="the cuda backend cannot run this call: the weights of 4 products"):
        layer(torch.randn(3, 16, 32, device="cuda"))
