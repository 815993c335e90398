"""What a forecaster may be asked for, and the sentence for everything else."""

from __future__ import annotations

from dataclasses import dataclass

from gatewise.tasks.checks import check_integer, check_share, check_size, check_training
from gatewise.tasks.errors import InputError

MOST_STEPS = 10**6


@dataclass(frozen=True)
class Options:
    """What a forecaster was asked for; see ``Forecaster``."""

    horizon: int | None
    season: int | None
    hidden_size: int
    num_layers: int
    dropout: float
    epochs: int
    max_steps: int | None
    learning_rate: float
    patience: int
    seed: int
    label: str | None

    def __post_init__(self) -> None:
        for name, value in (("horizon", self.horizon), ("season", self.season)):
            if value is not None:
                check_integer(name, value, 1, MOST_STEPS)
        check_size(self.hidden_size, self.num_layers)
        check_share("dropout", self.dropout)
        check_training(self.epochs, self.max_steps, self.learning_rate, self.patience, self.seed)
        if self.label is not None and not isinstance(self.label, str):
            raise InputError(f"label must be a text or None, got {self.label!r}")
