"""What a column is given, and what it gives: weights and input of one formula; a call to time and results to check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import gatewise as gw
from benches.shapes import STEP, TRAINED, Shape

Build = Callable[[int, int], nn.Module]

REFERENCES: dict[str, Build] = {
    "gru_after": lambda i, h: gw.GRU(i, h, reset_after=True),
    "gru_before": gw.GRU,
    "lstm": gw.LSTM,
}
"""The layer of each formula that gives the weights, and in float64 on the eager backend the right numbers."""
STREAMED = 8
"""Steps in a row that a stream is checked on."""


@dataclass(frozen=True)
class Problem:
    """One formula's weights, an input, and the gradient that arrives at the output.

    Of a step of a stream, ``x`` holds several: one is timed, all in a row are checked.
    """

    reference: Build
    parameters: Mapping[str, Tensor]
    x: Tensor
    dy: Tensor
    kind: str

    @classmethod
    def of(cls, shape: Shape, formula: str) -> Problem:
        """The problem of one of the formulas that have references."""
        return cls.made(shape, REFERENCES[formula])

    @classmethod
    def made(cls, shape: Shape, reference: Build) -> Problem:
        """A problem with the weights of a fresh layer; the same every time."""
        torch.manual_seed(0)
        layer = reference(shape.input, shape.hidden)
        parameters = {name: value.detach().clone() for name, value in layer.named_parameters()}
        time = STREAMED if shape.kind == STEP else shape.time
        x = torch.randn(time, shape.batch, shape.input)
        return cls(reference, parameters, x, torch.randn(time, shape.batch, shape.hidden), shape.kind)

    @property
    def training(self) -> bool:
        return self.kind in TRAINED

    @property
    def sizes(self) -> tuple[int, int]:
        """Widths of x and of the state."""
        return self.x.shape[2], self.dy.shape[2]

    def shortened(self, steps: int) -> Problem:
        """The first steps alone."""
        return replace(self, x=self.x[:steps].contiguous(), dy=self.dy[:steps].contiguous())


@dataclass(frozen=True)
class Run:
    """A layer that holds its weights and its input: ``call`` is timed, ``results`` are checked, by name.

    The names are ``y``, ``final state 0`` …, and in training ``gradient of x``, ``gradient of weight_ih_l0`` …; of a
    stream ``y`` alone, over all steps.
    """

    call: Callable[[], object]
    results: Callable[[], dict[str, Tensor]]


Start = Callable[[Problem], Run]


def fill(layer: nn.Module, parameters: Mapping[str, Tensor], suffix: str = "") -> nn.Module:
    """Give a layer weights, by name and suffix; every one of its parameters must be among them."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(parameters[name + suffix])
    return layer


def whole(layer: nn.Module, problem: Problem) -> Run:
    """A layer of torch's kind called on a whole sequence; in training also its gradients of input and weights."""
    return _run(lambda x: _outputs(*layer(x)), layer, problem)


def single(cell: nn.Module, problem: Problem) -> Run:
    """A cell of torch's kind called with the only step; its results are those of a layer with one step."""
    fill(cell, problem.parameters, "_l0")

    def call(x: Tensor) -> list[Tensor]:
        found = cell(x[0])
        states = found if isinstance(found, tuple) else (found,)
        return [state.unsqueeze(0) for state in (states[0], *states)]

    if problem.training:
        return _run(call, cell, problem, "_l0")
    row = problem.x[0]
    return Run(lambda: cell(row), lambda: named(call(problem.x)))


def _run(call: Callable[[Tensor], list[Tensor]], layer: nn.Module, problem: Problem, suffix: str = "") -> Run:
    x = problem.x
    if not problem.training:
        return Run(lambda: call(x), lambda: named(call(x)))
    x = x.detach().requires_grad_()
    wanted = [x, *layer.parameters()]
    names = ["x", *(name + suffix for name, _ in layer.named_parameters())]

    def train() -> list[Tensor]:
        outputs = call(x)
        return outputs + list(torch.autograd.grad(outputs[0], wanted, problem.dy))

    return Run(train, lambda: named(train(), names))


def named(results: Sequence[Tensor], gradients: Sequence[str] = ()) -> dict[str, Tensor]:
    """Output, final states and gradients by what they are."""
    finals = [f"final state {k}" for k in range(len(results) - 1 - len(gradients))]
    names = ["y", *finals, *(f"gradient of {name}" for name in gradients)]
    return dict(zip(names, results, strict=True))


def _outputs(y: Tensor, final: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [y, *(final if isinstance(final, tuple) else (final,))]
