"""Folders from which machine code may be read, because nobody but their user can write them.

What is read from such a folder runs in this process, so it must come from the user or root. The rule:

- The folder and its entries belong to the user or to root, and nobody else may write them.
- The folders above it, up to the root of the file system, belong to the user or to root. Others may write one of them
  only where it is sticky, as /tmp is: there nobody can rename or remove what belongs to somebody else.
- Symbolic links on the way are resolved first, and the rule is held against the real path. Each folder is opened inside
  the one checked before, and entries inside the folder, never through a link: what was checked is what is used.
- An entry is a regular file of at most 64 MB.

Rights given by POSIX access-control lists show in the mode's bits for the group; those of macOS do not show and are not
looked at. A file system without owners is judged by what its mount reports: files that all belong to the user and are
closed to others pass, those of mode 777 do not. On Windows modes say nothing: there the user's folder for caches is
closed to others by inheritance, and a folder of any other name is taken as it is.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LARGEST_BYTES = 64 << 20

_OWNERS = hasattr(os, "geteuid")
# What a system lacks is 0. Without O_NONBLOCK the opening of a named pipe waits for somebody who writes into it.
_FILE = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FILE
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_PASSED = _FOLDER | getattr(os, "O_PATH", 0)  # a folder that one may pass through but not list


class UntrustedError(Exception):
    """Others than the user and root could have written it; the message names it and says how."""


@dataclass(frozen=True)
class Folder:
    """An open folder that keeps the rule: by its descriptor, or by its path where a system has none of folders."""

    path: Path
    descriptor: int | None

    def read(self, name: str) -> bytes:
        """The bytes of an entry.

        Raises:
            UntrustedError: when the entry breaks the rule.
            OSError: when it is missing or cannot be read.
        """
        try:
            handle = os.open(self._at(name), _READ, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UntrustedError(f"{self.path / name} is a symbolic link") from None
            raise
        try:
            status = os.fstat(handle)
            if reason := _entry_fault(status):
                raise UntrustedError(f"{self.path / name} {reason}")
            with open(handle, "rb", closefd=False) as file:
                return file.read(status.st_size)
        finally:
            os.close(handle)

    def write(self, name: str, temporary: str, content: bytes) -> None:
        """Write an entry whole or not at all: first under a temporary name.

        Raises:
            OSError: when it cannot be written; then nothing is left of it.
        """
        at = self.descriptor
        try:
            with open(os.open(self._at(temporary), _WRITE, 0o600, dir_fd=at), "wb") as file:
                file.write(content)
            os.replace(self._at(temporary), self._at(name), src_dir_fd=at, dst_dir_fd=at)
        except OSError:
            self.remove(temporary)
            raise

    def touch(self, name: str) -> None:
        """Set an entry's time to now, where that is allowed."""
        with contextlib.suppress(OSError):
            os.utime(self._at(name), dir_fd=self.descriptor)

    def remove(self, name: str) -> bool:
        """Remove an entry if that can be done, and say whether it was."""
        try:
            os.unlink(self._at(name), dir_fd=self.descriptor)
        except OSError:
            return False
        return True

    def entries(self, names: re.Pattern[str]) -> list[tuple[str, os.stat_result]]:
        """What of these names lies in it, oldest first; other processes may remove some meanwhile."""
        found = []
        with os.scandir(self.path if self.descriptor is None else self.descriptor) as items:
            for item in items:
                if names.fullmatch(item.name):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((item.name, item.stat(follow_symlinks=False)))
        return sorted(found, key=lambda entry: entry[1].st_mtime)

    def fault(self, names: re.Pattern[str]) -> str:
        """Why an entry of these names would not be read; empty where all would."""
        faults = ((name, _entry_fault(status)) for name, status in self.entries(names))
        return next((f"{self.path / name} {reason}" for name, reason in faults if reason), "")

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else str(self.path / name)


@contextlib.contextmanager
def opened(path: Path, make: bool) -> Iterator[Folder]:
    """A folder, opened and checked from the root of the file system downwards; made if it is missing and ``make``.

    Raises:
        UntrustedError: when it or one above breaks the rule.
        OSError: when it is missing, cannot be made or cannot be opened.
    """
    if not _OWNERS:
        if make:
            path.mkdir(parents=True, exist_ok=True)
        yield Folder(path, None)
        return
    real = Path(os.path.realpath(path))
    way = [*reversed(real.parents), real]
    descriptor = os.open(way[0], _PASSED)
    try:
        for above, place in itertools.pairwise(way):
            _check(above, descriptor, above=True)
            outer, descriptor = descriptor, _inside(descriptor, place.name, _FOLDER if place == real else _PASSED, make)
            os.close(outer)
        _check(real, descriptor, above=False)
        yield Folder(real, descriptor)
    finally:
        os.close(descriptor)


def _check(place: Path, descriptor: int, *, above: bool) -> None:
    if reason := _fault(os.fstat(descriptor), above=above):
        raise UntrustedError(f"{place} {reason}")


def _inside(outer: int, name: str, flags: int, make: bool) -> int:
    """A folder inside another, opened; made for its user alone if it is missing and ``make``."""
    try:
        return os.open(name, flags, dir_fd=outer)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):  # another process was faster
        os.mkdir(name, 0o700, dir_fd=outer)
    return os.open(name, flags, dir_fd=outer)


def _fault(status: os.stat_result, *, above: bool) -> str:
    """How others than the user and root could change a file or folder; empty where they cannot.

    Args:
        above: it is a folder above the one in question, which may be sticky.
    """
    if not _OWNERS:
        return ""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}, expected user {os.geteuid()} or root"
    open_to_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if open_to_others and not (above and status.st_mode & stat.S_ISVTX):
        return f"can be written by others, mode {stat.S_IMODE(status.st_mode):o}"
    return ""


def _entry_fault(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size > LARGEST_BYTES:
        return f"has {status.st_size} bytes, expected at most {LARGEST_BYTES}"
    return _fault(status, above=False)
