"""Lines of text files in UTF-8, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from gatewise.tasks.errors import InputError

BYTE_ORDER_MARK = "\ufeff"
MOST_BYTES = 1 << 31
"""Of a file, unpacked: a small one can be made that unpacks to more than any memory holds."""


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, gzipped or not, without their ends.

    Raises:
        InputError: when it cannot be read; for another encoding with the number of the first line that shows it.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a regular file, expected a text file")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"{path} is damaged or not gzipped, as its name says") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(raw) > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES:,} bytes (unpacked), which this task cannot read")
    return lines_of(raw, str(path))


def lines_of(raw: bytes, name: str) -> list[str]:
    """The lines of a text in UTF-8; raises InputError for another encoding, with the first line that shows it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{name}, line {line}: not UTF-8 (byte 0x{raw[error.start]:02x}); convert it") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{name}, line {line}: not UTF-8 text, since it holds a zero byte; convert it")
    lines = text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
