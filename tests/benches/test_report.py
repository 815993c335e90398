"""The page in docs is the committed figures, the notes and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benches import report

DOCS = Path(__file__).parents[2] / "docs"
PARTS = ("performance.json", "cells.json", "tiles.json", "scaling.json", "performance-notes.md", "scaling-notes.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what the page is made of."""
    for part in PARTS:
        if (DOCS / part).exists():
            shutil.copy(DOCS / part, tmp_path)
    return tmp_path


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "performance.json").read_text())
    return found


def test_the_page_is_made_from_the_figures() -> None:
    assert (DOCS / "performance.md").read_text() == report.page(DOCS)


def test_every_shape_of_every_run_stands_in_the_page() -> None:
    page = (DOCS / "performance.md").read_text()
    for run in figures(DOCS)["runs"]:
        for shape in (*(s["shape"] for s in run["shapes"]), *run["left_out"]):
            assert shape.startswith("call") or shape in page
        assert f"| {run['threads']} | {run['ceilings']['multiply_add_gflops']:.0f} |" in page


def test_a_changed_figure_changes_the_page(folder: Path) -> None:
    found = figures(folder)
    found["runs"][0]["shapes"][1]["columns"]["gru_after"]["ms"]["median"] *= 2
    (folder / "performance.json").write_text(json.dumps(found))
    assert report.page(folder) != report.page(DOCS)


def test_notes_stand_in_the_page(folder: Path) -> None:
    (folder / "performance-notes.md").write_text("## Why\n\nBecause of it.\n")
    assert "\n## Why\n\nBecause of it.\n" in report.page(folder)


def test_wrong_columns_and_missing_parts_are_said(folder: Path) -> None:
    found = figures(folder)
    found["runs"] = found["runs"][:1]
    found["memory"] = []
    found["peers"] = {"installed": {"jax": "1.0"}, "missing": ["openvino"], "measured": True}
    shape = next(s for s in found["runs"][0]["shapes"] if not s["shape"].startswith("call"))
    shape["columns"]["gru_after"] = {"wrong": "GRU(reset_after): y differs"}
    (folder / "performance.json").write_text(json.dumps(found))
    for part in ("cells.json", "tiles.json", "scaling.json"):
        (folder / part).unlink(missing_ok=True)
    page = report.page(folder)
    assert f"| {shape['shape']} |" in page
    assert "| wrong |" in page
    assert "Not installed, so not measured: openvino." in page
    for absent in ("## Memory", "## Cells of one's own", "## Tiles", "## Batch and hidden size"):
        assert absent not in page


def test_the_command_writes_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["report", str(folder)])
    report.main()
    assert (folder / "performance.md").read_text() == report.page(DOCS)


def test_usage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["report"])
    with pytest.raises(SystemExit, match=r"usage: python -m benches\.report"):
        report.main()
    with pytest.raises(SystemExit, match=r"performance\.json must hold the figures"):
        report.page(tmp_path)
