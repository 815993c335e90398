"""What the exercises share: options, network, training and scores; each says only what its examples are."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.compiler import Cell
from gatewise.nn import Recurrent
from gatewise.nn.initialise import NAMED
from gatewise.tasks.base import Scores, Task, cell_of
from gatewise.tasks.errors import InputError
from gatewise.tasks.training import Objective, Schedule

EPOCHS = 20
HELD_OUT, VALIDATION = 1000, 500
_LARGEST = {"span": 10**6, "hidden_size": 1 << 14, "max_steps": 10**9, "batch_size": 10**6, "seed": 2**63 - 1}
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Inputs (T, B, features), and targets for the last ``len(targets)`` steps: numbers (S, B, outputs) in float32 or
    classes (S, B) in int64."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Options:
    """What an exercise was asked for; see ``Exercise``."""

    span: int
    hidden_size: int
    max_steps: int
    batch_size: int
    learning_rate: float
    clip_norm: float | None
    share: float
    initialise: str
    seed: int

    def __post_init__(self) -> None:
        for name, most in _LARGEST.items():
            value, least = getattr(self, name), 0 if name == "seed" else 1
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise InputError(f"{name} must be an integer from {least} to {most}, got {value!r}")
        for name, top in (("learning_rate", 1.0), ("share", 1.0), ("clip_norm", math.inf)):
            value = getattr(self, name)
            if name == "clip_norm" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= top:
                bound = "" if top == math.inf else f" and at most {top:g}"
                raise InputError(f"{name} must be a number above 0{bound}, got {value!r}")
        if self.initialise not in NAMED:
            raise InputError(f"initialise must be one of {', '.join(NAMED)}, got {self.initialise!r}")


class ExerciseNetwork(nn.Module):
    """A recurrent layer and a linear read-out of its last ``steps`` states."""

    def __init__(self, cell: Cell, features: int, hidden_size: int, outputs: int, steps: int, initialise: str) -> None:
        super().__init__()
        self.layer = Recurrent(cell, features, hidden_size, initialise=initialise)
        self.head = nn.Linear(hidden_size, outputs)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """From (T, B, features) to (steps, B, outputs)."""
        output: Tensor = self.head(self.layer(x)[0][-self.steps :])
        return output


class Exercise(Task):
    """One recurrent layer and a read-out, trained on examples whose answer is known.

    Args:
        span: steps over which something must be kept, or how far ahead is asked; see the exercise. cell: name or cell.
        hidden_size: units. max_steps: steps of AdamW in batches of ``batch_size``; ``learning_rate`` at its peak.
        clip_norm: largest norm of a gradient, or None. share: part of the training data that may be seen.
        initialise: how the layer starts, as for ``gatewise.Recurrent``. seed: same seed, same result.

    The held-out examples are the same for every seed and cell. ``fit`` takes no data.

    Raises:
        InputError: for a value out of range.
    """

    default_span: ClassVar[int]
    outputs: ClassVar[int]

    def __init__(
        self,
        span: int | None = None,
        cell: str | Cell = "gru",
        hidden_size: int = 32,
        max_steps: int = 1000,
        batch_size: int = 32,
        learning_rate: float = 5e-3,
        clip_norm: float | None = 1.0,
        share: float = 1.0,
        initialise: str = "torch",
        seed: int = 0,
    ) -> None:
        super().__init__()
        span = self.default_span if span is None else span
        rates = (learning_rate, clip_norm, share)
        self.asked = Options(span, hidden_size, max_steps, batch_size, *rates, initialise, seed)
        self._cell = cell_of(cell)
        if self._cell.inputs:
            raise InputError(f"cell must take nothing beside x, but {self._cell.name} takes {self._cell.inputs[0][0]}")

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

    @property
    def cell(self) -> Cell:
        return self._cell

    @property
    def seed(self) -> int:
        return self.asked.seed

    def options(self) -> dict[str, Any]:
        return asdict(self.asked)

    def read(self, data: Any, validation: Any = None) -> None:
        for name, value in (("data", data), ("validation", validation)):
            if value is not None:
                raise InputError(f"{name}: {self.name} makes its own examples and takes none, got {value!r}")

    def build(self) -> nn.Module:
        o = self.asked
        return ExerciseNetwork(self._cell, self.features, o.hidden_size, self.outputs, self.steps, o.initialise)

    def objective(self) -> ExerciseObjective:
        return ExerciseObjective(self)

    def schedule(self) -> Schedule:
        o = self.asked
        each = max(1, o.max_steps // EPOCHS)
        clip = math.inf if o.clip_norm is None else o.clip_norm
        epochs = -(-o.max_steps // each)
        return Schedule(epochs, each, o.learning_rate, epochs, o.max_steps, clip_norm=clip)

    def adopt(self, other: Any) -> None:
        """The examples follow from the options."""

    def save_data(self, folder: Path) -> None:
        """The examples follow from the options."""

    def load_data(self, folder: Path) -> None:
        """The examples follow from the options."""

    def same_data(self, other: Any) -> bool:
        return True

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
            outputs = {self._cell.name: self.fitted()(examples.inputs), **self.baselines(examples)}
        return {name: {self.metric: self.measure(out, examples.targets)} for name, out in outputs.items()}


class ExerciseObjective(Objective):
    """The loss and the validation of an exercise."""

    unit = "examples"

    def __init__(self, exercise: Exercise) -> None:
        self.exercise, self.module, self.metric = exercise, exercise.fitted(), exercise.metric
        self.validation = exercise.held_out("validation")

    def batches(self, generator: np.random.Generator) -> Iterator[Examples]:
        while True:
            yield self.exercise.training(self.exercise.asked.batch_size, generator)

    def loss(self, forward: Callable[..., Tensor], batch: Examples) -> Tensor:
        return self.exercise.loss(forward(batch.inputs), batch.targets)

    def size(self, batch: Examples) -> int:
        return batch.inputs.shape[1]

    def share(self, batch: Examples, rank: int, world: int) -> Examples:
        own = slice(rank, None, world)
        return Examples(batch.inputs[:, own], batch.targets[:, own])

    def validate(self) -> float:
        return self.exercise.measure(self.module(self.validation.inputs), self.validation.targets)
