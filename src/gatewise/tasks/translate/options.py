"""What a translator may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from gatewise.tasks import checks
from gatewise.tasks.errors import InputError
from gatewise.tasks.options import TaskOptions, again, option
from gatewise.tasks.text.vocabulary import KINDS
from gatewise.tasks.translate.network import DECODERS

LEAST_PIECES = 8
MOST_PIECES = 10**6
PHRASES = {"hidden_size": 192, "embedding_size": 96, "vocabulary": "words", "joint": False, "dropout": 0.1}
PHRASES |= {"label_smoothing": 0.0, "learning_rate": 4e-3, "average": 0.99}
TEXTS = {"hidden_size": 512, "embedding_size": 256, "vocabulary": "bpe", "joint": True, "dropout": 0.3}
TEXTS |= {"label_smoothing": 0.1, "learning_rate": 1e-3, "average": 0.998}
EPOCHS = {"texts": 30, "phrases": 8}


def _by_data(name: str) -> str:
    """The two defaults of an option that depends on the data."""
    return f"{TEXTS[name]}; embedded data: {PHRASES[name]}"


@dataclass(frozen=True, kw_only=True)
class TranslateOptions(TaskOptions):
    """What a translator may be asked for. What is None depends on the data."""

    decoder: str = option("attention", "`attention`, or `final`: the final state alone.", checks.choice(*DECODERS))
    hidden_size: int | None = again(TaskOptions, "hidden_size", None, _by_data("hidden_size"))  # type: ignore[assignment]
    embedding_size: int | None = option(
        None, "Numbers of an embedded piece.", checks.integer(1, checks.MOST_UNITS), shown=_by_data("embedding_size")
    )
    dropout: float | None = again(TaskOptions, "dropout", None, _by_data("dropout"))  # type: ignore[assignment]
    label_smoothing: float | None = option(
        None,
        "Share of the target probability that is spread evenly over all pieces.",
        checks.share,
        shown=_by_data("label_smoothing"),
    )
    vocabulary: str | None = option(
        None, "`bpe` (sub-words) or `words`.", checks.choice(*KINDS), shown=_by_data("vocabulary")
    )
    vocabulary_size: int = option(8000, "Pieces at most.", checks.integer(LEAST_PIECES, MOST_PIECES))
    joint: bool | None = option(
        None,
        "One vocabulary and one embedding for both languages.",
        checks.flag,
        shown=_by_data("joint"),
        flags=("--joint/--separate",),
    )
    lowercase: bool = option(False, "Lower-case all texts first.", checks.flag)
    normalise: bool = option(False, "Plain quotes, dashes and spaces first, as Moses does.", checks.flag)
    longest: int = option(128, "Pieces of a side; longer pairs are left out.", checks.integer(1, MOST_PIECES))
    batch_size: int = option(96, "Pairs of a step.", checks.integer(1, MOST_PIECES))
    average: float | None = option(
        None, "Decay of the running average of the weights; 0 turns it off.", checks.share, shown=_by_data("average")
    )
    epochs: int | None = again(TaskOptions, "epochs", None, f"{EPOCHS['texts']}; embedded data: {EPOCHS['phrases']}")
    learning_rate: float | None = again(TaskOptions, "learning_rate", None, _by_data("learning_rate"))  # type: ignore[assignment]

    def check(self) -> None:
        super().check()
        if self.hidden_size is not None and self.hidden_size % 2:
            raise InputError(f"hidden_size must be even, since both directions share it, got {self.hidden_size}")
