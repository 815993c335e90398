"""Which of two languages a sentence is in, told from other pairs: finds swapped columns."""

from __future__ import annotations

import math
from collections import Counter

from gatewise.tasks.errors import InputError
from gatewise.tasks.translate.pairs import Pairs

LEAST_WORDS = 2
SURE = 1.5
"""Mean log-ratio of a word's counts on both sides; both sides must be as wrong as this."""


class Sides:
    """How often each word stands on either side of some pairs."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.source = Counter(word for text in pairs.source for word in text.split())
        self.target = Counter(word for text in pairs.target for word in text.split())

    def check(self, pairs: Pairs) -> None:
        """Raises InputError for the first pair whose sides look swapped; a pair is no witness of itself."""
        own = pairs is self.pairs
        for line, source, target in zip(pairs.lines, pairs.source, pairs.target, strict=True):
            left, right = source.split(), target.split()
            if min(len(left), len(right)) < LEAST_WORDS:
                continue
            if self._leaning(left, own, -1) < -SURE and self._leaning(right, own, 1) > SURE:
                raise InputError(
                    f"{pairs.origin}, line {line}: the columns look swapped, since other lines have the words of "
                    f"{_short(source)!r} as targets and those of {_short(target)!r} as sources"
                )

    def _leaning(self, words: list[str], own: bool, side: int) -> float:
        """Above 0 for words of the source side; ``own`` words are not counted where they stand, the side told."""
        counts = Counter(words) if own else Counter()
        total = 0.0
        for word in words:
            left = self.source[word] - (counts[word] if side < 0 else 0)
            right = self.target[word] - (counts[word] if side > 0 else 0)
            total += math.log((left + 0.5) / (right + 0.5))
        return total / len(words)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
