"""Where a file that is exported may be written."""

from __future__ import annotations

from pathlib import Path

from gatewise.errors import InputError


def new_file(path: str | Path, suffix: str, force: bool = False) -> Path:
    """The path of a file to be written.

    Raises:
        InputError: where it exists and ``force`` is not given, has another suffix, or its directory is missing.
    """
    if not isinstance(path, (str, Path)):
        raise InputError(f"path must be a str or a Path, got {type(path).__name__}")
    file = Path(path)
    if file.suffix != suffix or not file.stem:
        raise InputError(f"path must end in {suffix}, got {str(path)!r}")
    if file.is_dir() or (file.exists() and not force):
        raise InputError(f"{file} exists; choose another name, or write over it with force")
    if not file.parent.is_dir():
        raise InputError(f"{file.parent} is no directory, expected one to write {file.name} into")
    return file
