"""n-gram models: interpolated modified Kneser-Ney (Chen and Goodman 1998, "An empirical study of smoothing techniques
for language modeling", section 3; eq. 22-26), of all orders up to a highest at once.

An n-gram is a number: its place among all that occur, found from the number of the n-gram without its last token, and
that token. So a count is a sort, and a text is scored by look-ups, of all its positions at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.language.store import Tokens

ORDERS = 6
MOST = 5_000_000
"""Tokens that are counted at most, the last of the text; memory is about 100 bytes for each, 0.5 GB."""
NONE = -1
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class _Level:
    """The n-grams of one order. Sorted ``keys``: the number of all tokens but the last, times the number of tokens,
    plus the last. ``raw``: how often each occurs; ``novel``: after how many different tokens, or ``raw`` for those with
    which documents begin, since nothing stands before them."""

    keys: Numbers
    raw: Numbers
    novel: Numbers


@dataclass(frozen=True)
class _Shares:
    """Of an order: what each n-gram has of its context's probability, and what each context leaves for the order
    below; 1 for contexts after which nothing was seen."""

    own: NDArray[np.float64]
    left: NDArray[np.float64]


class NGrams:
    """Models of the orders 1 to ``orders`` from counts over tokens.

    Args:
        tokens: to be counted, the last ``MOST`` of them. orders: the highest; n tokens, of which the last is predicted.
    """

    def __init__(self, tokens: Tokens, orders: int = ORDERS) -> None:
        self.vocabulary, self.end = tokens.end + 1, tokens.end
        self.counted = min(len(tokens), MOST)
        self.levels = self._count(_framed(tokens, self.counted), orders)
        contexts = [1, *(len(level.keys) for level in self.levels)]
        self._top = [self._share(level.keys, level.raw, n) for level, n in zip(self.levels, contexts, strict=False)]
        self._low = [self._share(level.keys, level.novel, n) for level, n in zip(self.levels, contexts, strict=False)]

    def nats(self, tokens: Tokens) -> NDArray[np.float64]:
        """−log of the probability of all documents, with their ends, in nats, by the model of each order."""
        totals = np.zeros(len(self.levels))
        for start, stop in tokens.spans:
            for part in _overlapping(start, stop, len(self.levels)):
                totals -= np.log(self.probabilities(tokens, *part)).sum(1)
        return totals

    def probabilities(self, tokens: Tokens, start: int, first: int, stop: int) -> NDArray[np.float64]:
        """(orders, predictions): of each token from ``first`` on in a document that begins at ``start``, and of the
        ``end`` behind it where ``stop`` is reached by the document."""
        begin = max(start, first - len(self.levels) + 1)
        ids = np.asarray(tokens.ids[begin:stop], np.int64)
        whole = stop == len(tokens) or int(tokens.ids[stop]) == self.end
        sequence = np.concatenate([[self.end] * (begin == start), ids, [self.end] * whole]).astype(np.int64)
        skip = first - begin + (begin == start)
        numbers, contexts = self._numbers(sequence)
        lower = np.full(len(sequence), 1.0 / self.vocabulary)
        found = []
        for n, own, context in zip(range(len(self.levels)), numbers, contexts, strict=True):
            found.append(self._mix(self._top[n], own, context, lower)[skip:])
            lower = self._mix(self._low[n], own, context, lower)
        return np.array(found)

    @staticmethod
    def _mix(shares: _Shares, own: Numbers, context: Numbers, lower: NDArray[np.float64]) -> NDArray[np.float64]:
        mine = np.where(own >= 0, shares.own[own], 0.0)
        left = np.where(context >= 0, shares.left[context], 1.0)
        return mine + left * lower

    def _numbers(self, sequence: Numbers) -> tuple[list[Numbers], list[Numbers]]:
        """For each order: the number of the n-gram that ends at each place, and of what it has before its last token;
        ``NONE`` where there is none, or none was seen."""
        numbers: list[Numbers] = []
        contexts: list[Numbers] = []
        context = np.zeros(len(sequence), np.int64)
        for n, level in enumerate(self.levels):
            if n:
                context = np.concatenate([[NONE], self._as_context(numbers[-1], sequence, n)[:-1]])
            keys = context * self.vocabulary + sequence
            at = np.searchsorted(level.keys, keys).clip(max=len(level.keys) - 1)
            numbers.append(np.where((context >= 0) & (level.keys[at] == keys), at, NONE))
            contexts.append(context)
        return numbers, contexts

    def _as_context(self, numbers: Numbers, sequence: Numbers, order: int) -> Numbers:
        """Nothing before ``end`` counts for what follows it."""
        return numbers if order == 1 else np.where(sequence == self.end, NONE, numbers)

    def _count(self, sequence: Numbers, orders: int) -> list[_Level]:
        levels: list[_Level] = []
        context = np.zeros(len(sequence), np.int64)
        context[0] = NONE  # nothing predicts the end that stands before all
        before: Numbers | None = None
        since = _since_end(sequence, self.end)
        suffixes: list[Numbers] = []
        for order in range(1, orders + 1):
            valid = np.flatnonzero(context >= 0)
            if order > 1 and len(valid) == 0:
                break
            keys, at, inverse, raw = np.unique(
                context[valid] * self.vocabulary + sequence[valid],
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            if before is not None:  # each n-gram has one token before the (n - 1)-gram that it ends with
                suffixes.append(before[valid[at]])
            first = since[valid[at]] == order - 1
            levels.append(_Level(keys, raw, np.where(first & (order > 1), raw, 0)))
            before = np.full(len(sequence), NONE)
            before[valid] = inverse.ravel()
            if order == 1:
                before[0] = np.searchsorted(keys, self.end)
            context = np.concatenate([[NONE], self._as_context(before, sequence, order)[:-1]])
        for level, suffix in zip(levels, suffixes, strict=False):
            level.novel[:] = np.maximum(level.novel, np.bincount(suffix, minlength=len(level.keys)))
        if levels:  # of the highest order nothing is asked
            levels[-1].novel[:] = levels[-1].raw
        return levels

    def _share(self, keys: Numbers, counts: Numbers, contexts: int) -> _Shares:
        discounts = _discounts(counts)
        context = keys // self.vocabulary
        total = np.bincount(context, counts, contexts)
        taken = discounts[np.minimum(counts, 3)]
        with np.errstate(invalid="ignore", divide="ignore"):
            own = (counts - taken) / total[context]
            left = np.where(total > 0, np.bincount(context, taken, contexts) / total, 1.0)
        return _Shares(np.where(counts > 0, own, 0.0), left)


def _discounts(counts: Numbers) -> NDArray[np.float64]:
    """What is taken from counts of 0, 1, 2, and 3 or more (eq. 26); where counts of counts are missing, as in short
    texts over few tokens, 0.5, 1 and 1.5."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)[:5].astype(float)
    if n[1:].min() > 0:
        y = n[1] / (n[1] + 2 * n[2])
        found = np.array([0.0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))])
        if (found[1:] > 0).all() and (found <= np.arange(4)).all():
            return found
    return np.array([0.0, 0.5, 1.0, 1.5])


def _framed(tokens: Tokens, counted: int) -> Numbers:
    """The last tokens, with ``end`` before the first and behind the last."""
    ids = np.asarray(tokens.ids[len(tokens) - counted :], np.int64)
    before = [] if len(ids) and ids[0] == tokens.end else [tokens.end]
    return np.concatenate([before, ids, [tokens.end]]).astype(np.int64)


def _since_end(sequence: Numbers, end: int) -> Numbers:
    """How many tokens stand between each and the ``end`` before it, plus one; of the first: 0."""
    places = np.where(sequence == end, np.arange(len(sequence)), 0)
    last = np.maximum.accumulate(places)
    before = np.concatenate([[0], last[:-1]])
    since: Numbers = np.arange(len(sequence)) - before
    return since


def _overlapping(start: int, stop: int, orders: int, part: int = 1 << 20) -> Iterator[tuple[int, int, int]]:
    """A document in parts: where it begins, and from where to where predictions are asked for."""
    for first in range(start, stop, part):
        yield start, first, min(stop, first + part)
