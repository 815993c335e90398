"""From log-probabilities to text: the likeliest token at each step, or a search over prefixes with a language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.transcribe.guide import Guide, State
from gatewise.tasks.transcribe.units import BLANK

Emission = NDArray[np.float32]
"""(steps, tokens) log-probabilities of a recording."""
Span = tuple[int, int]
"""The first and the last step of a token."""
UNLIKELY = 12.0
"""Nats below the likeliest token of a step from which on a token is not looked at: one in 160,000."""
NEVER = -math.inf
FORGET = 64
"""Steps after which a search lets go of what it did not keep."""


@dataclass(frozen=True)
class Found:
    """A text as tokens; its ``score``: log-probability in nats, with what the language model adds."""

    tokens: tuple[int, ...]
    score: float


NOTHING = Found((), NEVER)


def greedy(emission: Emission) -> tuple[list[int], list[Span]]:
    """The likeliest token at each step, without repeats and blanks, and the steps of each."""
    if not len(emission):
        return [], []
    best = emission.argmax(1)
    starts = np.flatnonzero(np.concatenate([[True], best[1:] != best[:-1]])).tolist()
    runs = zip(starts, [*(start - 1 for start in starts[1:]), len(best) - 1], strict=True)
    spans = [(first, last) for first, last in runs if best[first] != BLANK]
    return [int(best[first]) for first, _ in spans], spans


class _Prefix:
    """The tokens of a text so far: the last one, those before it, and what the guide says about them."""

    __slots__ = ("before", "bonus", "children", "state", "token")

    def __init__(self, before: _Prefix | None, token: int, state: State, bonus: float) -> None:
        self.before, self.token, self.state, self.bonus = before, token, state, bonus
        self.children: dict[int, _Prefix | None] = {}

    def child(self, token: int, guide: Guide) -> _Prefix | None:
        """With one more token; None where the guide does not allow it. The same one whenever it is asked for."""
        if token not in self.children:
            found = guide.extend(self.state, token)
            self.children[token] = None if found is None else _Prefix(self, token, found[0], self.bonus + found[1])
        return self.children[token]

    @property
    def tokens(self) -> tuple[int, ...]:
        found, node = [], self
        while node.before is not None:
            found.append(node.token)
            node = node.before
        return tuple(reversed(found))


class Search:
    """Prefix beam search (Hannun et al. 2014, "First-pass large vocabulary continuous speech recognition using
    bi-directional recurrent DNNs", algorithm 1), step by step.

    A prefix has the probability of all alignments that say it, which end in a blank or not.

    Args:
        guide: adds to the score of a prefix, or forbids it. beam: prefixes that are kept at each step.
    """

    def __init__(self, guide: Guide, beam: int) -> None:
        self.guide, self.beam = guide, beam
        root = _Prefix(None, BLANK, guide.start(), 0.0)
        self._kept: dict[_Prefix, tuple[float, float]] = {root: (0.0, NEVER)}
        self._steps = 0

    def push(self, emission: Emission) -> None:
        """Take the next steps."""
        for row in emission.astype(np.float64):
            self._step(row)
            self._steps += 1
            if self._steps % FORGET == 0:
                self._forget()

    def _step(self, row: NDArray[np.float64]) -> None:
        logs: list[float] = row.tolist()
        least = max(logs) - UNLIKELY
        likely = [token for token in self.guide.tokens if logs[token] >= least]
        found: dict[_Prefix, tuple[float, float]] = {}
        for prefix, (blank, other) in self._kept.items():
            either = _sum(blank, other)
            again = other + logs[prefix.token] if prefix.before is not None else NEVER
            _add(found, prefix, either + logs[BLANK], again)
            for token in likely:
                child = prefix.child(token, self.guide)
                if child is not None:
                    repeated = token == prefix.token and prefix.before is not None
                    _add(found, child, NEVER, (blank if repeated else either) + logs[token])
        best = sorted(found.items(), key=lambda item: -(_sum(*item[1]) + item[0].bonus))
        self._kept = dict(best[: self.beam])

    def _forget(self) -> None:
        """Let go of prefixes that nothing that is kept begins with; those that it does stay the ones that they are."""
        needed: set[_Prefix] = set()
        for kept in self._kept:
            prefix: _Prefix | None = kept
            while prefix is not None and prefix not in needed:
                needed.add(prefix)
                prefix = prefix.before
        for prefix in needed:
            prefix.children = {token: child for token, child in prefix.children.items() if child in needed}

    def best(self, count: int = 1) -> list[Found]:
        """The best texts if nothing more came, the best first; what the guide does not let end there does not count.

        Tokens that are the same text but for their spaces are one, with the better score. Where none may end, an empty
        text is all that there is.
        """
        found: dict[str, Found] = {}
        for prefix, (blank, other) in self._kept.items():
            end = self.guide.end(prefix.state)
            if end is not None:
                one = Found(prefix.tokens, _sum(blank, other) + prefix.bonus + end)
                text = self.guide.units.decode(one.tokens)
                if one.score > found.get(text, NOTHING).score:
                    found[text] = one
        return sorted(found.values(), key=lambda one: (-one.score, one.tokens))[:count] or [NOTHING]


def _add(found: dict[_Prefix, tuple[float, float]], prefix: _Prefix, blank: float, other: float) -> None:
    before = found.get(prefix)
    found[prefix] = (blank, other) if before is None else (_sum(before[0], blank), _sum(before[1], other))


def _sum(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    if a < b:
        a, b = b, a
    return a if b == NEVER else a + math.log1p(math.exp(b - a))


def searched(emission: Emission, guide: Guide, beam: int, count: int = 1) -> list[Found]:
    """The best texts of a whole recording."""
    search = Search(guide, beam)
    search.push(emission)
    return search.best(count)


def aligned(emission: Emission, tokens: Sequence[int]) -> list[Span]:
    """The first and last step of each token in the likeliest alignment of a text (Viterbi).

    Empty for no tokens; there must be steps enough for them. It keeps a byte for each step and half a token.
    """
    if not tokens:
        return []
    states = np.full(2 * len(tokens) + 1, BLANK)
    states[1::2] = tokens
    skips = np.zeros(len(states), bool)  # over a blank, between tokens that differ
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), NEVER)
    score[:2] = emission[0, states[:2]]
    moves = np.zeros((len(emission), len(states)), np.int8)
    for step in range(1, len(emission)):
        one = np.concatenate([[NEVER], score[:-1]])
        two = np.where(skips, np.concatenate([[NEVER, NEVER], score[:-2]]), NEVER)
        ways = np.stack([score, one, two])
        moves[step] = ways.argmax(0)
        score = ways.max(0) + emission[step, states]
    place = len(states) - 1 if score[-1] >= score[-2] else len(states) - 2
    spans: dict[int, Span] = {}
    for step in range(len(emission) - 1, -1, -1):
        if place % 2:
            spans[place // 2] = step, spans.get(place // 2, (step, step))[1]
        place -= int(moves[step, place])
    return [spans[k] for k in range(len(tokens))]
