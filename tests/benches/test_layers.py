"""The benchmark as a user runs it: wrong numbers get no speed, the JSON has its fields. No test asserts a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benches import derive, layers, memory, worker
from benches.columns import COLUMNS, LOOP, Column, torch_layer
from benches.combine import combine
from benches.floor import Ceilings
from benches.shapes import CALL_SHAPE, INFERENCE_SHAPES, SHORT_SHAPES, STEP_SHAPES, TRAIN_SHAPES, Shape

TINY = Shape(3, 4, 5, 7)
TINY_TRAIN = Shape(3, 4, 5, 7, "train")
BY_NAME = {column.name: column for column in (*COLUMNS, LOOP)}


def test_shapes_are_read_as_printed() -> None:
    for shape in (CALL_SHAPE, *STEP_SHAPES, *INFERENCE_SHAPES, *TRAIN_SHAPES, *SHORT_SHAPES):
        assert Shape.read(str(shape)) == shape
    assert Shape.read("train:1,2,3,4") == Shape(1, 2, 3, 4, "train")
    for text in ("1,2,3", "1,2,3,0", "fast 1,2,3,4", "a,b,c,d", "", "step 1,2,3,4", "cell 1,2,3,4"):
        with pytest.raises(ValueError, match=r"a shape must read B,T,I,H"):
            Shape.read(text)


def records(shape: Shape, columns: tuple[Column, ...], status: int = 0) -> Iterator[worker.Record]:
    """A worker in this process."""
    job = worker.Job(1, (str(shape),), budget=0.0, least=2, check_operations=1e9, seconds=60.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from worker.work(job, columns)
    finally:
        torch.set_num_threads(before)
    yield {"kind": "end", "status": status}


def test_a_wrong_layer_gets_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Column("gru_after", "GRU(reset_after)", "gru_after", torch_layer(Backwards), "torch_gru")
    columns = (COLUMNS[0], wrong)
    arguments = ["--shapes", str(TINY), "--threads", "1", "--no-memory"]
    assert layers.main(arguments, start=lambda job: records(TINY, columns)) == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("3,4,5,7") and "GRU(reset_after)" in line]
    assert "WRONG GRU(reset_after): y differs by" in line
    assert any(line.startswith("WRONG 3,4,5,7 at 1 threads: GRU(reset_after)") for line in lines)


class Backwards(nn.GRU):
    """Runs over the sequence in the wrong direction."""

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, h = super().forward(x.flip(0), hx)
        return y.flip(0), h


def test_a_worker_that_dies_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--shapes", str(TINY), "--threads", "1", "--no-memory"]
    assert layers.main(arguments, start=lambda job: iter([{"kind": "end", "status": -11}])) == 1
    assert "WRONG 3,4,5,7 at 1 threads: the process ended with status -11" in capsys.readouterr().out


def test_quick_writes_all_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command as a user runs it, with a worker process, on tiny shapes."""
    path = tmp_path / "out.json"
    shapes = [str(CALL_SHAPE).replace(" ", ":"), "3,4,5,7", "train:3,4,5,7", "step:1,1,5,7"]
    assert layers.main(["--quick", "--json", str(path), "--threads", "1", "--loop", "--shapes", *shapes]) == 0
    report = json.loads(path.read_text())
    assert {"command", "quick", "machine", "runs", "memory", "peers"} <= report.keys()
    assert {"processor", "tier", "torch", "llvm", "date", "load"} <= report["machine"].keys()
    (run,) = report["runs"]
    assert run["threads"] == 1
    assert not run["problems"]
    assert {s["shape"] for s in run["shapes"]} == {str(CALL_SHAPE), str(TINY), str(TINY_TRAIN), "step 1,1,5,7"}
    for shape in run["shapes"]:
        kind = Shape.read(shape["shape"]).kind
        assert list(shape["columns"]) == [name for name, column in BY_NAME.items() if kind in column.kinds]
        for name, column in shape["columns"].items():
            assert {"min", "lower", "median", "upper", "max", "rounds", "disturbed", "cores"} <= column["ms"].keys()
            assert column["error"] <= 1
            assert ("ratio" in column) == bool(BY_NAME[name].rival)
            assert ("share" in column) == (shape["shape"] != str(CALL_SHAPE))
    out = capsys.readouterr().out
    assert "÷ torch" in out
    assert "ceilings: multiply-add" in out


def test_what_follows_from_times() -> None:
    ms = {"min": 1.0, "lower": 1.5, "median": 2.0, "upper": 2.5, "max": 3.0, "disturbed": 0.5}
    slower = {**ms, "median": 4.0}
    record = {"shape": "8,2,5,7", "threads": 1, "columns": {"torch_gru": {"ms": slower}, "gru_after": {"ms": ms}}}
    ceilings = Ceilings(1, multiply_add=6 * 8 * 2 * 7 * 12 / 1e6, gigabytes={588: 1e9})
    found = derive.complete(record, ceilings)["columns"]
    assert found["gru_after"]["ratio"] == 2.0
    assert found["gru_after"]["spread"] == 0.5
    assert found["gru_after"]["floor_ms"] == pytest.approx(1.0)
    assert found["gru_after"]["share"] == pytest.approx(0.5)
    assert "ratio" not in found["torch_gru"]


@pytest.mark.parametrize(
    "arguments",
    [["--shapes", "1,2"], ["--threads", "0"], ["--train-only", "--inference-only"], ["--json", "/nowhere/at/all.json"]],
)
def test_bad_arguments_get_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = layers.main(arguments, start=lambda job: pytest.fail("nothing is measured"))
    except SystemExit as stop:
        status = int(str(stop.code))
    assert status == 2
    assert capsys.readouterr().err.strip()


def test_kinds_narrow_the_shapes() -> None:
    parse = layers._parser().parse_args
    assert layers._shapes(parse(["--train-only"])) == list(TRAIN_SHAPES)
    assert layers._shapes(parse(["--inference-only"])) == [CALL_SHAPE, *STEP_SHAPES, *INFERENCE_SHAPES]
    assert len(layers._shapes(parse([]))) == 20
    assert layers._shapes(parse(["--calls"])) == list(SHORT_SHAPES)


def test_cells_and_calls_of_a_step_are_measured_right(tmp_path: Path) -> None:
    """A folder gets the file of this processor; each kind is checked as a layer of one step is."""
    shapes = ["call:3,2,5,7", "train-call:3,2,5,7", "cell:3,1,5,7", "train-cell:3,1,5,7"]
    assert layers.main(["--quick", "--json", str(tmp_path), "--threads", "1", "--shapes", *shapes]) == 0
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    assert path.stem == report["machine"]["llvm_host"]
    (run,) = report["runs"]
    for shape in run["shapes"]:
        assert all(column["error"] <= 1 and "share" not in column for column in shape["columns"].values())


@pytest.mark.parametrize("kind", ["cell", "train-cell"])
def test_a_wrong_cell_gets_no_speed(kind: str) -> None:
    wrong = Column("gru_after", "GRU(reset_after)", "gru_after", torch_layer(nn.GRU, Doubled), "torch_gru")
    found = [r for r in records(Shape(3, 1, 5, 7, kind), (wrong,)) if r["kind"] == "shape"]
    assert "differs by" in found[0]["columns"]["gru_after"]["wrong"]


class Doubled(nn.GRUCell):
    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        return 2 * super().forward(x, hx)


def test_memory_of_a_call_in_a_process_of_its_own() -> None:
    shape = Shape(8, 50, 32, 64, "train")
    found = list(memory.in_processes([shape]))
    assert [(r["shape"], r["column"]) for r in found] == [(str(shape), c.name) for c in COLUMNS]
    for record in found:
        assert record["process_mb"] >= record["step_mb"] >= 0  # type: ignore[operator]


def test_memory_that_could_not_be_measured_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(column: Column, shape: Shape) -> memory.Record:
        raise MemoryError("no more")

    monkeypatch.setattr(memory, "peak", failing)
    assert "without a figure" in str(memory._in_copy(BY_NAME["lstm"], TINY_TRAIN)["problem"])


def report(shape: str, threads: int, milliseconds: float, rate: float) -> worker.Record:
    ms = {"min": 1.0, "lower": 1.0, "median": milliseconds, "upper": 1.0, "max": 1.0, "disturbed": 0.0}
    columns = {name: {"ms": ms} for name in ("torch_gru", "gru_after")}
    ceilings = Ceilings(threads, rate, rate, None, {588: rate}).record()
    shapes = [{"shape": shape, "threads": threads, "columns": columns}]
    run = {"threads": threads, "ceilings": ceilings, "shapes": shapes, "problems": [], "left_out": ["1,1,1,1"]}
    peers = {"installed": {}, "missing": [], "measured": rate > 1}
    memory = [{"shape": shape, "column": "lstm", "step_mb": milliseconds}]
    return {"command": "c", "quick": False, "machine": {}, "peers": peers, "runs": [run], "memory": memory}


def test_runs_are_combined() -> None:
    first = combine(report("8,2,5,7", 1, 1.0, 2.0), report("8,2,5,7", 1, 3.0, 1.0))
    (run,) = first["runs"]
    (record,) = run["shapes"]
    assert record["columns"]["gru_after"]["ms"]["median"] == 3.0
    assert run["ceilings"]["multiply_add_gflops"] == 2.0
    assert record["columns"]["gru_after"]["gflops"] == pytest.approx(6 * 8 * 2 * 7 * 12 / 3e6)
    assert [r["step_mb"] for r in first["memory"]] == [3.0]
    assert first["peers"]["measured"]
    both = combine(combine(first, report("1,1,1,1", 1, 3.0, 1.0)), report("8,2,5,7", 2, 3.0, 1.0))
    assert [run["threads"] for run in both["runs"]] == [1, 2]
    assert [s["shape"] for s in both["runs"][0]["shapes"]] == ["8,2,5,7", "1,1,1,1"]
    assert both["runs"][0]["left_out"] == []
