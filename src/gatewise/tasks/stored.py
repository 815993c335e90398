"""A large file of a run that is written once, part by part: gone on with after a kill, sealed by its SHA-256, mapped.

Its mark says what it is made of: a file of another mark is not this one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gatewise.tasks.claim import claim_on
from gatewise.tasks.errors import InputError, WriteError, reason
from gatewise.tasks.folder import read_json, remove, sha256, write_json


def files(name: str) -> tuple[str, str, str, str]:
    """What is written under a name: the file, what it is, and both while they are written."""
    return f"{name}.bin", f"{name}.json", f"{name}.partial", f"{name}.progress.json"


@dataclass(frozen=True)
class Stored:
    """The file of a name in a folder."""

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        return self.folder / files(self.name)[0]

    @property
    def described(self) -> Path:
        return self.folder / files(self.name)[1]

    @property
    def partial(self) -> Path:
        return self.folder / files(self.name)[2]

    @property
    def progress(self) -> Path:
        return self.folder / files(self.name)[3]

    def whole(self, mark: Any) -> bool:
        """Whether it is there, of this mark."""
        if not (self.path.exists() and self.described.exists()) or read_json(self.described).get("mark") != mark:
            return False
        remove(self.progress)  # of a process that was killed between its last two steps
        return True

    def begun(self, mark: Any) -> dict[str, Any]:
        """What was noted by a process that was killed while it wrote a file of this mark; empty where none was."""
        if not self.progress.exists() or not self.partial.exists():
            return {}
        saved = read_json(self.progress)
        return saved if saved.get("mark") == mark else {}

    @contextlib.contextmanager
    def opened(self, size: int) -> Iterator[IO[bytes]]:
        """The partial file, to be written on behind so many bytes of an earlier process.

        Raises:
            WriteError: when it cannot be written. InputError: that of the body, for data that cannot be read: these are
                not gone on with.
        """
        try:
            with self.partial.open("r+b" if size else "wb") as file:
                file.truncate(size)
                file.seek(0, os.SEEK_END)
                yield file
        except OSError as error:
            raise WriteError(f"{self.partial} cannot be written: {reason(error)}") from error
        except WriteError:
            raise
        except InputError:
            remove(self.partial)
            remove(self.progress)
            raise

    def note(self, mark: Any, done: dict[str, Any], file: IO[bytes]) -> None:
        """Bring to the disk what was written, and how far it is."""
        file.flush()
        os.fsync(file.fileno())
        write_json(self.progress, {"mark": mark, **done})

    def seal(self, mark: Any, about: dict[str, Any], written: os.stat_result) -> None:
        """Give the partial file its name, and say what it is; ``written`` is of the file that was open."""
        try:
            write_json(self.described, {"mark": mark, **about, "sha256": sha256(self.partial)})
            self._named(written)
        except OSError as error:
            raise WriteError(f"{self.partial} cannot be written: {reason(error)}") from error
        remove(self.progress)

    def copied(self, source: Path) -> None:
        """Write a sealed file again under this name, and what says what it is.

        Raises:
            WriteError: when it cannot be written.
        """
        try:
            write_json(self.described, read_json(source.with_suffix(".json")))
            shutil.copyfile(source, self.partial)
            self._named(self.partial.stat())
        except OSError as error:
            raise WriteError(f"{self.partial} cannot be written: {reason(error)}") from error

    def _named(self, written: os.stat_result) -> None:
        claim = claim_on(self.folder)
        if claim is not None:
            claim.note(self.path, written)
        os.replace(self.partial, self.path)

    def check(self, about: dict[str, Any], size: int, verify: bool) -> None:
        """Raise InputError where it is missing, has not so many bytes or, where it is to be read, another SHA-256."""
        try:
            right = self.path.stat().st_size == size
            if not right or (verify and sha256(self.path) != about.get("sha256")):
                raise InputError(f"{self.path} is damaged: it is not as {self.described.name} says it was written")
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {reason(error)}") from None
