"""The page in docs is the committed figures, the notes and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benches import report
from benches.shapes import CALL, CELL, SHORT, TRAIN_CALL, Shape

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what the page is made of."""
    shutil.copytree(DOCS / report.FIGURES, tmp_path / report.FIGURES)
    return tmp_path


def main_file(folder: Path) -> Path:
    """The figures of the processor that the page shows in full."""
    return folder / report.FIGURES / f"{next(iter(report.processors(folder)))}.json"


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(main_file(folder).read_text())
    return found


def test_the_page_is_made_from_the_figures() -> None:
    assert (DOCS / "performance.md").read_text() == report.page(DOCS)


def test_every_shape_of_every_run_stands_in_the_page() -> None:
    page = (DOCS / "performance.md").read_text()
    for run in figures(DOCS)["runs"]:
        for shape in (*(s["shape"] for s in run["shapes"]), *run["left_out"]):
            assert Shape.read(shape).kind in SHORT or shape in page
        assert f"| {run['threads']} | {run['ceilings']['multiply_add_gflops']:.0f} |" in page


def test_a_changed_figure_changes_the_page(folder: Path) -> None:
    found = figures(folder)
    found["runs"][0]["shapes"][1]["columns"]["gru_after"]["ms"]["median"] *= 2
    main_file(folder).write_text(json.dumps(found))
    assert report.page(folder) != report.page(DOCS)


def test_notes_stand_in_the_page(folder: Path) -> None:
    (folder / report.FIGURES / "notes.md").write_text("## Why\n\nBecause of it.\n")
    assert "\n## Why\n\nBecause of it.\n" in report.page(folder)


def test_wrong_columns_and_missing_parts_are_said(folder: Path) -> None:
    found = figures(folder)
    found["runs"] = found["runs"][:1]
    found["memory"] = []
    found["peers"] = {"installed": {"jax": "1.0"}, "missing": ["openvino"], "measured": True}
    shape = next(s for s in found["runs"][0]["shapes"] if Shape.read(s["shape"]).kind not in SHORT)
    shape["columns"]["gru_after"] = {"wrong": "GRU(reset_after): y differs"}
    main = main_file(folder)
    for path in main.parent.glob("*.json"):
        path.unlink()
    main.write_text(json.dumps(found))
    page = report.page(folder)
    assert f"| {shape['shape']} |" in page
    assert "| wrong |" in page
    assert "Not installed, so not measured: openvino." in page
    for absent in ("## Memory", "## Cells of one's own", "## Tiles", "## Batch and hidden size", "## Processors"):
        assert absent not in page


def test_the_command_writes_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["report", str(folder)])
    report.main()
    assert (folder / "performance.md").read_text() == report.page(DOCS)


def test_usage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["report"])
    with pytest.raises(SystemExit, match=r"usage: python -m benches\.report"):
        report.main()
    with pytest.raises(SystemExit, match=r"performance must hold figures of python -m benches.layers"):
        report.page(tmp_path)


def test_processors_stand_side_by_side(folder: Path) -> None:
    """The one measured last comes first; a ratio below 1 stands out."""
    found = figures(folder)
    found["machine"] |= {"date": "2999-01-01T00:00:00+00:00", "llvm_host": "x86-64", "processor": "A new one"}
    shape = next(s for s in found["runs"][0]["shapes"] if "share" in s["columns"].get("lstm", {}))
    shape["columns"]["lstm"] |= {"ratio": 0.5, "share": 0.25}
    (folder / report.FIGURES / "x86-64.json").write_text(json.dumps(found))
    page = report.page(folder)
    assert next(iter(report.processors(folder))) == "x86-64"
    (head,) = (line for line in page.splitlines() if line.startswith("- `x86-64`: A new one"))
    assert page.index(head) < page.index("- `", page.index(head) + 1)
    assert f"| {shape['shape']} | **0.50**" in page


def test_calls_of_few_steps_have_a_table_and_a_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def column(milliseconds: float) -> dict[str, Any]:
        return {"ms": {"median": milliseconds, "disturbed": 0.0}}

    found = figures(folder)
    columns = {"torch_gru": column(0.05), "gru_after": column(0.04), "onnx_runtime_after": column(0.01)}
    shapes = [Shape(1, steps, 64, 64, CALL) for steps in (1, 2, 4, 8)] + [Shape(1, 1, 64, 64, TRAIN_CALL)]
    for run in found["runs"]:
        run["shapes"] = [s for s in run["shapes"] if Shape.read(s["shape"]).kind not in SHORT]
        run["shapes"] += [{"shape": str(shape), "threads": run["threads"], "columns": columns} for shape in shapes]
        slow = {"torch_gru": column(0.02), "gru_after": column(0.06)}
        run["shapes"].append({"shape": str(Shape(8, 1, 64, 64, CELL)), "threads": run["threads"], "columns": slow})
    main_file(folder).write_text(json.dumps(found))
    monkeypatch.setattr("sys.argv", ["report", str(folder)])
    report.main()
    page = (folder / "performance.md").read_text()
    assert (
        "No slower than torch: 5 of 6; the worst takes 3.00 times as long (GRU(reset_after), cell 8,1,64,64)." in page
    )
    assert (
        "| GRU(reset_after), B 1, H 64 | **40 / 50** | **40 / 50** | **40 / 50** | **40 / 50** | **40 / 50** |" in page
    )
    assert "60 / 20" in page
    assert (folder / "calls.png").stat().st_size > 1000
