"""Pieces: nothing is lost on the way there and back, and unknown ones keep their looks."""

from __future__ import annotations

import pickle

import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.text.normalise import prepare
from gatewise.tasks.text.vocabulary import SPECIAL, UNKNOWN, Vocabulary

TEXTS = ["L'homme d'été (grand) mange 12,50 € !", "Des pommes, des poires ; et « rien » ?", "a-t-il 3 pommes"] * 2


@pytest.mark.parametrize("kind", ["bpe", "words"])
def test_pieces_join_to_the_text(kind: str) -> None:
    vocabulary = Vocabulary.learn(TEXTS, kind, 200)
    for text, sentence in zip(TEXTS, vocabulary.encode(TEXTS), strict=True):
        assert vocabulary.join(vocabulary.pieces[i] for i in sentence.ids) == text
        assert vocabulary.join(sentence.pieces) == text
        assert UNKNOWN not in sentence.ids
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again.pieces == vocabulary.pieces
    assert tuple(vocabulary.pieces[:4]) == SPECIAL
    assert pickle.loads(pickle.dumps(vocabulary)).encode(TEXTS) == vocabulary.encode(TEXTS)


@pytest.mark.parametrize("kind", ["bpe", "words"])
def test_unknown_pieces_keep_their_looks(kind: str) -> None:
    vocabulary = Vocabulary.learn(TEXTS, kind, 200)
    text = "L'été ☃ des zorglubs-ж, <unk> <s>"
    (sentence,) = vocabulary.encode([text])
    assert vocabulary.join(sentence.pieces) == text
    assert UNKNOWN in sentence.ids
    assert min(sentence.ids) >= UNKNOWN  # what looks like a special piece is text


def test_words_seen_once_stay_unknown() -> None:
    vocabulary = Vocabulary.learn(["one two two", "two three"], "words", 100)
    assert vocabulary.pieces[4:] == ["▁two"]


def test_a_foreign_vocabulary_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="the vocabulary is damaged"):
        Vocabulary.from_json({"a": 1})
    other = Vocabulary.learn(TEXTS, "words", 100).to_json()
    other["model"]["vocab"] = {"<unk>": 0, "a": 1}
    other["added_tokens"] = []
    with pytest.raises(InputError, match="the vocabulary is foreign: it must begin with <pad>"):
        Vocabulary.from_json(other)


def test_preparing_a_text() -> None:
    assert prepare(["  e\u0301té \u00a0 x "], lowercase=False, normalise=False) == ["été x"]
    text = "“Il  dit” : ‘oui’ – non…"
    assert prepare([text], lowercase=True, normalise=True) == ["\"il dit\": 'oui' - non..."]
