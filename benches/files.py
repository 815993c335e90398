"""Figures in files: whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def unwritable(argument: str, path: Path | None) -> str:
    """Why a file cannot be written, before minutes are spent on it; empty when it can."""
    if path is None or (path.parent.is_dir() and os.access(path.parent, os.W_OK) and not path.is_dir()):
        return ""
    return f"{argument} must name a file in an existing writable folder, got {str(path)!r}"


def write_json(path: Path, value: Any) -> None:
    """Six digits of every figure."""
    write(path, json.dumps(_rounded(value), indent=1) + "\n")


def write(path: Path, text: str) -> None:
    """The whole file or nothing."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
