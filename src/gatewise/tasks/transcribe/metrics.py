"""Word and character errors by jiwer, summed over all recordings; the transcript that is guessed without listening."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gatewise.tasks.errors import need
from gatewise.tasks.transcribe.sound import EXTRA


@dataclass(frozen=True)
class Errors:
    """Edits that turn what was said into what was written, and how many words or characters were said."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def edits(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """In per cent."""
        return 100 * self.edits / max(1, self.length)


def word_errors(said: Sequence[str], written: Sequence[str]) -> Errors:
    """Of all texts together; what was said must not be empty."""
    return _errors(need("jiwer", EXTRA).process_words(list(said), list(written)))


def character_errors(said: Sequence[str], written: Sequence[str]) -> Errors:
    """As ``word_errors``; spaces count."""
    return _errors(need("jiwer", EXTRA).process_characters(list(said), list(written)))


def _errors(found: object) -> Errors:
    hits, substitutions, deletions, insertions = (
        int(getattr(found, name)) for name in ("hits", "substitutions", "deletions", "insertions")
    )
    return Errors(substitutions, deletions, insertions, hits + substitutions + deletions)


def figures(said: Sequence[str], written: Sequence[str]) -> dict[str, float]:
    """Word and character error rate in per cent, and the words' substitutions, deletions and insertions."""
    words, characters = word_errors(said, written), character_errors(said, written)
    counts = {"substitutions": words.substitutions, "deletions": words.deletions, "insertions": words.insertions}
    return {"WER": words.rate, "CER": characters.rate, **{name: float(n) for name, n in counts.items()}}


@dataclass(frozen=True)
class Evaluation:
    """What was said in recordings, and what was written by name: the model's first."""

    names: list[str]
    said: list[str]
    written: dict[str, list[str]]

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """``figures`` by name."""
        return {name: figures(self.said, texts) for name, texts in self.written.items()}

    @property
    def worst(self) -> list[tuple[str, Errors, str, str]]:
        """(name, word errors, said, written) of all recordings with errors of the model, those with most first."""
        rows = zip(self.names, self.said, next(iter(self.written.values())), strict=True)
        found = [(name, word_errors([said], [text]), said, text) for name, said, text in rows if said != text]
        return sorted(found, key=lambda row: (-row[1].edits, -row[1].rate, row[0]))


def most_frequent(texts: Sequence[str]) -> str:
    """The transcript that occurs most often, the first of those that do."""
    return Counter(texts).most_common(1)[0][0]
