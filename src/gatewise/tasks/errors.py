"""The one error that bad input raises, and the sentence for a missing optional dependency."""

from __future__ import annotations

import importlib
from types import ModuleType


class InputError(ValueError):
    """Bad input to an application: one sentence with the argument, what came and what was expected."""


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
