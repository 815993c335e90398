"""The texts of a model and their tokenizer: read, cut into tokens once, kept in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import read_json, remove, sha256, write_json
from gatewise.tasks.language.store import NAME, Tokens, copy_tokens, read_tokens, tokens_of
from gatewise.tasks.stored import files
from gatewise.tasks.text.sources import Sources, sources
from gatewise.tasks.text.tokenizers import Tokenizer, from_json, learned

VOCABULARY = "vocabulary.json"
VALIDATION = "validation"
MOST_HELD = 1 << 18
"""Tokens that are held out of the training text at most."""


class Corpus:
    """Training text, and validation text where one was given.

    Tokens are cut when they are first asked for: into the folder that was last saved to, else into a temporary one. So
    a text may be larger than memory.
    """

    def __init__(self, tokenizer: Tokenizer, texts: dict[str, Sources | None], folder: Path | None = None) -> None:
        self.tokenizer, self.texts, self.folder = tokenizer, texts, folder
        self._cut: dict[str, Tokens] = {}

    @classmethod
    def read(cls, data: Any, validation: Any, separator: str | None, kind: str, size: int) -> Corpus:
        """From what a user gives; see ``sources`` and ``learned``.

        Raises:
            InputError: for what cannot be read, an empty text, or a validation text that the tokenizer does not know.
        """
        text = _not_empty(sources(data, separator), "data")
        texts: dict[str, Sources | None] = {NAME: text}
        tokenizer = learned(kind, text, size)
        if validation is not None:
            held = _not_empty(sources(validation, separator), "validation")
            for piece in held.pieces():
                tokenizer.encode_piece(piece)
            texts[VALIDATION] = held
        return cls(tokenizer, texts)

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """What ``save`` wrote; the tokens may be missing until they are asked for.

        Raises:
            InputError: for a damaged file.
        """
        saved = read_json(folder / VOCABULARY)
        names = saved.get("texts")
        if names not in ([NAME], [NAME, VALIDATION]):
            raise InputError(f"{folder / VOCABULARY} is damaged: expected the texts of a language model, got {names!r}")
        return cls(from_json(saved.get("tokenizer")), dict.fromkeys(names), folder)

    def save(self, folder: Path) -> None:
        """Write tokenizer and tokens, what is not yet cut too. A process that is killed meanwhile is gone on from.

        Raises:
            InputError: for text that cannot be read. WriteError: when the folder cannot be written.
        """
        write_json(folder / VOCABULARY, {"tokenizer": self.tokenizer.to_json(), "texts": list(self.texts)})
        for name, text in self.texts.items():
            tokens, _, partial, progress = files(name)
            try:
                if name in self._cut:
                    copy_tokens(self._cut[name], folder, name)
                elif text is not None:
                    self._cut[name] = tokens_of(text, self.tokenizer, folder, name=name)
                elif self.folder is not None and (self.folder / tokens).exists():
                    copy_tokens(read_tokens(self.folder, self.tokenizer, name=name), folder, name)
            except BaseException:
                for file in (partial, progress):
                    remove(folder / file)
                raise

    def same(self, other: Corpus) -> bool:
        """Whether another one that was just read has the same texts and tokens."""
        if self.tokenizer.to_json() != other.tokenizer.to_json() or self.texts.keys() != other.texts.keys():
            return False
        return all(self._same(other, name) for name in self.texts)

    def _same(self, other: Corpus, name: str) -> bool:
        own, text = self.tokens(name), other.texts[name]
        assert own.place is not None
        about = read_json(own.place[0].with_suffix(".json"))
        if text is not None and text.mark == about.get("mark", {}).get("text"):
            return True
        place = other.tokens(name).place
        return place is not None and sha256(place[0]) == about.get("sha256")

    def tokens(self, name: str = NAME) -> Tokens:
        """Of the text of a name.

        Raises:
            InputError: for text that cannot be read, or a file that is missing or damaged.
        """
        if name not in self._cut:
            text = self.texts[name]
            if text is not None:
                self._cut[name] = tokens_of(text, self.tokenizer)
            else:
                assert self.folder is not None
                self._cut[name] = read_tokens(self.folder, self.tokenizer, name=name)
        return self._cut[name]

    def parts(self, share: float) -> tuple[Tokens, Tokens]:
        """Training and validation tokens; without a validation text this share of the training text, its last.

        Raises:
            InputError: for too little text.
        """
        whole = self.tokens()
        if VALIDATION in self.texts:
            training, held = whole, self.tokens(VALIDATION)
        else:
            training, held = whole.split(min(share, MOST_HELD / max(1, len(whole))))
        if len(training) < 2 or not held.spans:
            raise InputError(f"data: {len(whole)} tokens are too few to train on and to validate with")
        return training, held


def _not_empty(text: Sources, name: str) -> Sources:
    if next(text.pieces(), None) is None:
        raise InputError(f"{name}: the text is empty")
    return text


FILES = (VOCABULARY, *files(NAME), *files(VALIDATION))
"""All that ``save`` may write."""
LARGE = tuple(name for text in (NAME, VALIDATION) for name in (files(text)[0], *files(text)[2:]))
"""Of these the tokens, whose SHA-256 stands beside them, and what a finished call leaves nothing of."""
