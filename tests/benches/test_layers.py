"""The benchmark: wrong numbers get no speed, the floor is positive, the JSON has its fields. No test asserts a time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benches import derive, layers, loops, memory, timing, worker
from benches.check import Reference, WrongNumbersError, checked_steps, verify
from benches.columns import COLUMNS, LOOP, Column, LoopGRU, Problem, fill
from benches.floor import Ceilings, reading_size
from benches.shapes import CALL_SHAPE, INFERENCE_SHAPES, TRAIN_SHAPES, Shape
from benches.timing import Sample, Times, measure
from gatewise.backends.cpu import jit, openmp, tiers

TINY = Shape(3, 4, 5, 7)
TINY_TRAIN = Shape(3, 4, 5, 7, "train")
BY_NAME = {column.name: column for column in (*COLUMNS, LOOP)}


class Spoiled(nn.Module):
    """A right layer whose result is changed before anyone sees it."""

    def __init__(self, inner: nn.Module, spoil: Any) -> None:
        super().__init__()
        self.inner, self.spoil = inner, spoil

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.inner.named_parameters(*args, **kwargs)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return self.spoil(*self.inner(x))


class Straight(torch.autograd.Function):
    """Right forward, gradient off by one part in a thousand."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 1.001 * gradient


def checked(shape: Shape, column: Column, layer: nn.Module, steps: int | None = None) -> float:
    problem = Problem.of(shape, column.formula)
    reference = Reference.of(problem, column.formula, steps or shape.time, shape.training)
    return verify(column, fill(layer, problem.parameters), problem, reference)


@pytest.mark.parametrize("shape", [TINY, TINY_TRAIN], ids=str)
@pytest.mark.parametrize("name", list(BY_NAME))
def test_right_numbers_pass(shape: Shape, name: str) -> None:
    assert 0 <= checked(shape, BY_NAME[name], BY_NAME[name].build(5, 7)) <= 1


def swapped_gates(layer: nn.Module) -> nn.Module:
    """The recurrent weights of two gates exchanged."""
    with torch.no_grad():
        weight = layer.get_parameter("weight_hh_l0")
        weight.copy_(torch.cat([weight[7:14], weight[:7], weight[14:]]))
    return layer


@pytest.mark.parametrize("shape", [TINY, TINY_TRAIN], ids=str)
@pytest.mark.parametrize("name", list(BY_NAME))
def test_two_gates_swapped_are_refused(shape: Shape, name: str) -> None:
    column = BY_NAME[name]
    problem = Problem.of(shape, column.formula)
    reference = Reference.of(problem, column.formula, shape.time, shape.training)
    layer = swapped_gates(fill(column.build(5, 7), problem.parameters))
    with pytest.raises(WrongNumbersError, match=r"y differs by .*, allowed 1.0e-05"):
        verify(column, layer, problem, reference)


@pytest.mark.parametrize(
    ("shape", "spoil", "message"),
    [
        (TINY, lambda y, h: (y + 2e-5, h), "y differs"),
        (TINY, lambda y, h: (y, h + 2e-5), "final state 0 differs"),
        (TINY, lambda y, h: (y * float("nan"), h), "y differs by nan"),
        (TINY, lambda y, h: (y[:-1], h), "y has shape"),
        (TINY, lambda y, h: (y, (h, h)), "expected"),
        (TINY_TRAIN, lambda y, h: (Straight.apply(y), h), "gradient of x differs"),
    ],
)
def test_planted_faults_are_refused(shape: Shape, spoil: Any, message: str) -> None:
    column = BY_NAME["torch_gru"]
    with pytest.raises(WrongNumbersError, match=message):
        checked(shape, column, Spoiled(nn.GRU(5, 7), spoil))


def test_a_fault_past_the_reference_is_seen() -> None:
    """Only 2 of 4 steps have a reference."""

    def late(y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return (y if len(y) == 2 else y.index_fill(0, torch.tensor([3]), float("inf")), h)

    with pytest.raises(WrongNumbersError, match="whole sequence is not finite"):
        checked(TINY, BY_NAME["torch_gru"], Spoiled(nn.GRU(5, 7), late), steps=2)


def test_a_whole_sequence_starts_as_a_short_one() -> None:
    def turned(y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return (y if len(y) == 2 else y.flip(0), h)

    with pytest.raises(WrongNumbersError, match="y of the whole sequence differs"):
        checked(TINY, BY_NAME["torch_gru"], Spoiled(nn.GRU(5, 7), turned), steps=2)


def test_how_much_is_checked() -> None:
    big = Shape(64, 50, 512, 1024)
    assert checked_steps(big, "lstm", 0.0) == 2
    assert checked_steps(big, "lstm", 1e15) == 50
    assert checked_steps(Shape(1, 1, 2, 3), "lstm", 0.0) == 1
    half = checked_steps(big, "gru_after", big.operations("gru_after") / 2)
    assert half == 25


def test_operations_are_those_of_the_formulas() -> None:
    assert Shape(2, 3, 5, 7).operations("gru_before") == 6 * 2 * 3 * 7 * 12
    assert Shape(2, 3, 5, 7).operations("lstm") == 8 * 2 * 3 * 7 * 12
    assert Shape(2, 3, 5, 7, "train").operations("gru_after") == 3 * 6 * 2 * 3 * 7 * 12
    assert reading_size(Shape(1, 9, 5, 7), "gru_after") == 4 * 3 * 7 * 7
    assert reading_size(Shape(1, 1, 5, 7), "gru_after") == 4 * 3 * 7 * 12


def test_shapes_are_read_as_printed() -> None:
    for shape in (CALL_SHAPE, *INFERENCE_SHAPES, *TRAIN_SHAPES):
        assert Shape.read(str(shape)) == shape
    assert Shape.read("train:1,2,3,4") == Shape(1, 2, 3, 4, "train")
    for text in ("1,2,3", "1,2,3,0", "fast 1,2,3,4", "a,b,c,d", ""):
        with pytest.raises(ValueError, match=r"a shape must read B,T,I,H"):
            Shape.read(text)


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_the_ceiling_is_made_of_fused_multiply_adds(name: str) -> None:
    """The loop keeps its sums in registers: as many instructions as written, none with memory."""
    tier = tiers.get(name)
    code = jit.assemble(loops.multiply_add_ir(tier), tier).splitlines()
    fused = [line for line in code if "vfmadd" in line]
    assert len(fused) == loops.UNROLL * loops.accumulators(tier)
    assert not any("(%" in line for line in fused)
    assert sum("vfmadd" in line and "(%" in line for line in jit.assemble(loops.read_ir(tier), tier).splitlines()) == 8


@pytest.mark.parametrize("threads", [1, 2])
def test_the_reading_loop_reads_everything(threads: int) -> None:
    """Each thread sums its share twice; the first vector is the factor, the sums start from it."""
    if threads > 1 and not openmp.symbols():
        pytest.skip("torch brings no GNU-style OpenMP here")
    tier = loops.tier()
    width, share = loops.lanes(tier), 2 * loops.STREAMS
    source, target = loops.aligned(threads * share * width), loops.aligned(threads * width)
    loops.run("read", tier, threads, 2, source, share, target)
    assert target.tolist() == [float(loops.STREAMS + 2 * share)] * (threads * width)


def test_the_floor_is_positive() -> None:
    ceilings = Ceilings(1)
    ceilings.measure()
    ceilings.again(TINY)
    assert min(ceilings.multiply_add, ceilings.mm, *ceilings.gigabytes.values()) > 0
    assert ceilings.onednn is None or ceilings.onednn > 0
    record = ceilings.record()
    assert Ceilings.read(json.loads(json.dumps(record))).record() == record
    for shape in (TINY, TINY_TRAIN, Shape(1, 1, 5, 7)):
        floor, bound = ceilings.floor(shape, "gru_before")
        assert floor > 0
        assert bound in ("arithmetic", "weights")


def test_the_floor_takes_the_slower_of_two() -> None:
    shape = Shape(1, 10, 5, 7)
    size = 4 * 3 * 7 * 7
    slow_arithmetic = Ceilings(1, multiply_add=1e-3, gigabytes={size: 1.0})
    assert slow_arithmetic.floor(shape, "gru_after") == (pytest.approx(6 * 10 * 7 * 12 / 1e-3 / 1e6), "arithmetic")
    slow_reading = Ceilings(1, multiply_add=1e3, gigabytes={size: 1e-3})
    weights = 10 * size + 4 * 3 * 7 * 5
    assert slow_reading.floor(shape, "gru_after") == (pytest.approx(weights / 1e-3 / 1e6), "weights")
    twice, _ = slow_reading.floor(Shape(1, 10, 5, 7, "train"), "gru_after")
    assert twice == pytest.approx(2 * weights / 1e-3 / 1e6)


def test_less_is_never_read_more_slowly() -> None:
    ceilings = Ceilings(1, gigabytes={100: 5.0, 200: 9.0, 300: 7.0})
    assert [ceilings.bandwidth(size) for size in (100, 200, 300)] == [9.0, 9.0, 7.0]
    assert list(ceilings.record()["read_gigabytes_per_second"].values()) == [9.0, 9.0, 7.0]


def test_disturbed_samples_are_dropped_where_others_remain() -> None:
    quiet, disturbed = [Sample(s) for s in (1.0, 2.0, 3.0)], [Sample(9.0, True)]
    times = Times.of(quiet + disturbed, 1, least=3)
    assert (times.min, times.median, times.max, times.rounds, times.disturbed) == (1e3, 2e3, 3e3, 3, 0.25)
    assert Times.of(quiet[:2] + disturbed, 1, least=3).max == 9e3
    assert Times.of([Sample(2.0)], 4, least=1).median == 500.0


def test_waiting_for_a_core_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = iter([0.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(timing, "_waited", lambda: next(waited))
    assert timing.sample(lambda: None, 1).disturbed
    assert not timing.sample(lambda: None, 1).disturbed


def test_columns_take_turns() -> None:
    seen: list[str] = []
    columns = {name: lambda name=name: seen.append(name) or sum(range(200_000)) for name in "ab"}
    times = measure(columns, 0.0, least=3)
    assert times["a"].rounds == times["b"].rounds == 3
    assert seen[-2:] in (["a", "b"], ["b", "a"])


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
    wrong = Column("gru_after", "GRU(reset_after)", "gru_after", lambda i, h: Backwards(i, h), "torch_gru")
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
    shapes = [str(CALL_SHAPE).replace(" ", ":"), "3,4,5,7", "train:3,4,5,7"]
    assert layers.main(["--quick", "--json", str(path), "--threads", "1", "--loop", "--shapes", *shapes]) == 0
    report = json.loads(path.read_text())
    assert {"command", "quick", "machine", "runs", "memory"} <= report.keys()
    assert {"processor", "tier", "torch", "llvm", "date", "load"} <= report["machine"].keys()
    (run,) = report["runs"]
    assert run["threads"] == 1
    assert not run["problems"]
    assert {s["shape"] for s in run["shapes"]} == {str(CALL_SHAPE), str(TINY), str(TINY_TRAIN)}
    for shape in run["shapes"]:
        assert list(shape["columns"]) == list(BY_NAME)
        for name, column in shape["columns"].items():
            assert {"min", "lower", "median", "upper", "max", "rounds", "disturbed"} <= column["ms"].keys()
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
    assert found["gru_after"]["ratio_at_floor"] == pytest.approx(4.0)
    assert "ratio" not in found["torch_gru"]
    complete = [derive.complete(record, ceilings)]
    assert (derive.compared(complete), derive.missed(complete)) == (1, [])
    complete[0]["columns"]["gru_after"]["ratio"] = 1.99
    assert [m["goal"] for m in derive.missed(complete)] == [2.0]
    complete[0]["columns"]["gru_after"]["disturbed"] = True
    assert (derive.compared(complete), derive.disturbed(complete), derive.missed(complete)) == (0, 1, [])


def test_goals() -> None:
    goals = {str(shape): shape.goal for shape in (*INFERENCE_SHAPES, *TRAIN_SHAPES)}
    assert goals["1,100,128,256"] == goals["8,200,128,256"] == 2.0
    assert goals["1,1,64,96"] == goals["1,1000,40,512"] == goals["train 32,200,256,512"] == 1.5


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
    assert layers._shapes(parse(["--inference-only"])) == [CALL_SHAPE, *INFERENCE_SHAPES]
    assert len(layers._shapes(parse([]))) == 16


def test_memory_of_a_step_or_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory.peak(BY_NAME["torch_gru"], Shape(8, 50, 32, 256, "train"))
    assert found["process_mb"] >= found["step_mb"] >= 0  # type: ignore[operator]
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nMemoryError: no more")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert memory.in_process(BY_NAME["lstm"], TINY_TRAIN)["problem"] == "MemoryError: no more"


def test_the_loop_is_the_formula_written_by_hand() -> None:
    assert isinstance(LOOP.build(2, 3), LoopGRU)
    assert LOOP.formula == "gru_before"
