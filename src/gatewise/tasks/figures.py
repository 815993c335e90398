"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from gatewise.tasks.folder import write_bytes

SUFFIXES = (".png", ".svg", ".pdf")
"""Of picture files."""


def save(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib, or nothing where that fails; the suffix says the format."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower())
    write_bytes(path, buffer.getvalue())
