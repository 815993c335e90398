"""Where the golden files lie, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def entries(keys: Iterable[str]) -> list[str]:
    """The layers in a file."""
    return list(dict.fromkeys(key.partition("|")[0] for key in keys))
