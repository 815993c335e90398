"""What a network writes: characters, or pieces of words by byte-pair encoding, and a blank between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from gatewise.tasks.errors import InputError
from gatewise.tasks.text.vocabulary import PAD, SPACE, SPECIAL, Vocabulary

KINDS = ("char", "bpe")
BLANK = PAD
"""The number of the blank of connectionist temporal classification."""


class Units:
    """The tokens of a transcriber: number 0 is the blank, the others stand for pieces of text.

    Args:
        pieces: the text of each token, with spaces where words begin or end; None for a token that is never written.
        vocabulary: cuts texts into them; None where each is a character.
    """

    def __init__(self, pieces: Sequence[str | None], vocabulary: Vocabulary | None = None) -> None:
        self.pieces, self.vocabulary = list(pieces), vocabulary
        self._numbers = {piece: number for number, piece in enumerate(self.pieces) if piece is not None}

    @classmethod
    def learn(cls, kind: str, texts: Sequence[str], size: int) -> Units:
        """All characters of some texts, or at most ``size`` pieces of their words."""
        if kind == "char":
            alphabet: list[str | None] = [None, *sorted(set("".join(texts)))]
            return cls(alphabet)
        return cls._of(Vocabulary.learn(texts, "bpe", size))

    @classmethod
    def _of(cls, vocabulary: Vocabulary) -> Units:
        pieces = [piece.replace(SPACE, " ") for piece in vocabulary.pieces]
        return cls([*[None] * len(SPECIAL), *pieces[len(SPECIAL) :]], vocabulary)

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def letters(self) -> set[str]:
        """The characters that it can write, without the space."""
        return set("".join(piece or "" for piece in self.pieces)) - {" "}

    @property
    def written(self) -> list[int]:
        """The tokens that stand for text."""
        return [number for number, piece in enumerate(self.pieces) if piece is not None]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text.

        Raises:
            InputError: for a character that it does not know.
        """
        if self.vocabulary is not None:
            found = self.vocabulary.encode([text])[0].ids
            unknown = [text] if any(self.pieces[number] is None for number in found) else []
        else:
            unknown = sorted(set(text) - self._numbers.keys())
            found = [] if unknown else [self._numbers[character] for character in text]
        if unknown:
            raise InputError(f"the transcripts of the training have nothing to write {unknown[0]!r} with")
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return " ".join("".join(self.pieces[token] or "" for token in tokens).split())

    def looks(self, token: int) -> str:
        """A token as people read it."""
        piece = self.pieces[token]
        return "blank" if token == BLANK else "" if piece is None else piece.replace(" ", "␣")

    def to_json(self) -> Any:
        if self.vocabulary is not None:
            return {"kind": "bpe", "library": self.vocabulary.to_json()}
        return {"kind": "char", "alphabet": "".join(piece or "" for piece in self.pieces)}

    @classmethod
    def from_json(cls, value: Any) -> Units:
        """What ``to_json`` gave; raises InputError for anything else."""
        if isinstance(value, dict) and value.get("kind") == "char" and isinstance(value.get("alphabet"), str):
            return cls([None, *value["alphabet"]])
        if isinstance(value, dict) and value.get("kind") == "bpe":
            return cls._of(Vocabulary.from_json(value.get("library")))
        raise InputError("the units are foreign: expected characters or pieces of words")


def steps_needed(tokens: Sequence[int]) -> int:
    """Steps of the network that tokens take at least: one each, and a blank between equal ones."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))
