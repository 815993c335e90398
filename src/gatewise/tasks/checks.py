"""Checks of options that several tasks have."""

from __future__ import annotations

import math
from typing import Any

from gatewise.compiler import Cell
from gatewise.tasks.errors import InputError

MOST = 10**9
MOST_UNITS = 1 << 14
MOST_LAYERS = 64
MOST_WEIGHTS = 1 << 28
MOST_SEED = 2**63 - 1


def check_integer(name: str, value: Any, least: int, most: int) -> None:
    """Raises InputError for what is no integer in this range."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
    if value > most:
        raise InputError(f"{name} must be an integer of at most {most}, got {value!r}")


def check_size(hidden_size: int, num_layers: int) -> None:
    """Raises InputError for networks beyond all memory."""
    check_integer("hidden_size", hidden_size, 1, MOST_UNITS)
    check_integer("num_layers", num_layers, 1, MOST_LAYERS)
    if hidden_size**2 * num_layers > MOST_WEIGHTS:
        raise InputError(
            f"hidden_size squared times num_layers must be at most {MOST_WEIGHTS:,}, got {hidden_size} and {num_layers}"
        )


def check_share(name: str, value: Any) -> None:
    """Raises InputError for what is no number from 0 to below 1."""
    if not _is_real(value) or not 0 <= value < 1:
        raise InputError(f"{name} must be a number of at least 0 and below 1, got {value!r}")


def check_positive(name: str, value: Any, most: float) -> None:
    """Raises InputError for what is no number above 0."""
    if not _is_real(value) or not 0 < value <= most:
        raise InputError(f"{name} must be a number above 0 and at most {most:g}, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Raises InputError for what is neither True nor False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises InputError for what is none of these."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_training(epochs: Any, max_steps: Any, learning_rate: Any, patience: Any, seed: Any) -> None:
    """Raises InputError for what no training can be asked for."""
    check_integer("epochs", epochs, 1, MOST)
    if max_steps is not None:
        check_integer("max_steps", max_steps, 1, MOST)
    check_integer("patience", patience, 1, MOST)
    check_integer("seed", seed, 0, MOST_SEED)
    check_positive("learning_rate", learning_rate, 1)


def check_plain_cell(cell: Cell) -> None:
    """Raises InputError for a cell that wants more than x at a step."""
    if cell.inputs:
        raise InputError(f"cell must take nothing beside x, but {cell.name} takes {cell.inputs[0][0]}")


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
