"""A file is written beside its place and renamed: a reader, a crash or a power failure never sees half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from gatewise.errors import WriteError, reason

LOOSE = ".tmp"
"""How temporary files end."""


def write_beside(
    path: Path, content: bytes, ending: str = LOOSE, before: Callable[[os.stat_result], None] = lambda _: None
) -> None:
    """Write a file, in the place of one that may be there.

    Args:
        path: of the file. content: all of it. ending: of the temporary file beside it.
        before: called with the finished temporary file before it gets its name; may refuse.

    Raises:
        WriteError: when it cannot be written; what was there before is still there.
    """
    try:
        handle, name = tempfile.mkstemp(ending, f".{path.name}.", path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            os.chmod(name, 0o666 & ~_umask())
            before(os.stat(name))
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise WriteError(refused(path, error)) from error


def refused(path: Path, error: OSError) -> str:
    """The sentence for a file that the system does not let us write."""
    return f"{path} cannot be written: {reason(error)}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
