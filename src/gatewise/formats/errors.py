"""The errors that conversions raise, and the sentence for a missing optional dependency."""

from __future__ import annotations

import importlib
from types import ModuleType


class FormatError(ValueError):
    """What cannot be converted, or was not converted rightly: one sentence."""


def need(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        FormatError: when it is not installed; the sentence names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise FormatError(f"{package} is not installed; pip install 'gatewise[{extra}]' brings it") from error
