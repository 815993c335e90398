"""n-gram models: probabilities sum to one, and are those of the equations written out for every n-gram."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from tasks.language.conftest import ALPHABET, documents

from gatewise.tasks.language import ngrams
from gatewise.tasks.language.ngrams import NGrams, _discounts
from gatewise.tasks.language.store import Tokens

RANDOM = np.random.default_rng(0)
TEXTS = ["".join(RANDOM.choice(list("aaabbcd "), n)) for n in (200, 3, 90, 150)]
SIZE = len(ALPHABET) + 1
END = SIZE - 1


def plainly(tokens: Tokens, order: int, context: list[int], token: int) -> float:
    """Interpolated modified Kneser-Ney for one token, from dictionaries (Chen and Goodman 1998, eq. 22-26)."""
    sequences = [[END, *tokens.ids[a:b].tolist(), END] for a, b in tokens.spans]

    def occurring(n: int) -> Counter[tuple[int, ...]]:
        first = 1 if n == 1 else 0  # the end before a document is given, not predicted
        return Counter(tuple(s[i : i + n]) for s in sequences for i in range(first, len(s) - n + 1))

    def adjusted(n: int) -> dict[tuple[int, ...], int]:
        raw = occurring(n)
        if n == order:
            return dict(raw)
        before = Counter(gram[1:] for gram in occurring(n + 1))
        return {gram: raw[gram] if n > 1 and gram[0] == END else before[gram] for gram in raw}

    def probability(n: int, history: tuple[int, ...]) -> float:
        if n == 0:
            return 1 / SIZE
        history = history[len(history) - n + 1 :]
        counts = adjusted(n)
        discounts = _discounts(np.array(list(counts.values())))
        after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == history}
        lower = probability(n - 1, history)
        if not after:
            return lower
        total = sum(after.values())
        left = sum(discounts[min(count, 3)] for count in after.values())
        own = after.get(token, 0)
        return (own - discounts[min(own, 3)] + left * lower) / total

    return probability(min(order, len(context) + 1), tuple(context))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_equations(order: int) -> None:
    tokens, test = documents(*TEXTS), documents(TEXTS[0][50:70] + "hgab" + TEXTS[2][:10])
    found = NGrams(tokens, order).probabilities(test, 1, 1, len(test))[-1]
    sequence = [END, *test.ids[1:].tolist(), END]
    expected = [plainly(tokens, order, sequence[:k], sequence[k]) for k in range(1, len(sequence))]
    assert found == pytest.approx(expected, rel=1e-9)


def test_probabilities_sum_to_one_after_any_context() -> None:
    model = NGrams(documents(*TEXTS), 4)
    for context in ("", "a", "ab", "aabb", "hhhh", "d", "abcd h"):
        sums = np.zeros(4)
        for token in range(END):
            text = documents(context + ALPHABET[token])
            sums += model.probabilities(text, 1, 1 + len(context), len(text))[:, 0]
        whole = documents(context) if context else None
        if whole is None:
            whole = Tokens(np.array([END], np.uint8), END)
        sums += model.probabilities(whole, 1, 1, len(whole))[:, -1]
        assert sums == pytest.approx(np.ones(4), abs=1e-12)


def test_the_discounts_are_those_of_the_paper() -> None:
    counts = np.array([1] * 10 + [2] * 5 + [3] * 3 + [4] * 2 + [9])
    y = 10 / (10 + 2 * 5)
    assert _discounts(counts).tolist() == [0, 1 - 2 * y * 5 / 10, 2 - 3 * y * 3 / 5, 3 - 4 * y * 2 / 3]
    assert _discounts(np.array([7, 8, 9])).tolist() == [0.0, 0.5, 1.0, 1.5]


def test_more_context_helps_where_there_is_some() -> None:
    """A text whose next token follows from the two before it, and one without any order."""
    ordered, test = documents("abcd" * 200), documents("abcd" * 20)
    nats = NGrams(ordered).nats(test) / 81
    assert nats[0] > 1.3
    assert nats[1] < 0.2
    random = ["".join(RANDOM.choice(list("abcd"), 4000)) for _ in range(2)]
    nats = NGrams(documents(random[0])).nats(documents(random[1])) / 4001
    assert (nats > math.log(4) - 0.02).all()


def test_long_documents_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = NGrams(documents(*TEXTS)), documents(TEXTS[0][:120], "ab")
    whole = model.nats(tokens)
    parts = ngrams._overlapping
    monkeypatch.setattr(ngrams, "_overlapping", lambda *given: parts(*given, part=7))
    assert model.nats(tokens) == pytest.approx(whole, rel=1e-12)


def test_no_more_tokens_are_counted_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "MOST", 50)
    model = NGrams(documents("abab" * 100 + "cdcd" * 100))
    assert model.counted == 50
    assert model.nats(documents("cdcdcdcd"))[2] < model.nats(documents("abababab"))[2]
