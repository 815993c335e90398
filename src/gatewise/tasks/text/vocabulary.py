"""From text to pieces and back without loss: whole words, or sub-words by byte-pair encoding (``tokenizers``).

A piece keeps the space before it as ``▁``, so that joining pieces gives the text back, with the spaces where they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatewise.tasks.errors import InputError, need

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPACE = "▁"
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, START, END, UNKNOWN = range(4)
KINDS = ("bpe", "words")


@dataclass(frozen=True)
class Sentence:
    """A text in pieces: their ids and what they looked like, known or not."""

    ids: list[int]
    pieces: list[str]


class Vocabulary:
    """The pieces of a language, or of two together. ``len`` counts them with the four special ones."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.pieces = [str(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())]

    def __len__(self) -> int:
        return len(self.pieces)

    @classmethod
    def learn(cls, texts: Iterable[str], kind: str, size: int) -> Vocabulary:
        """Learn at most ``size`` pieces from texts; ``words`` that are seen once stay unknown."""
        tokenizers = need("tokenizers")
        from tokenizers import decoders, models, trainers

        special = list(SPECIAL)
        trainer: Any
        if kind == "words":
            tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
            trainer = trainers.WordLevelTrainer(
                vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False
            )
        else:
            tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
            trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False)
        tokenizer.pre_tokenizer = _cuts()
        tokenizer.decoder = decoders.Metaspace(SPACE)
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.encode_special_tokens = True
        return cls(tokenizer)

    def encode(self, texts: Sequence[str]) -> list[Sentence]:
        found = []
        for text, code in zip(
            texts, self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False), strict=True
        ):
            ids = code.ids
            pieces = [self.pieces[i] for i in ids]
            if UNKNOWN in ids:
                code = self.tokenizer.encode(text, add_special_tokens=False)
                for k in (k for k, i in enumerate(ids) if i == UNKNOWN):
                    pieces[k] = _looks(text, *code.offsets[k], marked=k > 0 and pieces[k - 1] == SPACE)
            found.append(Sentence(ids, pieces))
        return found

    @staticmethod
    def join(pieces: Iterable[str]) -> str:
        """The text of pieces."""
        return "".join(pieces).replace(SPACE, " ").strip()

    def to_json(self) -> Any:
        return json.loads(self.tokenizer.to_str())

    @classmethod
    def from_json(cls, value: Any) -> Vocabulary:
        """Raises InputError for what ``to_json`` did not write."""
        try:
            tokenizer = need("tokenizers").Tokenizer.from_str(json.dumps(value))
        except InputError:
            raise
        except Exception as error:  # the library raises nothing more special
            raise InputError(f"the vocabulary is damaged: {error}") from None
        if [tokenizer.id_to_token(i) for i in range(4)] != list(SPECIAL):
            raise InputError(f"the vocabulary is foreign: it must begin with {' '.join(SPECIAL)}")
        if getattr(tokenizer.model, "unk_token", None) != SPECIAL[UNKNOWN]:
            raise InputError(f"the vocabulary is foreign: what is unknown must be {SPECIAL[UNKNOWN]}")
        tokenizer.encode_special_tokens = True
        return cls(tokenizer)


def _looks(text: str, start: int, end: int, marked: bool) -> str:
    """An unknown piece as it stands in the text, with the mark of a space before it unless that is a piece itself."""
    spaced = start == 0 or text[start - 1].isspace() or text[start].isspace()
    return SPACE * (spaced and not marked) + text[start:end].strip()


def _cuts() -> Any:
    """Where pieces end at the latest: before spaces, after apostrophes, around digits and punctuation."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True),
            pre_tokenizers.Split(Regex("['’]"), "merged_with_previous"),
            pre_tokenizers.Split(Regex(rf"\d|[^\w\s{SPACE}'’]"), "isolated"),
        ]
    )
