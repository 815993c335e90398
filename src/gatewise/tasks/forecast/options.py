"""What a forecaster may be asked for, and the sentence for everything else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gatewise.tasks.errors import InputError

LARGEST = {"horizon": 10**6, "season": 10**6, "hidden_size": 1 << 14, "num_layers": 64}
LARGEST |= {"epochs": 10**9, "max_steps": 10**9, "patience": 10**9, "seed": 2**63 - 1}
MOST_WEIGHTS = 1 << 28
OPTIONAL = ("horizon", "season", "max_steps")


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
        for name, most in LARGEST.items():
            value = getattr(self, name)
            if value is not None or name not in OPTIONAL:
                _check_integer(name, value, 0 if name == "seed" else 1, most)
        if self.hidden_size**2 * self.num_layers > MOST_WEIGHTS:
            raise InputError(
                f"hidden_size squared times num_layers must be at most {MOST_WEIGHTS:,}, got {self.hidden_size} and "
                f"{self.num_layers}"
            )
        if not _is_real(self.dropout) or not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be a number of at least 0 and below 1, got {self.dropout!r}")
        if not _is_real(self.learning_rate) or not 0 < self.learning_rate <= 1:
            raise InputError(f"learning_rate must be a number above 0 and at most 1, got {self.learning_rate!r}")
        if self.label is not None and not isinstance(self.label, str):
            raise InputError(f"label must be a text or None, got {self.label!r}")


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_integer(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
    if value > most:
        raise InputError(f"{name} must be an integer of at most {most}, got {value!r}")
