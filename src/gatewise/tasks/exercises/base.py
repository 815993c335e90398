"""What the exercises share: options, network, training and scores; each says only what its examples are."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.nn import Recurrent
from gatewise.tasks.base import Scores, Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.exercises.options import EPOCHS, ExerciseOptions
from gatewise.tasks.objective import Objective, Schedule, own_rows
from gatewise.tasks.verbs import Fit, Score

HELD_OUT, VALIDATION = 1000, 500
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Inputs (T, B, features), and targets for the last ``len(targets)`` steps: numbers (S, B, outputs) in float32 or
    classes (S, B) in int64."""

    inputs: Tensor
    targets: Tensor


class ExerciseNetwork(nn.Module):
    """Recurrent layers and a linear read-out of their last ``steps`` states."""

    def __init__(self, features: int, outputs: int, steps: int, o: ExerciseOptions) -> None:
        super().__init__()
        self.layer = Recurrent(
            o.cell, features, o.hidden_size, o.num_layers, dropout=o.dropout, initialise=o.initialise
        )
        self.head = nn.Linear(o.hidden_size, outputs)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """From (T, B, features) to (steps, B, outputs)."""
        output: Tensor = self.head(self.layer(x)[0][-self.steps :])
        return output


class Exercise(Task):
    """Recurrent layers and a read-out, trained on examples whose answer is known.

    The held-out examples are the same for every seed and cell. ``fit`` takes no data.

    Raises:
        InputError: for a value out of range.
    """

    outputs: ClassVar[int]
    verbs: ClassVar[Mapping[str, str | type | None]] = {
        "fit": Fit,
        "predict": None,
        "score": Score,
        "export": "gatewise.tasks.exercises.export:ExportExercise",
    }
    options_type = ExerciseOptions
    options: ExerciseOptions

    # What an exercise says about itself

    @property
    @abstractmethod
    def features(self) -> int:
        """Width of the input."""

    @property
    def steps(self) -> int:
        """How many of the last outputs are asked for."""
        return 1

    @abstractmethod
    def training(self, size: int, generator: np.random.Generator) -> Examples:
        """A batch to train on."""

    @abstractmethod
    def held_out(self, part: str) -> Examples:
        """All examples of a part, ``validation`` or ``test``."""

    @abstractmethod
    def loss(self, output: Tensor, targets: Tensor) -> Tensor: ...

    @abstractmethod
    def measure(self, output: Tensor, targets: Tensor) -> float:
        """The metric."""

    @abstractmethod
    def baselines(self, examples: Examples) -> dict[str, Tensor]:
        """Outputs of naive answers, by name."""

    # The protocol

    def read(self, data: Any, validation: Any = None) -> None:
        for name, value in (("data", data), ("validation", validation)):
            if value is not None:
                raise InputError(f"{name}: {self.name} makes its own examples and takes none, got {value!r}")

    def build(self) -> nn.Module:
        return ExerciseNetwork(self.features, self.outputs, self.steps, self.options)

    def objective(self) -> ExerciseObjective:
        return ExerciseObjective(self)

    def steps_per_epoch(self) -> int:
        o = self.options
        return max(1, o.max_steps // (o.epochs or EPOCHS))

    def schedule(self) -> Schedule:
        clip = self.options.clip_norm
        clip_norm = math.inf if clip is None else clip
        return replace(super().schedule(), clip_norm=clip_norm, target=self.options.target)

    def predict(self, data: Any = None) -> dict[str, NDArray[Any]]:
        """The held-out examples: ``inputs`` (T, B, features), ``outputs`` (S, B, outputs) and ``targets``."""
        self.read(data)
        examples = self.held_out("test")
        with torch.no_grad():
            outputs = self.fitted()(examples.inputs)
        return {"inputs": examples.inputs.numpy(), "outputs": outputs.numpy(), "targets": examples.targets.numpy()}

    def score(self, data: Any = None) -> Scores:
        """The metric on the held-out examples, beside naive answers."""
        self.read(data)
        examples = self.held_out("test")
        with torch.no_grad():
            outputs = {self.cell.name: self.fitted()(examples.inputs), **self.baselines(examples)}
        return {name: {self.metric: self.measure(out, examples.targets)} for name, out in outputs.items()}


class ExerciseObjective(Objective):
    """The loss and the validation of an exercise."""

    unit = "examples"

    def __init__(self, exercise: Exercise) -> None:
        self.exercise, self.module, self.metric = exercise, exercise.fitted(), exercise.metric
        self.validation = exercise.held_out("validation")

    def batches(self, generator: np.random.Generator) -> Iterator[Examples]:
        while True:
            yield self.exercise.training(self.exercise.options.batch_size, generator)

    def loss(self, forward: Callable[..., Tensor], batch: Examples) -> Tensor:
        return self.exercise.loss(forward(batch.inputs), batch.targets)

    def size(self, batch: Examples) -> int:
        return batch.inputs.shape[1]

    def share(self, batch: Examples, rank: int, world: int) -> Examples:
        own = own_rows(self.size(batch), rank, world)
        return Examples(batch.inputs[:, own], batch.targets[:, own])

    def validate(self) -> float:
        outputs = self.module(self.validation.inputs.to(self.device))
        return self.exercise.measure(outputs.cpu(), self.validation.targets)
