"""Cells that nobody tuned for, and rates over batch and size: what is measured has been checked, and is all said."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benches import cells, report_studies, scaling
from benches.shapes import Shape
from benches.worker import Start
from gatewise.cells import gru, names

MACHINE = {"llvm_host": "znver4", "date": "2026-11-27T12:00:00+00:00"}


def test_the_cells_are_not_built_in() -> None:
    assert len(cells.CELLS) == 6
    assert not {cell.name for cell in cells.CELLS[1:]} & set(names())


def test_operations_are_those_of_the_products() -> None:
    shape, one = Shape(2, 3, 5, 7), 2 * 2 * 3 * 7 * (5 + 7)
    by_name = {cell.name: cells.operations(cell, shape) for cell in cells.CELLS}
    assert by_name["gru"] == shape.operations("gru_before") == 3 * one
    assert (by_name["three_gates"], by_name["coupled_peephole"], by_name["no_gate"]) == (4 * one, 3 * one, one)
    assert cells.operations(gru, Shape(2, 3, 5, 7, "train")) == 9 * one


@pytest.fixture
def here() -> Iterator[Start]:
    """Runs a study in this process."""
    before = torch.get_num_threads()

    def start(module: str, argument: str, threads: int) -> Iterator[dict[str, Any]]:
        yield from importlib.import_module(module).job_records(argument)
        yield {"kind": "end", "status": 0}

    yield start
    torch.set_num_threads(before)


def test_cells_are_measured(tmp_path: Path, here: Start, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cells.json"
    assert cells.main(["--quick", "--threads", "1", "--shapes", "3,4,5,16", "--json", str(path)], here) == 0
    found = json.loads(path.read_text())
    (record,) = found["cells"]
    assert list(record["columns"]) == [cell.name for cell in cells.CELLS]
    assert cells.relative(record["columns"], "gru") == 1
    assert capsys.readouterr().out.count("× floor") == 6
    assert "| 3,4,5,16 | 1 |" in report_studies.cells(found)


def point(batch: int, units: int, microseconds: float, threads: int = 1) -> dict[str, Any]:
    times = dict.fromkeys(scaling.FORMS, microseconds)
    return {
        "threads": threads,
        "batch": batch,
        "units": units,
        "operations": 1e6 * batch,
        "floor_us": 1.0 * batch,
        **times,
    }


def test_bends_are_seen() -> None:
    records = [point(1, 16, 10.0), point(2, 16, 20.0), point(4, 16, 60.0), point(4, 16, 10.0, threads=2)]
    unmeasured = {**point(8, 16, 10.0), "gru_after": None, "gru_before": None}
    found = scaling.bends([*records, unmeasured])
    assert [(a["batch"], b["batch"], form, round(r, 2)) for a, b, form, r in found] == [
        (2, 4, form, 0.67) for form in scaling.FORMS
    ]
    text = report_studies.rates({"points": records, "machine": MACHINE}, "Because.")
    assert "| B 2, H 16 → B 4, H 16 | 1 | after | 100 → 67 | 0.67 | 1.00 |" in text
    assert text.endswith("Because.")
    assert "No point is" in report_studies.rates({"points": records[:2], "machine": MACHINE}, "")
    explained = [records[1], {**records[2], "floor_us": 60.0}]
    assert scaling.bends(explained) == []


def test_points_reach_both_ends() -> None:
    found = scaling.points()
    assert len(found) == len(set(found))
    assert {(1, 16), (512, 16), (1, 2048), (512, 2048)} <= set(found)


def test_rates_are_measured_and_drawn(
    tmp_path: Path, here: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaling, "points", lambda: [(1, 16), (2, 16), (1, 24)])
    path = tmp_path / "scaling.json"
    assert scaling.main(["--threads", "1", "--json", str(path)], here) == 0
    found = json.loads(path.read_text())
    assert len(found["points"]) == 3
    assert all(record["floor_us"] > 0 and record["operations"] > 0 for record in found["points"])
    picture = path.with_suffix(".png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.unlink()
    assert scaling.main(["--draw", "--json", str(path)]) == 0
    assert picture.exists()
    assert "GFLOP/s" in capsys.readouterr().out


@pytest.mark.parametrize("command", [cells.main, scaling.main])
def test_a_file_that_cannot_be_written_is_refused_at_once(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--json", "/nowhere/at/all.json"]) == 2
    assert "--json must name a file" in capsys.readouterr().err
