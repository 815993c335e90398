"""Which token comes next: the likeliest, or one drawn from a part of what is likely."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.checks import MOST, check_integer
from gatewise.tasks.errors import InputError

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. What is named here acts in this order.

    Args:
        repetition_penalty: logits of tokens that occurred are divided by it where they are positive, else multiplied
            (Keskar et al. 2019, CTRL); 1 changes nothing.
        temperature: logits are divided by it; below 1 likely tokens become likelier; 0 takes the likeliest always.
        top_k: only so many of the likeliest tokens can come; None for all.
        top_p: only the likeliest that together have this probability, at least one (Holtzman et al. 2020, nucleus).
        min_p: only those with at least this share of the likeliest one's probability (Nguyen et al. 2024).

    Raises:
        InputError: for a value out of its range.
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        _check("repetition_penalty", self.repetition_penalty, 0.0, math.inf, above=True)
        _check("temperature", self.temperature, 0.0, math.inf)
        if self.top_k is not None:
            check_integer("top_k", self.top_k, 1, MOST)
        _check("top_p", self.top_p, 0.0, 1.0, above=True)
        _check("min_p", self.min_p, 0.0, 1.0)

    @property
    def cuts(self) -> bool:
        """Whether any tokens are left out."""
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0


class Sampler:
    """Draws the tokens of one text, with random numbers of its own.

    Args:
        how: see ``Sampling``. seed: of all texts. prompt: the tokens before the first that is drawn. again: how many
            texts with this prompt there are before this one; they get other random numbers. size: number of tokens.
    """

    def __init__(self, how: Sampling, seed: int, prompt: Sequence[int], again: int, size: int) -> None:
        self.how = how
        whole = repr((seed, again, [int(token) for token in prompt])).encode()
        self._random = Random(int.from_bytes(hashlib.sha256(whole).digest(), "big")).random
        self._room = np.empty(size)
        self._seen: NDArray[np.bool_] | None = None
        if how.repetition_penalty != 1:
            self._seen = np.zeros(size, np.bool_)
            self._seen[list(prompt)] = True

    def __call__(self, logits: Numbers) -> int:
        """The next token, from (size,) logits, which may have any constant added."""
        how = self.how
        if self._seen is not None:
            logits = self._penalised(logits, self._seen)
        if how.temperature == 0:
            token = int(logits.argmax())
        else:
            above = logits - logits[logits.argmax()]  # a quarter of the time of max()
            if how.temperature != 1:
                above /= how.temperature
            token = self._drawn(np.exp(above, self._room)) if not how.cuts else self._drawn_of(np.exp(above))
        if self._seen is not None:
            self._seen[token] = True
        return token

    def _penalised(self, logits: Numbers, seen: NDArray[np.bool_]) -> Numbers:
        by = np.float32(self.how.repetition_penalty)
        return np.where(seen, np.where(logits > 0, logits / by, logits * by), logits)

    def _drawn(self, likely: NDArray[np.float64]) -> int:
        sums = np.add.accumulate(likely)
        return min(int(sums.searchsorted(self._random() * sums[-1], "right")), len(likely) - 1)

    def _drawn_of(self, likely: Numbers) -> int:
        """Of the tokens that are left, in the order of their probabilities, and of their numbers where these agree."""
        how, among = self.how, np.arange(len(likely))
        if how.top_k is not None and how.top_k < len(likely):
            least = np.partition(likely, -how.top_k)[-how.top_k]
            among = np.flatnonzero(likely >= least)
        if how.top_p < 1:  # what all tokens below this have together is left out anyway: no need to sort them
            total = likely[among].sum(dtype=np.float64)
            among = among[likely[among] >= (1 - how.top_p) * total / len(among)]
        else:
            total = 0.0
        among = among[np.argsort(-likely[among], kind="stable")][: how.top_k]
        if how.top_p < 1:
            sums = likely[among].cumsum(dtype=np.float64)
            among = among[: int(sums.searchsorted(how.top_p * total)) + 1]
        if how.min_p > 0:
            among = among[likely[among] >= how.min_p * likely[among[0]]]
        return int(among[self._drawn(likely[among].astype(np.float64))])


def _check(name: str, value: Any, least: float, most: float, above: bool = False) -> None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not real or value > most or (value <= least if above else value < least):
        how = "above" if above else "of at least"
        limit = "" if most == math.inf else f" and at most {most:g}"
        raise InputError(f"{name} must be a number {how} {least:g}{limit}, got {value!r}")
