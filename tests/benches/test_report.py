"""The page in docs is the committed JSON and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benches import report

DOCS = Path(__file__).parents[2] / "docs"


def committed() -> dict[str, object]:
    found: dict[str, object] = json.loads((DOCS / "performance.json").read_text())
    return found


def test_the_page_is_made_from_the_figures() -> None:
    assert (DOCS / "performance.md").read_text() == report.page(committed())


def test_every_shape_of_every_run_stands_in_the_page() -> None:
    found = json.loads((DOCS / "performance.json").read_text())
    page = (DOCS / "performance.md").read_text()
    for run in found["runs"]:
        for shape in (*(s["shape"] for s in run["shapes"]), *run["left_out"]):
            assert shape.startswith("call") or shape in page
        assert f"| {run['threads']} | {run['ceilings']['multiply_add_gflops']:.0f} |" in page


def test_a_changed_figure_changes_the_page() -> None:
    found = json.loads((DOCS / "performance.json").read_text())
    found["runs"][0]["shapes"][1]["columns"]["gru_after"]["ms"]["median"] *= 2
    assert report.page(found) != (DOCS / "performance.md").read_text()


def test_wrong_columns_and_missing_parts_are_said() -> None:
    found = json.loads((DOCS / "performance.json").read_text())
    found["runs"] = found["runs"][:1]
    found["memory"] = []
    shape = next(s for s in found["runs"][0]["shapes"] if not s["shape"].startswith("call"))
    shape["columns"]["gru_after"] = {"wrong": "GRU(reset_after): y differs"}
    page = report.page(found)
    assert f"| {shape['shape']} |" in page
    assert "| wrong |" in page
    assert "## Memory" not in page


def test_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["report"])
    with pytest.raises(SystemExit, match=r"usage: python -m benches\.report"):
        report.main()
