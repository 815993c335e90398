"""What a translator may be asked for, and the sentence for everything else."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from gatewise.tasks.checks import (
    MOST_UNITS,
    check_choice,
    check_flag,
    check_integer,
    check_share,
    check_size,
    check_training,
)
from gatewise.tasks.errors import InputError
from gatewise.tasks.translate.network import DECODERS
from gatewise.tasks.translate.vocabulary import KINDS

LEAST_PIECES = 8
MOST_PIECES = 10**6


@dataclass(frozen=True)
class Options:
    """What a translator was asked for; see ``Translator``. What is None depends on the data."""

    decoder: str
    hidden_size: int | None
    embedding_size: int | None
    num_layers: int
    dropout: float | None
    label_smoothing: float | None
    vocabulary: str | None
    vocabulary_size: int
    joint: bool | None
    lowercase: bool
    normalise: bool
    longest: int
    batch_size: int
    average: float | None
    epochs: int | None
    max_steps: int | None
    learning_rate: float | None
    patience: int
    seed: int

    def __post_init__(self) -> None:
        check_choice("decoder", self.decoder, DECODERS)
        check_size(1 if self.hidden_size is None else self.hidden_size, self.num_layers)
        if self.hidden_size is not None and self.hidden_size % 2:
            raise InputError(f"hidden_size must be even, since both directions share it, got {self.hidden_size}")
        if self.embedding_size is not None:
            check_integer("embedding_size", self.embedding_size, 1, MOST_UNITS)
        for name in ("dropout", "label_smoothing", "average"):
            if getattr(self, name) is not None:
                check_share(name, getattr(self, name))
        if self.vocabulary is not None:
            check_choice("vocabulary", self.vocabulary, KINDS)
        check_integer("vocabulary_size", self.vocabulary_size, LEAST_PIECES, MOST_PIECES)
        for name in ("joint", "lowercase", "normalise"):
            if getattr(self, name) is not None:
                check_flag(name, getattr(self, name))
        check_integer("longest", self.longest, 1, MOST_PIECES)
        check_integer("batch_size", self.batch_size, 1, MOST_PIECES)
        rate = 1e-3 if self.learning_rate is None else self.learning_rate
        check_training(1 if self.epochs is None else self.epochs, self.max_steps, rate, self.patience, self.seed)

    def filled(self, defaults: dict[str, Any]) -> Options:
        """With these values where none was asked for."""
        unset = [f.name for f in fields(self) if getattr(self, f.name) is None]
        return replace(self, **{name: defaults[name] for name in unset if name in defaults})
