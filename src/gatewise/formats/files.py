"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from gatewise.formats.errors import FormatError


def new_file(path: str | Path, suffix: str, force: bool = False) -> Path:
    """The path of a file to be written.

    Raises:
        FormatError: where it exists and ``force`` is not given, has another suffix, or its directory is missing.
    """
    if not isinstance(path, (str, Path)):
        raise FormatError(f"path must be a str or a Path, got {type(path).__name__}")
    file = Path(path)
    if file.suffix != suffix or not file.stem:
        raise FormatError(f"path must end in {suffix}, got {str(path)!r}")
    if file.is_dir() or (file.exists() and not force):
        raise FormatError(f"{file} exists; choose another name, or write over it with force")
    if not file.parent.is_dir():
        raise FormatError(f"{file.parent} is no directory, expected one to write {file.name} into")
    return file


def write(path: Path, content: bytes) -> None:
    """Write beside and rename.

    Raises:
        FormatError: where the system refuses; what was there before is still there.
    """
    try:
        handle, name = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as error:
        raise FormatError(f"{path} cannot be written: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
