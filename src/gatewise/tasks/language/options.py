"""What a language model may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gatewise.compiler import Cell
from gatewise.tasks import checks
from gatewise.tasks.errors import InputError
from gatewise.tasks.options import TaskOptions, again, option
from gatewise.tasks.text.tokenizers import KINDS

STEPS, EMBEDDED_STEPS = 2400, 1600
"""Of a training that nobody gave a length: three minutes, and two for the embedded text, on two quiet cores."""
EMBEDDING = {"char": 64, "byte": 64}
EMBEDDING_OF_PIECES = 256
MOST_PIECES = 10**6
LEAST_PIECES = 257


def _tokenizer(name: str, value: Any) -> None:
    if value not in KINDS and not (isinstance(value, str) and value.endswith(".json")):
        raise InputError(f"{name} must be one of {', '.join(KINDS)} or the path of a tokenizer.json, got {value!r}")


def _separator(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} must be a text that is not empty, got {value!r}")


def _part(name: str, value: Any) -> None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not 0 < value < 1:
        raise InputError(f"{name} must be a number above 0 and below 1, got {value!r}")


def _cutoffs(name: str, value: Any) -> None:
    try:
        numbers = ranks(value)
    except (ValueError, AttributeError):
        numbers = []
    if not numbers or any(a >= b for a, b in pairwise([0, *numbers])):
        raise InputError(f"{name} must be rising numbers from 1 on with commas, such as 2000,10000, got {value!r}")


def ranks(cutoffs: str) -> list[int]:
    """The numbers in ``cutoffs``."""
    return [int(part) for part in cutoffs.split(",")]


@dataclass(frozen=True, kw_only=True)
class LanguageOptions(TaskOptions):
    """What a language model may be asked for. What is None depends on the data."""

    tokenizer: str = option(
        "char", f"What the text is cut into: {', '.join(KINDS)}, or the path of a tokenizer.json.", _tokenizer
    )
    vocabulary_size: int = option(4096, "Tokens of a `bpe` tokenizer.", checks.integer(LEAST_PIECES, MOST_PIECES))
    separator: str | None = option(
        None, "Text between documents of one file, such as <|endoftext|>.", _separator, shown="a file is one"
    )
    held_out: float = option(0.1, "Share of the text, its last, to validate on where no other text is given.", _part)
    cell: Cell = again(TaskOptions, "cell", "gru_reset_after")
    hidden_size: int = again(TaskOptions, "hidden_size", 512)
    embedding_size: int | None = option(
        None,
        "Numbers of an embedded token.",
        checks.integer(1, checks.MOST_UNITS),
        shown=f"{EMBEDDING['char']}; of sub-words {EMBEDDING_OF_PIECES}",
    )
    dropout: float = option(0.2, "Share dropped of each layer's output in training.", checks.share)
    input_dropout: float = option(0.0, "Share dropped of embedded tokens' units.", checks.share)
    embedding_dropout: float = option(0.0, "Share of tokens whose embedding is zero in a window.", checks.share)
    weight_dropout: float = option(0.0, "Share dropped of the weights on the state.", checks.share)
    locked: bool = option(False, "Drop the same units at all steps of a window.", checks.flag)
    layer_norm: bool = option(False, "Normalise each layer's output.", checks.flag)
    tied: bool = option(False, "Predict with the weights of the embedding.", checks.flag)
    cutoffs: str | None = option(
        None,
        "Of an adaptive softmax: ranks at which its clusters begin, such as 2000,10000.",
        _cutoffs,
        shown="one softmax over all tokens",
        listed="NUMBERS",
    )
    batch_size: int = option(32, "Streams of text that are read side by side.", checks.integer(1, checks.MOST))
    sequence_length: int = option(64, "Tokens through which a gradient goes back.", checks.integer(1, checks.MOST))
    weight_decay: float = option(0.01, "Of AdamW.", checks.share)
    clip_norm: float = option(1.0, "Norm to which gradients are cut.", checks.number_above_zero())
    warmup: float = option(0.05, "Share of the steps in which the learning rate rises.", checks.share)
    average: float = option(0.0, "Decay of the mean of the weights that is kept; 0 for none.", checks.share)
    learning_rate: float = again(TaskOptions, "learning_rate", 4e-3)
    max_steps: int | None = again(
        TaskOptions, "max_steps", None, f"without epochs {STEPS:,}; embedded text: {EMBEDDED_STEPS:,}"
    )
    epochs: int | None = again(TaskOptions, "epochs", None, "what max_steps makes")

    def check(self) -> None:
        super().check()
        if self.tied and self.cutoffs is not None:
            raise InputError("tied and cutoffs do not go together: an adaptive softmax has weights of its own")
