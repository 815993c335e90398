"""From text to tokens and back: characters, bytes, sub-words by byte-pair encoding, or a given ``tokenizer.json``.

Every tokenizer has one more token than its texts need: ``end``, the last one, stands before and after each document.
"""

from __future__ import annotations

import codecs
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.text.sources import Piece, Sources, utf8

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

Ids = NDArray[Any]
KINDS = ("char", "byte", "bpe")
SAMPLE = 1 << 25
"""Bytes of text from which sub-words are learned at most, evenly taken from all of it."""
CODES = 0x110000
"""Code points of Unicode."""
NAMED = 10
"""Unknown characters that a sentence names."""


class Tokenizer(ABC):
    """What cuts texts into tokens, numbers from 0 to ``size`` - 1, of which the last is ``end``."""

    kind: ClassVar[str]
    size: int
    unit: ClassVar[str] = "token"

    @property
    def end(self) -> int:
        return self.size - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned integers that hold every token."""
        return np.min_scalar_type(self.end)

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The tokens of a text.

        Raises:
            InputError: for characters that a ``char`` tokenizer does not know; the sentence names them.
        """

    def encode_piece(self, piece: Piece) -> Ids:
        """Of a piece of a document; raises InputError with the place of what cannot be read."""
        return self.encode(piece.text)

    @abstractmethod
    def raw(self, token: int) -> bytes | None:
        """The bytes of a token; None where they depend on the tokens around it."""

    @abstractmethod
    def looks(self, token: int) -> str:
        """A token as people read it."""

    @abstractmethod
    def to_json(self) -> Any: ...

    def decoder(self) -> Decoder:
        """For tokens that come one by one."""
        return _Bytes(self)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; what is no UTF-8 becomes �, and ``end`` nothing."""
        decoder = self.decoder()
        return "".join(decoder.push(int(token)) for token in tokens) + decoder.finish()

    def characters(self, tokens: Ids) -> int:
        """How many characters of text some tokens are."""
        return int(self._lengths[tokens].sum())

    @cached_property
    def _lengths(self) -> NDArray[np.int64]:
        """Characters that begin in each token."""
        each = (self.raw(token) or b"" for token in range(self.size))
        return np.array([sum(byte & 0xC0 != 0x80 for byte in raw) for raw in each])


class Decoder(ABC):
    """Text from tokens as they come, never half a character."""

    @abstractmethod
    def push(self, token: int) -> str:
        """What can be read once this token has come."""

    @abstractmethod
    def finish(self) -> str:
        """What is left: � where a character was begun and not finished."""


class _Bytes(Decoder):
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._raw = tokenizer.raw
        self._text = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._text.decode(self._raw(token) or b"")

    def finish(self) -> str:
        return self._text.decode(b"", True)


class Chars(Tokenizer):
    """One token for each character of an alphabet, in the order of their code points."""

    kind = "char"
    unit = "character"

    def __init__(self, alphabet: str) -> None:
        self.alphabet = "".join(sorted(set(alphabet)))
        self.size = len(self.alphabet) + 1
        codes = np.array([ord(c) for c in self.alphabet], np.int64)
        self._table = np.full(int(codes.max(initial=0)) + 1, self.end, self.dtype)  # end: unknown
        self._table[codes] = np.arange(len(codes))
        self._each = [c.encode("utf-8") for c in self.alphabet] + [b""]

    @classmethod
    def learn(cls, sources: Sources) -> Chars:
        """All characters of some text."""
        found = np.zeros(CODES, np.bool_)
        for piece in sources.pieces():
            found[_codes(piece.text)] = True
        return cls("".join(map(chr, np.flatnonzero(found))))

    def encode(self, text: str) -> Ids:
        codes = _codes(text)
        if len(codes) and codes.max() >= len(self._table):
            raise self._unknown(text)
        tokens = self._table[codes]
        if (tokens == self.end).any():
            raise self._unknown(text)
        return tokens

    def encode_piece(self, piece: Piece) -> Ids:
        try:
            return self.encode(piece.text)
        except InputError as error:
            raise InputError(f"{piece.origin}: {error}") from None

    def _unknown(self, text: str) -> InputError:
        unknown = list(dict.fromkeys(c for c in text if c not in self.alphabet))
        named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:NAMED])
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        many = "s" if len(unknown) > 1 else ""
        return InputError(
            f"the text the model was trained on has no character{many} {named}{more}; leave out what it does not know, "
            "or train with tokenizer='byte', which knows every text"
        )

    def raw(self, token: int) -> bytes:
        return self._each[token]

    def looks(self, token: int) -> str:
        return "<end>" if token == self.end else self.alphabet[token]

    def to_json(self) -> Any:
        return {"kind": self.kind, "alphabet": self.alphabet}


def _codes(text: str) -> NDArray[np.uint32]:
    """The code point of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Bytes(Tokenizer):
    """One token for each of the 256 bytes: whatever lies in a file can be read, and nothing is unknown."""

    kind = "byte"
    unit = "byte"
    size = 257

    def encode(self, text: str) -> Ids:
        return np.frombuffer(utf8(text, "the text"), np.uint8).astype(self.dtype)

    def encode_piece(self, piece: Piece) -> Ids:
        return np.frombuffer(piece.raw, np.uint8).astype(self.dtype)

    def raw(self, token: int) -> bytes:
        return b"" if token == self.end else bytes([token])

    def looks(self, token: int) -> str:
        return "<end>" if token == self.end else chr(token) if 32 <= token < 127 else f"\\x{token:02x}"

    def to_json(self) -> Any:
        return {"kind": self.kind}


class SubWords(Tokenizer):
    """Sub-words as a ``tokenizer.json`` of the library ``tokenizers`` says; ``end`` is no token of that file.

    Special tokens of the file are neither added to a text nor looked for in it.
    """

    kind = "bpe"

    def __init__(self, library: Library) -> None:
        library.encode_special_tokens = True
        library.no_padding()
        library.no_truncation()
        self._library = library
        names = library.get_vocab(with_added_tokens=True)
        self.size = max(names.values(), default=-1) + 2
        self._names = {number: name for name, number in names.items()}
        text = json.loads(library.to_str())
        level = _is_byte_level(text.get("decoder"))
        added = {token["id"] for token in text.get("added_tokens") or []}
        self._each = [self._bytes_of(token, token in added) for token in range(self.size)] if level else None

    @classmethod
    def learn(cls, sources: Sources, size: int) -> SubWords:
        """Byte-pair encoding over bytes (Sennrich et al. 2016; Radford et al. 2019), which loses nothing.

        Args:
            sources: the text; of more than 32 MB a part is taken, evenly. size: tokens, with ``end``, at least 257.
        """
        tokenizers = need("tokenizers")
        from tokenizers import decoders, models, pre_tokenizers, trainers

        library = tokenizers.Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size - 1,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        library.train_from_iterator(_sample(sources), trainer)
        return cls(library)

    @classmethod
    def read(cls, path: Any) -> SubWords:
        """A ``tokenizer.json``; raises InputError when it cannot be read."""
        tokenizers = need("tokenizers")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises nothing more special
            raise InputError(f"{path} is no tokenizer.json that can be read: {error}") from None

    def encode(self, text: str) -> Ids:
        utf8(text, "the text")
        found = self._library.encode_batch_fast([text], add_special_tokens=False)
        return np.array(found[0].ids, self.dtype)

    def raw(self, token: int) -> bytes | None:
        return self._each[token] if self._each is not None else None

    def _bytes_of(self, token: int, added: bool) -> bytes:
        name = self._names.get(token, "")
        return name.encode("utf-8") if added or not _BYTES.keys() >= set(name) else bytes(_BYTES[c] for c in name)

    def looks(self, token: int) -> str:
        if token == self.end:
            return "<end>"
        raw = self.raw(token)
        return self._names.get(token, "") if raw is None else raw.decode("utf-8", "backslashreplace")

    def decoder(self) -> Decoder:
        return super().decoder() if self._each is not None else _Windows(self._library, self.end)

    def characters(self, tokens: Ids) -> int:
        return super().characters(tokens) if self._each is not None else len(self.decode(tokens))

    def to_json(self) -> Any:
        return {"kind": self.kind, "library": json.loads(self._library.to_str())}


class _Windows(Decoder):
    """Where the text of a token depends on those around it: the difference that the last one made to the text of a few.

    It is held back while it ends in �, which may be a character that is not all there.
    """

    def __init__(self, library: Library, end: int) -> None:
        self._library, self._end = library, end
        self._tokens: list[int] = []
        self._from, self._said = 0, 0

    def push(self, token: int) -> str:
        if token == self._end:
            return self.finish()
        self._tokens.append(token)
        text = self._text(len(self._tokens))
        if text.endswith("�"):
            return ""
        return self._take(text)

    def finish(self) -> str:
        return self._take(self._text(len(self._tokens)))

    def _take(self, text: str) -> str:
        new = text[len(self._text(self._said)) :]
        self._from, self._said = self._said, len(self._tokens)
        return new

    def _text(self, end: int) -> str:
        return str(self._library.decode(self._tokens[self._from : end], skip_special_tokens=False))


def learned(kind: str, sources: Sources, size: int) -> Tokenizer:
    """A tokenizer of one of ``KINDS`` for a text, or a path's ``tokenizer.json``; ``size`` is for ``bpe``.

    Raises:
        InputError: for another kind.
    """
    if kind == "char":
        return Chars.learn(sources)
    if kind == "byte":
        return Bytes()
    if kind == "bpe":
        return SubWords.learn(sources, size)
    if kind.endswith(".json"):
        return SubWords.read(kind)
    raise InputError(f"tokenizer must be one of {', '.join(KINDS)} or the path of a tokenizer.json, got {kind!r}")


def from_json(value: Any) -> Tokenizer:
    """What ``to_json`` gave; raises InputError for anything else."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "char" and isinstance(value.get("alphabet"), str):
        return Chars(value["alphabet"])
    if kind == "byte":
        return Bytes()
    if kind == "bpe" and isinstance(value.get("library"), dict):
        tokenizers = need("tokenizers")
        try:
            return SubWords(tokenizers.Tokenizer.from_str(json.dumps(value["library"])))
        except Exception as error:  # the library raises nothing more special
            raise InputError(f"the tokenizer is damaged: {error}") from None
    raise InputError("the tokenizer is foreign: expected what a model with characters, bytes or sub-words has")


def _sample(sources: Sources) -> Iterator[str]:
    """Every piece, or so many of them, evenly, that they are ``SAMPLE`` bytes."""
    every, left = max(1, -(-sources.size // SAMPLE)), SAMPLE
    for k, piece in enumerate(sources.pieces()):
        if k % every == 0 and left > 0:
            left -= len(piece.raw)
            yield piece.text


def _is_byte_level(decoder: Any) -> bool:
    parts: Sequence[Any] = (decoder or {}).get("decoders", [decoder])
    return len(parts) == 1 and (parts[0] or {}).get("type") == "ByteLevel"


def _byte_characters() -> dict[str, int]:
    """The printed form of each byte in byte-level vocabularies (Radford et al. 2019): itself, or one from U+0100 on."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + k): byte for k, byte in enumerate(hidden)}


_BYTES = _byte_characters()
