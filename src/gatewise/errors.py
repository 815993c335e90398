"""The errors that bad input and an unwritable place raise, and the sentence for a missing optional dependency."""

from __future__ import annotations

import errno
import importlib
from types import ModuleType


class InputError(ValueError):
    """Bad input: one sentence with the argument, what came and what was expected.

    Args:
        typed: what the command line says behind the sentence: words that are of no use in Python.
    """

    def __init__(self, sentence: object = "", typed: str = "") -> None:
        super().__init__(sentence)
        self.typed = typed


class UnsupportedError(InputError):
    """Input that is right, but of a kind that Gatewise does not compute or read."""


class WriteError(InputError):
    """A file or directory that cannot be written: one sentence with its name and the reason; ``__cause__`` has more."""


FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def reason(error: OSError) -> str:
    """Why the system refused, in words."""
    return "the disk is full" if error.errno in FULL else str(error.strerror or error)


def need(module: str, extra: str = "apps") -> ModuleType:
    """Import an optional dependency.

    Raises:
        InputError: when it is not installed; the sentence names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise InputError(f"{package} is not installed; pip install 'gatewise[{extra}]' brings it") from error
