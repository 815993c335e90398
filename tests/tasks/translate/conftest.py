"""Pairs of a toy language and a translator that has learnt a little of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from gatewise.tasks.translate import Translator, phrases

WORDS = {"red": "rouge", "blue": "bleu", "cat": "chat", "dog": "chien", "eats": "mange", "sees": "voit"}
SMALL = {"hidden_size": 24, "embedding_size": 12, "vocabulary": "words", "joint": False, "dropout": 0.1}
SMALL |= {"learning_rate": 2e-2, "batch_size": 16, "average": 0.9, "epochs": 5, "max_steps": 75}


def toy(count: int = 240, seed: int = 0) -> list[tuple[str, str]]:
    """Phrases of two to five words; in the target the words come the other way round."""
    generator = np.random.default_rng(seed)
    phrases = [generator.choice(list(WORDS), int(generator.integers(2, 6))).tolist() for _ in range(count)]
    return [(" ".join(words) + ".", " ".join(WORDS[word] for word in words[::-1]) + ".") for words in phrases]


@contextmanager
def few_phrases(*caches: Callable[..., Any]) -> Iterator[None]:
    """The embedded phrases, but few of them: to make all takes seconds, and untrained translators are slow, since they
    find no end. ``caches`` are functions that keep what they read of them."""
    kept: list[Any] = [phrases.phrases, *caches]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phrases, "COUNTS", {"training": 200, "validation": 20, "test": 20})
        for cache in kept:
            cache.cache_clear()
        yield
    for cache in kept:
        cache.cache_clear()


@pytest.fixture(scope="session")
def small() -> Translator:
    """With attention."""
    return Translator(**SMALL).fit(toy())


@pytest.fixture(scope="session")
def final() -> Translator:
    """Without."""
    return Translator(decoder="final", cell="lstm", **{**SMALL, "max_steps": 15}).fit(toy())
