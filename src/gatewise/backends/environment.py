"""Variables of the environment that every call of a layer asks for."""

from __future__ import annotations

import os
from typing import Any


def variable(name: str) -> str:
    """The value of a variable, empty where it is not set: ``os.environ.get`` without the exception that a missing one
    costs inside: 0.15 µs instead of 0.8, three times in a call of 39 µs."""
    environment: Any = os.environ
    try:
        found = environment._data.get(environment.encodekey(name))
        return "" if found is None else str(environment.decodevalue(found))
    except AttributeError:  # these parts are not documented
        return str(environment.get(name, ""))
