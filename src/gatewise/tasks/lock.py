"""A lock on a file that ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import warnings
import weakref
from multiprocessing import context, reduction
from pathlib import Path
from typing import Any

BUSY = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a file system says that has none, such as NFS without its lock service."""
FAR = 1 << 30
"""The byte that Windows locks: nobody else can read what is locked there, and the holder's name must be readable."""


class HeldError(Exception):
    """Another process, or another call in this one, holds the lock; the message says who."""


class Lock:
    """An exclusive lock, from now on until ``release`` or the end of the process and of those it was handed on to.

    The file is made where there is none and removed by ``release``; one that a killed process left holds up nobody.
    Pickled into a process that is being spawned the lock is held by that one too, where the system can do this (not on
    Windows). A forked process does not hold it.

    Raises:
        HeldError: when it is held. OSError: when the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = _take(path)
        self.left = os.fstat(self._handle).st_size > 0
        """Whether a process that was killed had signed the file."""
        _held.add(self)

    def sign(self) -> None:
        """Write into the file whose it is."""
        assert self._handle is not None
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, f"process {os.getpid()} on {platform.node()}".encode())

    def holds(self) -> bool:
        """Whether the file is still there: neither removed nor replaced, nor its directory."""
        return self.path.exists() if self._handle is None else _is_at(self._handle, self.path)

    def release(self) -> None:
        # Windows removes no open file; elsewhere the file must go while the lock is held, or it might be another's.
        if sys.platform != "win32" and self.holds():
            self._remove()
        self.forget()
        if sys.platform == "win32":
            self._remove()

    def forget(self) -> None:
        """Close the file; the lock ends unless another process holds it too."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None
        _held.discard(self)

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # what stays behind holds up nobody
            self.path.unlink()

    def __getstate__(self) -> dict[str, Any]:
        shared = self._handle is not None and sys.platform != "win32" and context.get_spawning_popen() is not None
        return {"path": self.path, "handle": reduction.DupFd(self._handle or 0) if shared else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.left = state["path"], False
        self._handle = None if state["handle"] is None else state["handle"].detach()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


if hasattr(os, "register_at_fork"):  # a process forked in a run does not write it, and may live longer
    os.register_at_fork(after_in_child=_forget_all)


def _take(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(handle, path)
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder removed it between our opening and our locking


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _lock(handle: int, path: Path) -> None:
    try:
        _exclusive(handle)
    except OSError as error:
        if error.errno in BUSY:
            raise HeldError(_signature(path)) from None
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{path.parent} lies on a file system without locks ({error.strerror}): nothing keeps a second process "
            "from writing there",
            stacklevel=2,
        )


if sys.platform == "win32":
    import msvcrt

    def _exclusive(handle: int) -> None:
        os.lseek(handle, FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _exclusive(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _signature(path: Path) -> str:
    """Who holds the lock, by what the file says."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = path.read_bytes()[:200].decode()
        if text.startswith("process ") and text.isprintable():
            return text
    return "another process"
