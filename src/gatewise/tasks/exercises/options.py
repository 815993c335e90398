"""What an exercise may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from gatewise.tasks import checks
from gatewise.tasks.options import TaskOptions, again, option

EPOCHS = 20
LONGEST = 10**6


def _span(default: int, help: str, longest: int = LONGEST) -> int:
    """The option ``span`` of an exercise."""
    found: int = option(default, help, checks.integer(1, longest))
    return found


@dataclass(frozen=True, kw_only=True)
class ExerciseOptions(TaskOptions):
    """What an exercise may be asked for."""

    span: int = _span(50, "Steps over which something must be kept.")
    hidden_size: int = again(TaskOptions, "hidden_size", 32)
    epochs: int | None = again(TaskOptions, "epochs", None, f"{EPOCHS}, of equal shares of max_steps")
    max_steps: int = again(TaskOptions, "max_steps", 1000)
    learning_rate: float = again(TaskOptions, "learning_rate", 5e-3)
    patience: int | None = again(TaskOptions, "patience", None, "all epochs")
    batch_size: int = option(32, "Examples of a step.", checks.integer(1, 10**6))
    clip_norm: float | None = option(1.0, "Largest norm of a gradient.", checks.number_above_zero(), may_be_none=True)
    target: float | None = option(
        None,
        "Validation figure at which training stops, since the exercise is solved.",
        checks.number_above_zero(),
        may_be_none=True,
        shown="none: all steps",
    )
    share: float = option(1.0, "Fraction of the training data to use.", checks.number_above_zero(1))


@dataclass(frozen=True, kw_only=True)
class AddingOptions(ExerciseOptions):
    """What the adding problem may be asked for."""

    span: int = _span(50, "Steps of a sequence.", 1 << 14)


@dataclass(frozen=True, kw_only=True)
class CopyOptions(ExerciseOptions):
    """What copy memory may be asked for."""

    span: int = _span(20, "Empty steps between the symbols and the signal.", 1 << 14)


@dataclass(frozen=True, kw_only=True)
class DigitsOptions(ExerciseOptions):
    """What the digits may be asked for."""

    span: int = _span(64, "Steps of a digit: 64 for a pixel a step, 8 for a row a step.", 64)


@dataclass(frozen=True, kw_only=True)
class MackeyGlassOptions(ExerciseOptions):
    """What the chaotic series may be asked for."""

    span: int = _span(12, "Steps ahead.", 400)
