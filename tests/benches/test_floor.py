"""The floor is positive and made of what it says; times leave out what other processes did. No test asserts a time."""

from __future__ import annotations

import itertools
import json

import pytest

from benches import loops, timing
from benches.floor import Ceilings, reading_size
from benches.shapes import Shape
from benches.timing import Sample, Times, measure
from gatewise.backends.cpu import jit, openmp, tiers

TINY = Shape(3, 4, 5, 7)
TINY_TRAIN = Shape(3, 4, 5, 7, "train")


def test_operations_are_those_of_the_formulas() -> None:
    assert Shape(2, 3, 5, 7).operations("gru_before") == 6 * 2 * 3 * 7 * 12
    assert Shape(2, 3, 5, 7).operations("lstm") == 8 * 2 * 3 * 7 * 12
    assert Shape(2, 3, 5, 7, "train").operations("gru_after") == 3 * 6 * 2 * 3 * 7 * 12
    assert reading_size(Shape(1, 9, 5, 7), "gru_after") == 4 * 3 * 7 * 7
    assert reading_size(Shape(1, 1, 5, 7), "gru_after") == 4 * 3 * 7 * 12


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
    turns = [name for name, _ in itertools.groupby(seen)]  # a call that is not counted may precede one that is
    assert turns[-2:] in (["a", "b"], ["b", "a"])


def test_a_turn_waits_until_other_threads_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([0.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    slept: list[float] = []
    monkeypatch.setattr(timing.time, "process_time", lambda: next(busy))
    monkeypatch.setattr(timing.time, "sleep", slept.append)
    timing._rest()
    assert len(slept) == 3
