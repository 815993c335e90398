"""The embedded pairs: numbers, ordinals, years, dates and sums of money, in English and in French words.

Real grammar without end: *quatre-vingts* but *quatre-vingt-un*, *deux cents* but *deux cent trois*, *premier* but
*vingt et unième*, the order of a date, the cents of a sum. Words are by ``num2words``, dates by ``Babel`` (CLDR).
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gatewise.tasks.errors import need
from gatewise.tasks.translate.pairs import Pairs

ORIGIN = "embedded phrases"
COUNTS = {"training": 20000, "validation": 500, "test": 1000}
REPEATS = 8
"""Times at most that a phrase is in the training part: of short numbers there are few, and a *twelve* that was met once
among thousands of years came out as one of them."""
EPOCH_ORDINAL = datetime.date(1900, 1, 1).toordinal()
CURRENCIES = ("EUR", "USD", "GBP")


@dataclass(frozen=True)
class Phrases:
    """Three parts without a phrase in common."""

    training: Pairs
    validation: Pairs
    test: Pairs


@lru_cache(maxsize=1)
def phrases(seed: int = 0) -> Phrases:
    """The embedded pairs, parted at random; in training what was drawn again stands again."""
    need("num2words")
    need("babel")
    generator = np.random.default_rng(seed)
    pairs: dict[str, str] = {}
    drawn: Counter[str] = Counter()
    wanted = sum(COUNTS.values())
    makers = (_number, _ordinal, _year, _date, _sum)
    while len(pairs) < wanted:
        maker = makers[int(generator.choice(len(makers), p=(0.35, 0.15, 0.1, 0.2, 0.2)))]
        english, french = maker(generator)
        phrase = " ".join(english.split())
        pairs.setdefault(phrase, " ".join(french.split()))
        drawn[phrase] += 1
    source, target = tuple(pairs), tuple(pairs.values())
    whole = Pairs(source, target, ORIGIN, tuple(range(1, wanted + 1)))
    order, ends = generator.permutation(wanted).tolist(), np.cumsum(list(COUNTS.values()))
    training, validation, test = (order[end - n : end] for end, n in zip(ends, COUNTS.values(), strict=True))
    training = [k for k in training for _ in range(min(drawn[source[k]], REPEATS))]
    return Phrases(*(whole.take(part) for part in (training, validation, test)))


def _both(value: Any, **how: Any) -> tuple[str, str]:
    words: Callable[..., str] = need("num2words").num2words
    return words(value, lang="en", **how), words(value, lang="fr", **how)


def _size(generator: np.random.Generator, most: int) -> int:
    """A number with any count of digits up to that of ``most``, each as likely."""
    return int(generator.integers(0, 10 ** int(generator.integers(1, len(str(most))))))


def _number(generator: np.random.Generator) -> tuple[str, str]:
    return _both(_size(generator, 1_000_000))


def _ordinal(generator: np.random.Generator) -> tuple[str, str]:
    return _both(1 + _size(generator, 10_000), to="ordinal")


def _year(generator: np.random.Generator) -> tuple[str, str]:
    return _both(int(generator.integers(1000, 2100)), to="year")


def _date(generator: np.random.Generator) -> tuple[str, str]:
    dates = need("babel.dates")
    day = datetime.date.fromordinal(EPOCH_ORDINAL + int(generator.integers(0, 366 * 199)))
    style = str(generator.choice(["full", "long", "medium"]))
    return dates.format_date(day, style, locale="en"), dates.format_date(day, style, locale="fr")


def _sum(generator: np.random.Generator) -> tuple[str, str]:
    value = _size(generator, 100_000) + int(generator.integers(0, 100)) / 100
    return _both(value, to="currency", currency=str(generator.choice(CURRENCIES)))
