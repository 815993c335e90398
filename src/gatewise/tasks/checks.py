"""Checks of the values of options: each raises InputError with the option's name, what came and what is expected."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gatewise.tasks.errors import InputError

Check = Callable[[str, Any], None]
"""Takes the name and the value of an option."""
MOST = 10**9
MOST_UNITS = 1 << 14
MOST_LAYERS = 64
MOST_WEIGHTS = 1 << 28
MOST_SEED = 2**63 - 1


def integer(least: int, most: int) -> Check:
    """An integer in this range."""

    def check(name: str, value: Any) -> None:
        check_integer(name, value, least, most)

    return check


def number_above_zero(most: float = math.inf) -> Check:
    """A number above 0."""

    def check(name: str, value: Any) -> None:
        if not _is_real(value) or not 0 < value <= most:
            bound = "" if most == math.inf else f" and at most {most:g}"
            raise InputError(f"{name} must be a number above 0{bound}, got {value!r}")

    return check


def share(name: str, value: Any) -> None:
    """A number from 0 to below 1."""
    if not _is_real(value) or not 0 <= value < 1:
        raise InputError(f"{name} must be a number of at least 0 and below 1, got {value!r}")


def flag(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {value!r}")


def text(name: str, value: Any) -> None:
    """A text."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text or None, got {value!r}")


def choice(*choices: str) -> Check:
    """One of some texts."""

    def check(name: str, value: Any) -> None:
        if value not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")

    return check


def check_integer(name: str, value: Any, least: int, most: int) -> None:
    """Raises InputError for what is no integer in this range."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
    if value > most:
        raise InputError(f"{name} must be an integer of at most {most}, got {value!r}")


def check_size(hidden_size: int, num_layers: int) -> None:
    """Raises InputError for networks beyond all memory."""
    if hidden_size**2 * num_layers > MOST_WEIGHTS:
        raise InputError(
            f"hidden_size squared times num_layers must be at most {MOST_WEIGHTS:,}, got {hidden_size} and {num_layers}"
        )


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
