"""The errors of applications, which stand below them, since reading and writing formats raises them too."""

from gatewise.errors import FULL, InputError, WriteError, need, reason

__all__ = ["FULL", "InputError", "WriteError", "need", "reason"]
