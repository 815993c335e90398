"""torch's own RNNs as a way of their own: the same numbers as ``eager``, for calls that are theirs."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

import gatewise as gw
from gatewise import backends, cells
from gatewise.backends import cudnn, eager
from gatewise.backends.base import Choice
from gatewise.compiler.cell import Cell

OWN = [cells.gru_reset_after, cells.lstm, cells.rnn, cells.rnn_relu]
T, B, WIDTH, UNITS = 5, 3, 4, 6


def given(cell: Cell, biases: str) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    torch.manual_seed(1)
    gates, own = len(cell.rows("weight_hh")), len(cell.rows("bias_hh"))
    parameters = {"weight_ih": torch.randn(gates * UNITS, WIDTH), "weight_hh": torch.randn(gates * UNITS, UNITS)}
    if biases != "none":
        parameters["bias_ih"] = torch.randn(gates * UNITS)
        rows = gates if biases == "torch's" else own
        if rows:
            parameters["bias_hh"] = torch.randn(rows * UNITS)
    states = [torch.randn(B, UNITS) for _ in cell.states]
    return torch.randn(T, B, WIDTH), states, parameters


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("biases", ["none", "ours", "torch's"])
@pytest.mark.parametrize("cell", OWN, ids=str)
def test_outputs_and_gradients_are_those_of_eager(cell: Cell, biases: str, reverse: bool) -> None:
    x, states, parameters = given(cell, biases)
    x, states = x.double(), [s.double() for s in states]
    parameters = {name: p.double() for name, p in parameters.items()}
    leaves = [t.requires_grad_() for t in chain([x], states, parameters.values())]
    found = []
    for way in (cudnn.sequence, eager.sequence):
        more = ({},) if way is eager.sequence else ()
        y, finals = way(cell, x, *more, states, parameters, reverse=reverse)  # type: ignore[operator]
        loss = y.square().sum() + sum(((k + 2) * f).sum() for k, f in enumerate(finals))
        found.append([y, *finals, *torch.autograd.grad(loss, leaves)])
    for ours, truth in zip(*found, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-10)


def test_nothing_is_rounded_under_autocast() -> None:
    x, states, parameters = given(cells.lstm, "ours")
    truth = cudnn.sequence(cells.lstm, x, states, parameters)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cudnn.sequence(cells.lstm, x, states, parameters)[0], truth)


@pytest.mark.parametrize("biases", ["none", "ours"])
def test_weights_lie_side_by_side_in_the_order_of_cudnn(biases: str) -> None:
    _, _, parameters = given(cells.gru_reset_after, biases)
    weights = cudnn._weights(cells.gru_reset_after, parameters)
    assert [w.shape for w in weights] == [(18, WIDTH), (18, UNITS), (18,), (18,)]
    ends = [w.data_ptr() + w.numel() * w.itemsize for w in weights]
    assert ends[:-1] == [w.data_ptr() for w in weights[1:]]


# --- the choice, which needs no card ---


@pytest.fixture
def with_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose torch has cuDNN."""
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)


def on_a_gpu(cell: Cell, dtype: torch.dtype = torch.float32, device: str = "cuda") -> Choice:
    return backends.choose(torch.device(device), dtype, None, cell, 64)


@pytest.mark.parametrize("cell", OWN, ids=str)
def test_torchs_own_formulas_go_to_cudnn(cell: Cell, with_cudnn: None) -> None:
    for dtype in (torch.float32, torch.float16):
        choice = on_a_gpu(cell, dtype)
        assert str(choice) == "cudnn"
        assert choice.reason.startswith(f"torch's {cudnn.FORMULAS[cell.body()][0]} runs it, with lengths or reset the")
        assert "cuda backend" in choice.reason


@pytest.mark.parametrize(
    ("cell", "how"),
    [
        (cells.gru, {}),
        (cells.mgu, {}),
        (cells.lstm_peephole, {}),
        (cells.lstm, {"dtype": torch.float64}),
        (cells.lstm, {"dtype": torch.float16, "device": "cpu"}),
    ],
)
def test_everything_else_goes_to_eager(cell: Cell, how: dict[str, Any], with_cudnn: None) -> None:
    assert on_a_gpu(cell, **how).name == "eager"


def test_a_wish_comes_first(with_cudnn: None) -> None:
    with gw.backend("eager"):
        assert on_a_gpu(cells.lstm) == Choice("eager", "", "asked for by name")
    with torch.backends.cudnn.flags(enabled=False):
        assert on_a_gpu(cells.lstm).name == "eager"


def test_a_compiled_program_holds_steps(with_cudnn: None) -> None:
    """And the choice itself is compiled without a break."""

    @torch.compile(fullgraph=True, backend="eager")
    def compiled(x: Tensor) -> Tensor:
        return x + float(on_a_gpu(cells.lstm).name == "eager")

    with gw.backend("auto"):  # whatever a test before asked for
        found = [float(compiled(torch.zeros(1))), float(on_a_gpu(cells.lstm).name == "eager")]
    assert found == [1.0, 0.0]


def test_the_name_is_no_backend_to_ask_for() -> None:
    with (
        pytest.raises(ValueError, match="backend must be one of auto, cpu, cuda, eager, got 'cudnn'"),
        gw.backend("cudnn"),
    ):
        pass


def test_info_has_a_sentence_on_it(with_cudnn: None) -> None:
    said = backends.report()["backends"]
    assert isinstance(said, dict)
    assert list(said) == ["cpu", "cuda", "cudnn", "eager"]
    assert said["cudnn"].startswith("torch's own formulas (GRU, LSTM, RNN, RNN with relu) on a GPU")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["gru_reset_after", "lstm", "rnn"])
def test_layers_on_a_card(name: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer = gw.Recurrent(name, 16, 32, num_layers=2, bidirectional=True, bias=bias).to("cuda")
    x, lengths = torch.randn(20, 8, 16, device="cuda"), torch.arange(13, 21)
    assert layer.backend.startswith("cudnn: torch's")
    for more in ({}, {"lengths": lengths}):
        y = layer(x, **more)[0]
        with gw.backend("eager"):
            torch.testing.assert_close(y, layer(x, **more)[0], rtol=2e-3, atol=2e-3)
