"""The tokens of all documents in one file that is mapped into memory: written once, read by any number of processes.

``tokens.bin`` holds unsigned integers, little-endian: each document after an ``end`` token. ``tokens.json`` says what
it is, with its SHA-256. While it is written it is called ``tokens.partial``, and ``progress.json`` says how far it is
good, so that a process that was killed is gone on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.claim import claim_on
from gatewise.tasks.errors import InputError, WriteError, reason
from gatewise.tasks.folder import read_json, remove, write_json
from gatewise.tasks.text.sources import Piece, Sources
from gatewise.tasks.text.tokenizers import Ids, Tokenizer

TOKENS, ABOUT, PARTIAL, PROGRESS = "tokens.bin", "tokens.json", "tokens.partial", "progress.json"
FILES = TOKENS, ABOUT, PARTIAL, PROGRESS
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

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where the ``end`` tokens are."""
        found = [np.flatnonzero(part == self.end) + start for start, part in self._scan()]
        return np.concatenate([np.zeros(0, np.int64), *found])

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where each document begins and stops, without ``end``; empty ones do not count."""
        cuts = [-1, *self.ends.tolist(), len(self.ids)]
        return [(a + 1, b) for a, b in pairwise(cuts) if b > a + 1]

    def counts(self) -> NDArray[np.int64]:
        """How often each token occurs."""
        total = np.zeros(self.end + 1, np.int64)
        for _, part in self._scan():
            total += np.bincount(part, minlength=self.end + 1)
        return total

    def split(self, share: float) -> tuple[Tokens, Tokens]:
        """All but a last part of about this share, and that part: cut at a document if one begins near, else in it."""
        aim = round(len(self) * (1 - share))
        ends = self.ends[1:]
        near = int(ends[np.abs(ends - aim).argmin()]) if len(ends) else 0
        cut = near if abs(near - aim) <= 0.5 * share * len(self) else aim
        return Tokens(self.ids[:cut], self.end, self.keep), Tokens(self.ids[cut:], self.end, self.keep)

    def _scan(self) -> Iterator[tuple[int, Ids]]:
        for start in range(0, len(self.ids), SCANNED):
            yield start, self.ids[start : start + SCANNED]


def tokens_of(
    sources: Sources, tokenizer: Tokenizer, folder: Path | None = None, tell: Callable[[int], None] | None = None
) -> Tokens:
    """Cut all documents into tokens, on all cores; go on where an interrupted call for the same text stopped.

    Args:
        folder: gets ``tokens.bin`` and ``tokens.json``; None for a temporary one. tell: is called with the bytes of
            text done so far.

    Raises:
        InputError: for text that cannot be read. WriteError: when the folder cannot be written.
    """
    if folder is None:
        kept = tempfile.TemporaryDirectory(prefix="gatewise-tokens-", ignore_cleanup_errors=True)
        found = tokens_of(sources, tokenizer, Path(kept.name), tell)
        return Tokens(found.ids, found.end, kept)
    mark = {"text": sources.mark, "tokenizer": _digest(json.dumps(tokenizer.to_json()).encode())}
    if (folder / TOKENS).exists() and (folder / ABOUT).exists() and read_json(folder / ABOUT).get("mark") == mark:
        return read_tokens(folder, tokenizer)
    try:
        _write(folder, sources, tokenizer, mark, tell)
    except OSError as error:
        raise WriteError(f"{folder / PARTIAL} cannot be written: {reason(error)}") from error
    except WriteError:
        raise
    except InputError:  # text that cannot be read is not gone on with
        remove(folder / PARTIAL)
        remove(folder / PROGRESS)
        raise
    return read_tokens(folder, tokenizer, verify=False)


def read_tokens(folder: Path, tokenizer: Tokenizer, verify: bool = True) -> Tokens:
    """Open what ``tokens_of`` wrote; the file is mapped, not read.

    Args:
        verify: whether the file is read once, about a second for 1 GB, to see that it is as it was written.

    Raises:
        InputError: when it is missing, damaged, or was written by another tokenizer.
    """
    about, path = read_json(folder / ABOUT), folder / TOKENS
    found = about.get("mark", {}).get("tokenizer")
    if found != _digest(json.dumps(tokenizer.to_json()).encode()):
        raise InputError(f"{folder / ABOUT} is foreign: its tokens are not of this model's tokenizer")
    try:
        size = path.stat().st_size
        whole = size == about.get("count", -1) * tokenizer.dtype.itemsize
        if not whole or (verify and _digest_of(path) != about.get("sha256")):
            raise InputError(f"{path} is damaged: it is not as {ABOUT} says it was written")
        return Tokens(_mapped(path, tokenizer.dtype, size), tokenizer.end)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None


def _mapped(path: Path, dtype: np.dtype[Any], size: int) -> Ids:
    little = dtype.newbyteorder("<")
    return np.memmap(path, little, "r").view(np.ndarray) if size else np.zeros(0, little)


def _write(
    folder: Path, sources: Sources, tokenizer: Tokenizer, mark: dict[str, str], tell: Callable[[int], None] | None
) -> None:
    done = _Progress.read(folder, mark)
    claim, started = claim_on(folder), done.pieces
    with (folder / PARTIAL).open("r+b" if started else "wb") as file:
        file.truncate(done.tokens * tokenizer.dtype.itemsize)
        file.seek(0, os.SEEK_END)
        for piece, ids in _encoded(islice(sources.pieces(), started, None), tokenizer):
            file.write(_as_written(ids, piece, tokenizer))
            done.pieces, done.size = done.pieces + 1, done.size + len(piece.raw)
            done.tokens += len(ids) + piece.first
            if (done.pieces - started) % SAVED == 0:
                if claim is not None:
                    claim.check()
                done.save(folder, mark, file)
            if tell is not None:
                tell(done.size)
        done.save(folder, mark, file)
        written = os.stat(file.fileno())
    about = {"mark": mark, "count": done.tokens, "bytes": done.size, "sha256": _digest_of(folder / PARTIAL)}
    write_json(folder / ABOUT, about)
    if claim is not None:
        claim.note(folder / TOKENS, written)
    os.replace(folder / PARTIAL, folder / TOKENS)
    remove(folder / PROGRESS)


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
class _Progress:
    """What of the text is in ``tokens.partial``: whole pieces, and how many tokens and bytes they are."""

    pieces: int = 0
    tokens: int = 0
    size: int = 0

    @classmethod
    def read(cls, folder: Path, mark: dict[str, str]) -> _Progress:
        """Nothing, unless a process was killed while it wrote tokens of the same text."""
        if not (folder / PROGRESS).exists() or not (folder / PARTIAL).exists():
            return cls()
        saved = read_json(folder / PROGRESS)
        return cls(*saved["done"]) if saved.get("mark") == mark else cls()

    def save(self, folder: Path, mark: dict[str, str], file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        write_json(folder / PROGRESS, {"mark": mark, "done": [self.pieces, self.tokens, self.size]})


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while raw := file.read(SCANNED):
            digest.update(raw)
    return digest.hexdigest()
