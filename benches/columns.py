"""What is measured: each column makes a layer, gives it weights shared by its formula, and returns it as a callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import gatewise as gw
from benches.shapes import Shape

Build = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Column:
    """A layer to be timed. ``rival`` names the column of torch whose time is divided by this one's."""

    name: str
    title: str
    formula: str
    build: Build
    rival: str = ""


class LoopGRU(nn.Module):
    """Reset before the product as one writes it by hand: one input product for all steps, then a Python loop."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(3 * hidden_size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.weight_hh_l0.shape[1]
        gates, candidate = self.weight_hh_l0.split([2 * hidden, hidden])
        h = x.new_zeros(x.shape[1], hidden)
        outputs = []
        # Indexing gx[t] instead of unbinding makes the backward quadratic in the number of steps.
        for gx in nn.functional.linear(x, self.weight_ih_l0, self.bias_ih_l0).unbind(0):
            r, z = torch.sigmoid(torch.addmm(gx[:, : 2 * hidden], h, gates.T)).chunk(2, 1)
            n = torch.tanh(torch.addmm(gx[:, 2 * hidden :], r * h, candidate.T))
            h = n + z * (h - n)
            outputs.append(h)
        return torch.stack(outputs), h.unsqueeze(0)


REFERENCES: dict[str, Build] = {
    "gru_after": lambda i, h: gw.GRU(i, h, reset_after=True),
    "gru_before": gw.GRU,
    "lstm": gw.LSTM,
}
"""The layer of each formula that gives the weights, and in float64 on the eager backend the right numbers."""

COLUMNS = (
    Column("torch_gru", "torch.nn.GRU", "gru_after", nn.GRU),
    Column("gru_after", "GRU(reset_after)", "gru_after", REFERENCES["gru_after"], "torch_gru"),
    Column("gru_before", "GRU", "gru_before", REFERENCES["gru_before"], "torch_gru"),
    Column("torch_lstm", "torch.nn.LSTM", "lstm", nn.LSTM),
    Column("lstm", "LSTM", "lstm", REFERENCES["lstm"], "torch_lstm"),
)
LOOP = Column("torch_loop", "torch loop", "gru_before", LoopGRU)


@dataclass(frozen=True)
class Problem:
    """One formula's weights, an input, and the gradient that arrives at the output."""

    parameters: Mapping[str, Tensor]
    x: Tensor
    dy: Tensor

    @classmethod
    def of(cls, shape: Shape, formula: str) -> Problem:
        torch.manual_seed(0)
        layer = REFERENCES[formula](shape.input, shape.hidden)
        parameters = {name: value.detach().clone() for name, value in layer.named_parameters()}
        x = torch.randn(shape.time, shape.batch, shape.input)
        return cls(parameters, x, torch.randn(shape.time, shape.batch, shape.hidden))

    def shortened(self, steps: int) -> Problem:
        return Problem(self.parameters, self.x[:steps].contiguous(), self.dy[:steps].contiguous())


def fill(layer: nn.Module, parameters: Mapping[str, Tensor]) -> nn.Module:
    """Give a layer weights, by name; every one of its parameters must be among them."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(parameters[name])
    return layer


def call(layer: nn.Module, problem: Problem, training: bool) -> Callable[[], list[Tensor]]:
    """What is timed: outputs; in training also gradients of the input and of every weight."""
    x = problem.x
    if not training:
        return lambda: _outputs(layer, x)
    x = x.detach().requires_grad_()
    wanted = [x, *layer.parameters()]

    def train() -> list[Tensor]:
        outputs = _outputs(layer, x)
        return outputs + list(torch.autograd.grad(outputs[0], wanted, problem.dy))

    return train


def labelled(layer: nn.Module, results: list[Tensor], training: bool) -> dict[str, Tensor]:
    """The results of ``call`` by what they are."""
    gradients = ["gradient of x", *(f"gradient of {name}" for name, _ in layer.named_parameters())] if training else []
    finals = [f"final state {k}" for k in range(len(results) - 1 - len(gradients))]
    return dict(zip(["y", *finals, *gradients], results, strict=True))


def _outputs(layer: nn.Module, x: Tensor) -> list[Tensor]:
    y, final = layer(x)
    return [y, *(final if isinstance(final, tuple) else (final,))]
