"""Small data that trains in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def monthly(count: int = 120, seed: int = 0) -> list[tuple[str, str]]:
    """A trend, a yearly cycle and noise, with two values missing."""
    noise = np.random.default_rng(seed).normal(0, 0.3, count)
    t = np.arange(count)
    values = 50 + 0.2 * t + 4 * np.sin(2 * np.pi * t / 12) + noise
    months = np.datetime64("2010-01") + t
    rows = [(f"{m}-01", f"{v:.3f}") for m, v in zip(months, values, strict=True)]
    for missing in (17, 50):
        rows[missing] = (rows[missing][0], "")
    return rows


def write(path: Path, rows: list[tuple[str, str]], header: str = "month,sales (units)") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    """A monthly series in a plain two-column CSV file."""
    return write(tmp_path / "sales.csv", monthly())
