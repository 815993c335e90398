"""Text from files, folders, globs, gzip, Zstandard, standard input, Python or the embedded default: a piece at a time.

Memory holds one piece, however large a file is or a compressed one grows. What can be read only once (standard input,
a pipe) is copied to a temporary file first.
"""

from __future__ import annotations

import atexit
import glob
import gzip
import hashlib
import logging
import os
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from gatewise.tasks.errors import InputError, need, reason

PIECE = 1 << 20
"""Bytes of a piece, about."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
STANDARD_INPUT = "-"
LOG = logging.getLogger("gatewise")
SILENCE = 30.0
"""Seconds of reading after which a log hears how far it is."""


@dataclass(frozen=True)
class Piece:
    """A part of a document.

    ``first`` says whether the document begins with it. ``offset`` is where ``raw`` starts in what ``origin`` names, in
    bytes, after unpacking. Where the text is UTF-8, no character is cut.
    """

    raw: bytes
    first: bool
    origin: str
    offset: int

    @property
    def text(self) -> str:
        """Raises InputError, with file and byte, for what is not UTF-8."""
        try:
            return self.raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.origin}, byte {self.offset + error.start:,}: not UTF-8 (0x{self.raw[error.start]:02x}); "
                "convert the file, or use tokenizer='byte', which reads any bytes"
            ) from None


def utf8(text: str, name: str, start: int = 0) -> bytes:
    """A text's bytes; raises InputError for half a character (a lone surrogate), which UTF-8 has no bytes for.

    Args:
        text: a text, or a part of one that begins with its character number ``start``. name: what to call it.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        where = f"{name}, character {start + error.start:,}"
        raise InputError(f"{where}: half a character (U+{code:04X}), which UTF-8 has no bytes for") from None


@dataclass(frozen=True)
class _File:
    """A file that can be read again and again, and what to call it."""

    path: Path
    name: str

    def pieces(self, size: int | None = None) -> Iterator[bytes]:
        try:
            with _opened(self.path, self.name) as file:
                while raw := file.read(size or PIECE):
                    yield raw
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise InputError(f"{self.name} is damaged or not gzipped, as its name says") from None
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {reason(error)}") from None

    @property
    def mark(self) -> str:
        """Changes when the file does."""
        found = self.path.stat()
        return f"{self.path.resolve()} {found.st_size} {found.st_mtime_ns}"


@dataclass(frozen=True)
class _Text:
    """A text that is in memory."""

    text: str
    name: str

    def pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self.text), PIECE):
            yield utf8(self.text[start : start + PIECE], self.name, start)

    @property
    def mark(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


class Sources:
    """Documents, to be read as often as one likes.

    Each file and each text is a document; ``separator`` cuts them into further ones and is no part of any. Empty
    documents do not count.
    """

    def __init__(
        self, parts: list[_File | _Text], separator: str | None, spool: tempfile.TemporaryDirectory[str] | None
    ):
        self.parts, self.separator = parts, separator
        self._spool = spool  # goes with this object

    @property
    def mark(self) -> str:
        """A digest that changes when a text, or a file's size or time, does."""
        whole = repr(([part.mark for part in self.parts], self.separator))
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def size(self) -> int:
        """Bytes as they lie on disk or in memory, packed where they are packed: for progress, and to take samples."""
        return sum(p.path.stat().st_size if isinstance(p, _File) else len(p.text) for p in self.parts)

    def pieces(self) -> Iterator[Piece]:
        """All documents in order, a piece at a time.

        Raises:
            InputError: for a file that cannot be read or is damaged.
        """
        said, size = time.monotonic(), 0
        for part in self.parts:
            cut = self.separator.encode("utf-8") if self.separator else b""
            for piece in _documents(_whole_characters(part.pieces()), cut, part.name):
                yield piece
                size += len(piece.raw)
                if time.monotonic() >= said + SILENCE:
                    said = time.monotonic()
                    LOG.info("reading text: %s, %d MB so far", piece.origin, size >> 20)


def sources(data: Any, separator: str | None = None) -> Sources:
    """What is to be read.

    Args:
        data: a path, a folder (all files below it, but for hidden ones, by name), a glob (``texts/**/*.txt``), or ``-``
            for standard input; a list of ``pathlib.Path`` for several of those; a list of str for texts, each a
            document by itself; None for the embedded English text (``pydoc_data.topics``). Names ending in ``.gz`` and
            ``.zst`` are unpacked.
        separator: text between documents of one file, such as ``<|endoftext|>``.

    Raises:
        InputError: for what is none of these, is not there, or cannot be read.
    """
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise InputError(f"separator must be a text that is not empty, got {separator!r}")
    if isinstance(data, Sources):
        return data
    if data is None:
        return Sources(_embedded(), separator, None)
    if isinstance(data, (str, Path)):
        data = [Path(data)]
    if not isinstance(data, (list, tuple)) or not data:
        raise InputError(f"data must be a path, a list of paths or a list of texts, got {_called(data)}")
    if all(isinstance(part, str) for part in data):
        _check_no_names(data)
        return Sources([_Text(text, f"text {k}") for k, text in enumerate(data, 1)], separator, None)
    if not all(isinstance(part, Path) for part in data):
        raise InputError("data: a list must hold texts (str) alone or paths (pathlib.Path) alone, got both or others")
    spool = tempfile.TemporaryDirectory(prefix="gatewise-text-", ignore_cleanup_errors=True)
    found = [file for path in data for file in _files(path, Path(spool.name))]
    return Sources(found, separator, spool)  # type: ignore[arg-type]


def _called(data: Any) -> str:
    return "an empty list" if isinstance(data, (list, tuple)) else type(data).__name__


def _check_no_names(texts: Sequence[str]) -> None:
    """A list of file names is not a list of texts that say how files are called."""
    if all(0 < len(text) < 256 and "\n" not in text and "\0" not in text and os.path.exists(text) for text in texts):
        raise InputError(f"data: a list of str holds texts, but {texts[0]!r} is a file; use pathlib.Path for files")


def _embedded() -> list[_File | _Text]:
    """The reference of the language that comes with every Python: about 0.5 MB of English, 80 documents."""
    from pydoc_data.topics import topics

    return [_Text(topics[name], f"topic {name}") for name in sorted(topics)]


def _files(path: Path, spool: Path) -> list[_File]:
    if str(path) == STANDARD_INPUT:
        return [_standard_input(sys.stdin.buffer)]
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return _matching(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {reason(error) if isinstance(error, OSError) else error}") from None
    if stat.S_ISDIR(mode):
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        if not inside:
            raise InputError(f"{path} holds no files")
        return [_readable(p) for p in inside]
    if stat.S_ISFIFO(mode):
        with path.open("rb") as file:
            return [_spooled(file, str(path), spool)]
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is neither a file nor a folder nor a pipe")
    return [_readable(path)]


@lru_cache(maxsize=1)
def _standard_input(stream: IO[bytes]) -> _File:
    """The copy is kept while the process lives: a comparison reads its data once for each fit."""
    spool = tempfile.TemporaryDirectory(prefix="gatewise-text-", ignore_cleanup_errors=True)
    atexit.register(spool.cleanup)
    return _spooled(stream, "standard input", Path(spool.name))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _matching(path: Path) -> list[_File]:
    if not glob.has_magic(str(path)):
        raise InputError(f"there is no file {path}")
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
    if not found:
        raise InputError(f"no file matches {path}")
    return [_readable(p) for p in found]


def _readable(path: Path) -> _File:
    """The file, once it is known that it can be opened and, by its first bytes, unpacked."""
    file = _File(path, str(path))
    next(file.pieces(1), b"")
    return file


def _spooled(file: IO[bytes], name: str, spool: Path) -> _File:
    target = spool / f"{len(list(spool.iterdir()))}"
    try:
        with target.open("wb") as copy:
            shutil.copyfileobj(file, copy, PIECE)
    except OSError as error:
        raise InputError(f"{name} cannot be copied into {spool.parent}: {reason(error)}") from None
    return _File(target, name)


def _opened(path: Path, name: str) -> IO[bytes]:
    """The file's bytes, unpacked as its name says."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return _zstandard(path, name) if path.suffix == ".zst" else path.open("rb")


def _zstandard(path: Path, name: str) -> IO[bytes]:
    """By Python's own module (3.14), or its backport. A frame may ask for 128 MB of memory at most."""
    module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return _Unpacked(need(module, "zstd"), path, name)  # type: ignore[return-value]


class _Unpacked:
    """Reads a file in Zstandard's format; its errors are sentences."""

    def __init__(self, zstd: Any, path: Path, name: str) -> None:
        self._error, self._name = zstd.ZstdError, name
        self._file = zstd.open(path, "rb")

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._file.read(size))
        except (self._error, EOFError):
            raise InputError(f"{self._name} is damaged or not in Zstandard's format, as its name says") from None


def _whole_characters(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind the last end of a line, or between characters of UTF-8 where there is none."""
    rest = b""
    for raw in pieces:
        rest += raw
        end = rest.rfind(b"\n") + 1 or len(rest) - _unfinished(rest)
        if end:
            yield rest[:end]
        rest = rest[end:]
    if rest:
        yield rest


def _unfinished(raw: bytes) -> int:
    """How many bytes at the end begin a character that is not all there; 0 to 3."""
    for back in range(1, min(4, len(raw) + 1)):
        byte = raw[-back]
        if byte & 0xC0 != 0x80:  # no continuation: a character begins here
            length = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
            return back if back < length else 0
    return 0


def _documents(pieces: Iterator[bytes], cut: bytes, origin: str) -> Iterator[Piece]:
    """Pieces cut at every separator, which may itself lie across two of them; without a leading byte order mark."""
    offset, first, rest, begun = 0, True, b"", False
    for raw in pieces:
        rest += raw
        if not begun and rest.startswith(BYTE_ORDER_MARK):
            offset, rest = len(BYTE_ORDER_MARK), rest[len(BYTE_ORDER_MARK) :]
        begun = True
        *whole, last = rest.split(cut) if cut else [rest]
        for part in whole:
            if part:
                yield Piece(part, first, origin, offset)
            offset, first = offset + len(part) + len(cut), True
        kept = _begun(last, cut)
        ready = last[: len(last) - kept]
        if ready:
            yield Piece(ready, first, origin, offset)
            first = False
        offset, rest = offset + len(ready), last[len(ready) :]
    if rest:
        yield Piece(rest, first, origin, offset)


def _begun(raw: bytes, cut: bytes) -> int:
    """How many bytes at the end may be the beginning of a separator."""
    return next((n for n in range(min(len(cut) - 1, len(raw)), 0, -1) if raw.endswith(cut[:n])), 0)
