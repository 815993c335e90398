"""Streams on a GPU, by a twin of CUDA graphs that repeats operations on the memory which they were recorded with."""

import pytest
import torch
from kernel_cells import ALL
from replaying import replayed
from torch import Tensor

import gatewise as gw
from gatewise.backends import cuda
from gatewise.backends.cuda import steps

T, ROWS, INPUTS, UNITS = 5, 2, 3, 6


@pytest.fixture(autouse=True)
def twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cuda backend takes tensors in main memory."""
    monkeypatch.setattr(steps, "by_graph", lambda device: replayed)
    monkeypatch.setattr(cuda, "_problem", lambda: "")
    offer = cuda.Cuda.offer
    monkeypatch.setattr(cuda.Cuda, "offer", lambda self, _, *rest: offer(self, "cuda", *rest))


def whole(layer: gw.Recurrent, x: Tensor, **given: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad(), gw.backend("eager"):
        return layer(x, **given)


def streamed(layer: gw.Recurrent) -> gw.nn.stream.Stream:
    with gw.backend("cuda"):
        return layer.stream(ROWS)


def taken(stream: gw.nn.stream.Stream, x: Tensor, **given: Tensor) -> Tensor:
    return torch.stack([stream.step(x[t], **{n: v[t] for n, v in given.items()}) for t in range(len(x))])


@pytest.mark.parametrize("name", ["gru", "lstm_peephole", "gru_d", "driven"])
def test_a_step_after_the_other_gives_the_sequence(name: str) -> None:
    torch.manual_seed(0)
    layer = gw.Recurrent(ALL[name], INPUTS, UNITS, num_layers=1 if ALL[name].inputs else 2)
    widths = {"input": INPUTS, "hidden": UNITS}
    given = {n: torch.rand(T, ROWS, int(widths.get(str(w), w))) for n, w in ALL[name].inputs}
    x, stream = torch.randn(T, ROWS, INPUTS), streamed(layer)
    y, final = whole(layer, x, **given)
    torch.testing.assert_close(taken(stream, x, **given), y)
    torch.testing.assert_close(stream.state, final)
    assert stream.backend == "cuda/tf32: asked for by name, each step a CUDA graph of torch's operations"


def test_states_and_weights_are_taken_over_by_what_was_recorded() -> None:
    torch.manual_seed(0)
    layer, x = gw.GRU(INPUTS, UNITS, learn_initial_state=True), torch.randn(T, ROWS, INPUTS)
    stream = streamed(layer)
    taken(stream, x)
    stream.reset()
    torch.testing.assert_close(taken(stream, x), whole(layer, x)[0])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.5)
    stream.refresh()
    start = torch.randn(1, ROWS, UNITS)
    stream.state = start
    with torch.no_grad(), gw.backend("eager"):
        torch.testing.assert_close(taken(stream, x), layer(x, start)[0])


def test_bfloat16_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    layer, x = gw.LSTM(INPUTS, UNITS, dtype=torch.bfloat16), torch.randn(T, ROWS, INPUTS, dtype=torch.bfloat16)
    found = taken(streamed(layer), x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, whole(layer, x)[0])
