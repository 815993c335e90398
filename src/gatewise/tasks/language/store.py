"""The tokens of all documents in one file that is mapped into memory: written once, read by any number of processes.

``tokens.bin`` holds unsigned integers, little-endian: each document after an ``end`` token. ``tokens.json`` says what
it is, with its SHA-256. While it is written it is called ``tokens.partial``, and ``tokens.progress.json`` says how far
it is good, so that a process that was killed is gone on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError, reason
from gatewise.tasks.folder import read_json
from gatewise.tasks.stored import Stored, files
from gatewise.tasks.text.sources import Piece, Sources
from gatewise.tasks.text.tokenizers import Ids, Tokenizer

NAME = "tokens"


TOKENS, ABOUT, PARTIAL, PROGRESS = FILES = files(NAME)
SAVED = 64
"""Pieces, of about 1 MB, after which what was written is brought to the disk and noted."""
THREADS = 16
"""That cut text into tokens at most; each piece of sub-words takes some 50 MB while it is cut."""
SCANNED = 1 << 22
"""Tokens that are looked at at once."""


@dataclass(frozen=True)
class Tokens:
    """Documents as tokens, in a file or in memory, or a part of them.

    ``ids``: one-dimensional; each document stands after ``end``. A part may begin within a document.
    """

    ids: Ids
    end: int
    keep: Any = field(default=None, repr=False, compare=False)
    """What must live as long: the folder of a temporary file."""
    place: tuple[Path, int] | None = field(default=None, repr=False, compare=False)
    """The file they lie in, and how many stand there before them."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes map the file for themselves."""
        if self.place is None:
            return Tokens, (self.ids, self.end)
        return _again, (*self.place, len(self.ids), self.ids.dtype.str, self.end)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where the ``end`` tokens are."""
        found = [np.flatnonzero(part == self.end) + start for start, part in self.parts()]
        return np.concatenate([np.zeros(0, np.int64), *found])

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where each document begins and stops, without ``end``; empty ones do not count."""
        cuts = [-1, *self.ends.tolist(), len(self.ids)]
        return [(a + 1, b) for a, b in pairwise(cuts) if b > a + 1]

    def counts(self) -> NDArray[np.int64]:
        """How often each token occurs."""
        total = np.zeros(self.end + 1, np.int64)
        for _, part in self.parts():
            total += np.bincount(part, minlength=self.end + 1)
        return total

    def split(self, share: float) -> tuple[Tokens, Tokens]:
        """All but a last part of about this share, and that part: cut at a document if one begins near, else in it."""
        aim = round(len(self) * (1 - share))
        ends = self.ends[1:]
        near = int(ends[np.abs(ends - aim).argmin()]) if len(ends) else 0
        cut = near if abs(near - aim) <= 0.5 * share * len(self) else aim
        return self._part(0, cut), self._part(cut, len(self))

    def _part(self, start: int, stop: int) -> Tokens:
        place = None if self.place is None else (self.place[0], self.place[1] + start)
        return Tokens(self.ids[start:stop], self.end, self.keep, place)

    def parts(self) -> Iterator[tuple[int, Ids]]:
        """Parts that memory holds, and where each begins."""
        for start in range(0, len(self.ids), SCANNED):
            yield start, self.ids[start : start + SCANNED]


def _again(path: Path, start: int, count: int, dtype: str, end: int) -> Tokens:
    return Tokens(_mapped(path, np.dtype(dtype))[start : start + count], end, place=(path, start))


def tokens_of(
    sources: Sources,
    tokenizer: Tokenizer,
    folder: Path | None = None,
    tell: Callable[[int], None] | None = None,
    name: str = NAME,
) -> Tokens:
    """Cut all documents into tokens, on all cores; go on where an interrupted call for the same text stopped.

    Args:
        folder: gets ``tokens.bin`` and ``tokens.json``; None for a temporary one. tell: is called with the bytes of
            text done so far. name: of the files, where it is not ``tokens``.

    Raises:
        InputError: for text that cannot be read. WriteError: when the folder cannot be written.
    """
    if folder is None:
        kept = tempfile.TemporaryDirectory(prefix="gatewise-tokens-", ignore_cleanup_errors=True)
        return replace(tokens_of(sources, tokenizer, Path(kept.name), tell), keep=kept)
    stored = Stored(folder, name)
    mark = {"text": sources.mark, "tokenizer": _digest(json.dumps(tokenizer.to_json()).encode())}
    if stored.whole(mark):
        return read_tokens(folder, tokenizer, name=name)
    _write(stored, sources, tokenizer, mark, tell)
    return read_tokens(folder, tokenizer, verify=False, name=name)


def read_tokens(folder: Path, tokenizer: Tokenizer, verify: bool = True, name: str = NAME) -> Tokens:
    """Open what ``tokens_of`` wrote; the file is mapped, not read.

    Args:
        verify: whether the file is read once, about a second for 1 GB, to see that it is as it was written.

    Raises:
        InputError: when it is missing, damaged, or was written by another tokenizer.
    """
    stored = Stored(folder, name)
    about = read_json(stored.described)
    found = about.get("mark", {}).get("tokenizer")
    if found != _digest(json.dumps(tokenizer.to_json()).encode()):
        raise InputError(f"{stored.described} is foreign: its tokens are not of this model's tokenizer")
    stored.check(about, about.get("count", -1) * tokenizer.dtype.itemsize, verify)
    try:
        return Tokens(_mapped(stored.path, tokenizer.dtype), tokenizer.end, place=(stored.path, 0))
    except OSError as error:
        raise InputError(f"{stored.path} cannot be read: {reason(error)}") from None


def copy_tokens(tokens: Tokens, folder: Path, name: str = NAME) -> None:
    """Write the files of a store to another folder.

    Raises:
        WriteError: when it cannot be written.
    """
    assert tokens.place is not None
    Stored(folder, name).copied(tokens.place[0])


def _mapped(path: Path, dtype: np.dtype[Any]) -> Ids:
    little = dtype.newbyteorder("<")
    return np.memmap(path, little, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, little)


def _write(
    stored: Stored, sources: Sources, tokenizer: Tokenizer, mark: dict[str, str], tell: Callable[[int], None] | None
) -> None:
    done = _Done(*stored.begun(mark).get("done", ()))
    started = done.pieces
    with stored.opened(done.tokens * tokenizer.dtype.itemsize) as file:
        for piece, ids in _encoded(islice(sources.pieces(), started, None), tokenizer):
            file.write(_as_written(ids, piece, tokenizer))
            done.pieces, done.size = done.pieces + 1, done.size + len(piece.raw)
            done.tokens += len(ids) + piece.first
            if (done.pieces - started) % SAVED == 0:
                stored.note(mark, done.noted, file)
            if tell is not None:
                tell(done.size)
        stored.note(mark, done.noted, file)
        written = os.fstat(file.fileno())
    stored.seal(mark, {"count": done.tokens, "bytes": done.size}, written)


def _as_written(ids: Ids, piece: Piece, tokenizer: Tokenizer) -> bytes:
    own = ids.astype(tokenizer.dtype.newbyteorder("<")).tobytes()
    return (tokenizer.end.to_bytes(tokenizer.dtype.itemsize, "little") if piece.first else b"") + own


def _encoded(pieces: Iterator[Piece], tokenizer: Tokenizer) -> Iterator[tuple[Piece, Ids]]:
    """Each piece with its tokens, in order; a few are worked on at once. Tokenizers work outside of Python's lock."""
    threads = min(THREADS, os.cpu_count() or 1)
    ahead: deque[tuple[Piece, Future[Ids]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for piece in pieces:
            ahead.append((piece, pool.submit(tokenizer.encode_piece, piece)))
            if len(ahead) > 2 * threads:
                first, ids = ahead.popleft()
                yield first, ids.result()
        for first, ids in ahead:
            yield first, ids.result()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _Done:
    """What of the text is in the partial file: whole pieces, and how many tokens and bytes they are."""

    pieces: int = 0
    tokens: int = 0
    size: int = 0

    @property
    def noted(self) -> dict[str, list[int]]:
        return {"done": [self.pieces, self.tokens, self.size]}


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
