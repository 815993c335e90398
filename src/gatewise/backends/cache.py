"""Machine code kept on disk between processes, in a folder that only its user can write (the rule: ``guarded.py``).

An entry is bytes under the SHA-256 of all that decides them, with a suffix for their kind; so nothing is ever
invalidated. Before the bytes stands a checksum, since what reads machine code crashes where it is damaged. It is no
protection against a person, who can compute it too.

A folder that breaks the rule is neither read nor written. One warning says why, and the process keeps its machine code
in a private folder that it removes at its end.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from gatewise.backends import guarded
from gatewise.backends.guarded import Folder, UntrustedError

VARIABLE = "GATEWISE_CACHE"
LIMIT_BYTES = 256 << 20  # a kernel is 10 to 100 KB: thousands of them
PACKAGE = Path(__file__).resolve().parents[1]
_MAGIC = b"gwobj001"
_HEAD_BYTES = len(_MAGIC) + 32
_STALE_SECONDS = 3600.0  # a temporary file this old belongs to a process that died while writing
_OURS = re.compile(r"[0-9a-f]{64}\.[a-z]+|[0-9a-f]{32}\.tmp")


@dataclass
class _Process:
    """What this process met: its latest problem in words, whether it gave its one warning, its private folder."""

    problem: str | None = None
    warned: bool = False
    private: Path | None = None


_process = _Process()


def problem() -> str | None:
    """Why an entry was not read or not written, the latest reason; None where all went well."""
    return _process.problem


def _warn(text: str) -> None:
    _process.problem = text
    if not _process.warned:
        _process.warned = True
        warnings.warn(text, RuntimeWarning, stacklevel=2)


# --- what decides the code ---


@functools.cache
def source_hash(package: Path = PACKAGE) -> str:
    """A hash of all source that turns a cell into code: each file of ``compiler`` and ``backends`` in the package's
    folder, with its path. Empty where there is no source to read."""
    paths = [path for part in ("compiler", "backends") for path in sorted((package / part).rglob("*"))]
    # Bytecode is made of the source; hidden files are those of editors.
    files = [path for path in paths if path.parent.name != "__pycache__" and path.name[0] != "." and path.is_file()]
    if not any(path.suffix == ".py" for path in files):
        return ""
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(package).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


# --- the folder ---


def folder() -> Path | None:
    """The folder asked for: GATEWISE_CACHE, else the user's folder for caches; None where there is to be none."""
    named = os.environ.get(VARIABLE)
    if named is not None and named.lower() in ("", "off"):
        return None
    if not source_hash():
        _process.problem = "the source of Gatewise cannot be read, so stale entries would not be known"
        return None
    try:
        return Path(named).expanduser() if named else platformdirs.user_cache_path("gatewise", appauthor=False)
    except RuntimeError as error:  # there is no home folder
        _process.problem = f"no folder for the cache: {error}"
        return None


@contextlib.contextmanager
def _opened(make: bool) -> Iterator[Folder | None]:
    """The folder asked for, or the private one where that is not to be trusted; None where there is to be none.

    Raises:
        OSError: when it is missing, cannot be made or cannot be opened.
    """
    asked = folder()
    with contextlib.ExitStack() as stack:
        directory = None
        if asked is not None:
            try:
                directory = stack.enter_context(guarded.opened(asked, make))
            except UntrustedError as error:
                _warn(f"{_refusal(asked, error)}; this process keeps its machine code in a private folder")
                with contextlib.suppress(UntrustedError):  # the folder for temporary files breaks the rule as well
                    directory = stack.enter_context(guarded.opened(_private(), make=True))
        yield directory


def _refusal(path: Path, reason: UntrustedError) -> str:
    advice = f"take others' rights away with chmod go-w, or name a folder of your own in {VARIABLE}"
    return f"the cache folder {path} is not used, because {reason} ({advice})"


def _private() -> Path:
    """A folder of this process alone."""
    if _process.private is None:
        _process.private = Path(tempfile.mkdtemp(prefix="gatewise-"))
        atexit.register(_remove, _process.private, os.getpid())
    return _process.private


def _remove(private: Path, maker: int) -> None:
    if os.getpid() == maker:  # a forked child may end before the process that goes on with it
        shutil.rmtree(private, ignore_errors=True)


# --- entries ---


def _head(name: str, content: bytes) -> bytes:
    """What stands before the content. The sum covers the name: a sound entry under another's name is not taken."""
    return _MAGIC + hashlib.sha256(name.encode() + content).digest()


def read(name: str) -> bytes | None:
    """The content of an entry; None where there is none that is whole and to be trusted.

    Args:
        name: 64 hexadecimal digits, a dot and the kind in small letters.
    """
    try:
        with _opened(make=False) as directory:
            if directory is None:
                return None
            data = directory.read(name)
            content = data[_HEAD_BYTES:]
            if data[:_HEAD_BYTES] != _head(name, content):
                return None
            directory.touch(name)  # the oldest go first
            return content
    except UntrustedError as error:
        _warn(f"machine code is compiled anew, because {error}")
        return None
    except OSError:  # most often it is not there; what else may be wrong store will say
        return None


def store(name: str, content: bytes) -> None:
    """Write an entry whole or not at all; a folder that refuses costs the next process a compilation, nothing else."""
    try:
        with _opened(make=True) as directory:
            if directory is not None:
                directory.write(name, f"{name[:16]}{secrets.token_hex(8)}.tmp", _head(name, content) + content)
                _prune(directory)
    except OSError as error:
        _process.problem = f"{folder()} could not be written: {error}"


def _prune(directory: Folder) -> None:
    """Delete the oldest entries above the limit, down to 7/8 of it, so that not every store has to."""
    entries = directory.entries(_OURS)
    total = sum(status.st_size for _, status in entries)
    target = LIMIT_BYTES * 7 // 8 if total > LIMIT_BYTES else total
    now = time.time()
    for name, status in entries[:-1]:  # the newest is the one just written
        stale = name.endswith(".tmp") and now - status.st_mtime > _STALE_SECONDS
        if total > target or stale:
            directory.remove(name)
            total -= status.st_size


def size() -> int:
    """The bytes on disk."""
    with contextlib.suppress(OSError), _opened(make=False) as directory:
        return _bytes(directory) if directory else 0
    return 0


def _bytes(directory: Folder) -> int:
    return sum(status.st_size for _, status in directory.entries(_OURS))


def clear() -> int:
    """Delete every entry on disk and say how many; code already in memory stays."""
    with contextlib.suppress(OSError), _opened(make=False) as directory:
        return sum(directory.remove(name) for name, _ in directory.entries(_OURS)) if directory else 0
    return 0


def report() -> dict[str, object]:
    """What ``gatewise info`` prints: the folder, the bytes in it, the problem if there is one. It makes no folder and
    gives no warning."""
    asked = folder()
    if asked is None:
        return _reported("off", 0, problem())
    try:
        with guarded.opened(asked, make=False) as directory:
            return _reported(asked, _bytes(directory), directory.fault(_OURS) or problem())
    except FileNotFoundError:  # it is made when there is something to keep
        return _reported(asked, 0, problem())
    except UntrustedError as error:
        private = _process.private or "a private folder, removed at the end of each process"
        return _reported(private, size() if _process.private else 0, _refusal(asked, error))
    except OSError as error:
        return _reported(asked, 0, f"it cannot be opened: {error.strerror}")


def _reported(place: Path | str, held: int, trouble: str | None) -> dict[str, object]:
    return {"cache": str(place), "cache_bytes": held} | ({"cache_problem": trouble} if trouble else {})
