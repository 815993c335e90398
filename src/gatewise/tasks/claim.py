"""A directory that this process writes: locked meanwhile; after an error what this call made in it goes, by name."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from gatewise.tasks.errors import InputError, WriteError, reason
from gatewise.tasks.lock import HeldError, Lock

LOCK = ".lock"
PART = ".part"
"""How temporary files of who holds the lock end, who alone makes such; those of anybody else end in LOOSE."""
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}(\.part|\.tmp)")
_STALE_SECONDS = 3600.0  # a loose temporary file this old belongs to a process that died while writing


class Claim:
    """A directory while it is written, the files that were made in it since, and the directories made for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock: Lock | None = None
        self._files: dict[Path, os.stat_result] = {}
        self._directories: list[Path] = []

    def take(self, locked: bool, check: Callable[[Path, bool], None] | None) -> None:
        """Make the directory where there is none, hold it, and prove that it can be written; see ``claimed``."""
        self._make()
        if locked:
            self.lock = Lock(self.folder / LOCK)
            if check is not None:
                check(self.folder, self.lock.left)
            self.lock.sign()
        else:
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        _sweep(self.folder, locked)

    def _make(self) -> None:
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process was quicker
                path.mkdir()
                self._directories.append(path)
        if not self.folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def end(self, failed: bool) -> None:
        """Let go of the directory; after a failure the directories made for it go where nothing is left in them."""
        made = self._directories if failed and self.holds() else []
        if self.lock is not None:
            self.lock.release()
        with contextlib.suppress(OSError):
            for path in reversed(made):
                path.rmdir()

    def holds(self) -> bool:
        """Whether the directory is still there and nobody else's."""
        return self.lock is None or self.lock.holds()

    def check(self) -> None:
        """Raises WriteError when the directory, or its lock, has gone: another one of its name is not ours to write."""
        if not self.holds():
            what = self.folder if not self.folder.is_dir() else f"the lock {self.folder / LOCK}"
            raise WriteError(f"{what} vanished while it was in use: was it removed, renamed or replaced?")

    def note(self, path: Path, written: os.stat_result) -> None:
        """A file is about to get this name; when nothing has it yet, it is ours."""
        if path in self._files or not path.exists():
            self._files[path] = written

    def take_back(self) -> None:
        """Remove the files that were made here, where they still are what was written."""
        if not self.holds():
            return
        for path, written in self._files.items():
            with contextlib.suppress(OSError):  # the error that led here is the one to be told
                if os.path.samestat(path.stat(), written):
                    path.unlink()
        _sweep(self.folder, self.lock is not None)


_claims: ContextVar[tuple[Claim, ...]] = ContextVar("claims", default=())


def claim_on(folder: Path) -> Claim | None:
    """The claim on a directory under which this code runs."""
    return next((claim for claim in reversed(_claims.get()) if claim.folder == folder), None)


@contextlib.contextmanager
def under(claim: Claim | None) -> Iterator[None]:
    """Run under a claim, which a process that was spawned has from the one that made it."""
    token = _claims.set((*_claims.get(), claim) if claim is not None else _claims.get())
    try:
        yield
    finally:
        _claims.reset(token)


@contextlib.contextmanager
def claimed(
    directory: str | Path,
    what: str = "output directory",
    locked: bool = True,
    check: Callable[[Path, bool], None] | None = None,
) -> Iterator[Claim]:
    """Hold a directory, which is made where there is none, against all other processes.

    On an error the directories that were made for it go again where nothing is left in them.

    Args:
        directory: to be held. what: it is, for the sentences. locked: False where several may write.
        check: called with the directory and whether a process was killed while it held it; may refuse it.

    Raises:
        InputError: when another process holds it. WriteError: when it cannot be made or written.
    """
    if not str(directory):
        raise InputError(f"{what} must have a name, got ''")
    claim = Claim(Path(directory))
    try:
        with _told(what, claim.folder):
            claim.take(locked, check)
        with under(claim):
            yield claim
    except BaseException:
        claim.end(failed=True)
        raise
    claim.end(failed=False)


@contextlib.contextmanager
def _told(what: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except HeldError as error:
        raise InputError(f"{what} {folder} is in use: {error} is writing there; wait for its end or stop it") from None
    except OSError as error:
        lock = folder / LOCK
        cause = f" because of its {LOCK}" if str(error.filename) == str(lock) and os.path.lexists(lock) else ""
        raise WriteError(f"{what} {folder} cannot be written{cause}: {reason(error)}") from error


def _sweep(folder: Path, locked: bool) -> None:
    """Remove temporary files of processes that were killed while writing."""
    with os.scandir(folder) as entries:
        found = [(entry, match[1]) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
    for entry, ending in found:
        with contextlib.suppress(OSError):  # another process was quicker, or it belongs to another user
            if (locked and ending == PART) or time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                os.unlink(entry.path)
