"""An exercise's model for other programs: steps and the states before them in, answers and states out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.tasks.exercises.base import Exercise, ExerciseNetwork
from gatewise.tasks.exporting import Export
from gatewise.tasks.parts import Pair, Part, Parts, Port, Run, carried, states

PLAYED = 16
"""Examples of those held out that are compared."""


class Answers(nn.Module):
    """The network with an answer at every step and its states outside."""

    def __init__(self, network: ExerciseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        y, behind = self.network.layer(x, before[0] if len(before) == 1 else before)
        return self.network.head(y), *(behind if isinstance(behind, tuple) else (behind,))


@dataclass(frozen=True, kw_only=True)
class ExportExercise(Export):
    """Write the model in another format: steps and the states before them in, an answer for each step out."""

    def parts(self, task: Exercise) -> Parts:
        network = task.fitted()
        assert isinstance(network, ExerciseNetwork)
        layer = network.layer
        shape = (layer.num_layers, "batch", layer.hidden_size)
        before, behind = states(layer.cell.states, shape)
        generator = torch.Generator().manual_seed(0)

        def example(steps: int, rows: int) -> tuple[Tensor, ...]:
            x = torch.randn(steps, rows, layer.input_size, generator=generator)
            return x, *(torch.randn(shape[0], rows, layer.hidden_size, generator=generator) for _ in before)

        part = Part(
            "steps",
            Answers(network).eval(),
            (Port("input", ("time", "batch", layer.input_size), "steps of a sequence"), *before),
            (Port("output", ("time", "batch", task.outputs), "an answer at every step"), *behind),
            tuple(example(*sizes) for sizes in ((4, 3), (1, 1), (7, 2))),
            carried(before, behind),
        )
        about = {"answers": f"the last {task.steps} of a sequence are asked for"}
        return Parts((part,), about, lambda run: _played(task, run))


def _played(task: Exercise, run: Run) -> Iterator[Pair]:
    """The held-out examples in two parts, the second from the states that the first left."""
    examples = task.held_out("test").inputs[:, :PLAYED]
    layer: Any = task.fitted().layer
    expected = task.fitted()(examples)
    start = torch.zeros(layer.num_layers, examples.shape[1], layer.hidden_size).numpy()
    given = {f"{name}_0": start for name in layer.cell.states}
    outputs = []
    for piece in examples.split([1, len(examples) - 1]) if len(examples) > 1 else [examples]:
        found = run("steps", {"input": piece.numpy(), **given})
        given = {f"{name}_0": found[f"{name}_n"] for name in layer.cell.states}
        outputs.append(torch.from_numpy(found["output"]))
    answers = torch.cat(outputs)[-task.steps :]
    yield "the answers to held-out examples", expected.numpy(), answers.numpy()
