"""torch's OpenMP called from machine code: regions, barriers, too few threads, forks."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gatewise.backends.cpu import jit, openmp, tiers

UNITS = 1000


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWISE_CACHE", "off")


# Step s writes half s % 2 of a row of 2 x 1000 numbers: unit u takes the sum of units u and 999 - u of the other half,
# plus 1. Each thread owns a range of the units, so a missing barrier reads the other threads' units of the wrong step.
CODE = (
    openmp.DECLARATIONS
    + """
    define internal void @body(ptr %data) {
    entry:
      %row = getelementptr i64, ptr %data, i64 3
      %threads32 = call i32 @gatewise_num_threads()
      %thread32 = call i32 @gatewise_thread_num()
      %threads = zext i32 %threads32 to i64
      %thread = zext i32 %thread32 to i64
      %seen = getelementptr i64, ptr %data, i64 1
      store atomic i64 %threads, ptr %seen monotonic, align 8
      %next = add i64 %thread, 1
      %low.n = mul i64 %thread, 1000
      %low = udiv i64 %low.n, %threads
      %high.n = mul i64 %next, 1000
      %high = udiv i64 %high.n, %threads
      %steps.p = getelementptr i64, ptr %data, i64 2
      %steps = load i64, ptr %steps.p
      br label %step
    step:
      %s = phi i64 [ 0, %entry ], [ %s.next, %step.end ]
      %parity = and i64 %s, 1
      %to = mul i64 %parity, 1000
      %from = sub i64 1000, %to
      br label %unit
    unit:
      %u = phi i64 [ %low, %step ], [ %u.next, %unit ]
      %mirror = sub i64 999, %u
      %a.i = add i64 %from, %u
      %b.i = add i64 %from, %mirror
      %c.i = add i64 %to, %u
      %a.p = getelementptr i64, ptr %row, i64 %a.i
      %b.p = getelementptr i64, ptr %row, i64 %b.i
      %c.p = getelementptr i64, ptr %row, i64 %c.i
      %a = load i64, ptr %a.p
      %b = load i64, ptr %b.p
      %ab = add i64 %a, %b
      %c = add i64 %ab, 1
      store i64 %c, ptr %c.p
      %u.next = add i64 %u, 1
      %more = icmp ult i64 %u.next, %high
      br i1 %more, label %unit, label %step.end
    step.end:
      call void @gatewise_barrier()
      %s.next = add i64 %s, 1
      %again = icmp ult i64 %s.next, %steps
      br i1 %again, label %step, label %done
    done:
      ret void
    }
    define void @run(ptr %data) {
      %asked64 = load i64, ptr %data
      %asked = trunc i64 %asked64 to i32
      call void @gatewise_parallel(ptr @body, ptr %data, i32 %asked, i32 0)
      ret void
    }
    """
)


def steps(asked: int, count: int = 40) -> tuple[list[int], int]:
    """The row's half that the last step wrote, and how many threads the region had."""
    data = (ctypes.c_int64 * (3 + 2 * UNITS))(asked, 0, count, *range(2 * UNITS))
    jit.load("test_openmp", lambda: CODE, tiers.default(), ["run"]).function("run")(ctypes.addressof(data))
    start = 3 + UNITS * ((count - 1) % 2)
    return list(data[start : start + UNITS]), data[1]


def expected(count: int = 40) -> list[int]:
    row = list(range(UNITS, 2 * UNITS))
    for _ in range(count):
        row = [(a + b + 1 + 2**63) % 2**64 - 2**63 for a, b in zip(row, reversed(row), strict=True)]
    return row


def has_openmp() -> bool:
    return bool(openmp.symbols())


needs_openmp = pytest.mark.skipif(not has_openmp(), reason="torch brings no GNU-style OpenMP here")


@pytest.mark.parametrize("asked", [1, 2, 4, 7])
def test_a_region_with_barriers(asked: int) -> None:
    for _ in range(20):
        row, team = steps(asked)
        assert row == expected()
    assert team == (asked if has_openmp() else 1)


def in_process(body: str, **environment: str) -> str:
    """Runs code with this file's functions in a fresh process; what it printed."""
    here = Path(__file__).resolve()
    setup = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('test_openmp', {str(here)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['test_openmp'] = module\n"
        "spec.loader.exec_module(module)\n"
        "globals().update(vars(module))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", setup + body],
        env={**os.environ, "GATEWISE_CACHE": "off", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


CHECK = "row, team = steps(4); assert row == expected(); print(team)"


@needs_openmp
def test_a_thread_limit_gives_fewer_threads_than_asked() -> None:
    assert in_process(CHECK, OMP_THREAD_LIMIT="1") == "1"


@needs_openmp
def test_dynamic_teams_may_be_smaller_than_asked() -> None:
    assert 1 <= int(in_process(CHECK, OMP_DYNAMIC="true")) <= 4


def test_without_openmp_the_functions_are_serial() -> None:
    lines = (
        "openmp._find = lambda: ({}, 'one thread: a test')\n"
        "assert (openmp.available(), openmp.threads(), openmp.reason()) == (False, 1, 'one thread: a test')\n"
    )
    assert in_process(lines + CHECK) == "1"


def _child(queue: multiprocessing.Queue[tuple[bool, int, str, bool, int, bool]]) -> None:
    row, team = steps(openmp.threads())
    other = jit.load("after fork", lambda: CODE + "\n; another", tiers.default(), ["run"])
    found = (openmp.available(), openmp.threads(), openmp.reason(), row == expected(), team, other.address("run") != 0)
    queue.put(found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_runs_on_one_thread() -> None:
    lines = (
        "import multiprocessing\n"
        "assert steps(4)[0] == expected()\n"  # the parent has started the pool
        "context = multiprocessing.get_context('fork')\n"
        "queue = context.Queue()\n"
        "child = context.Process(target=_child, args=(queue,), daemon=True)\n"
        "child.start()\n"
        "print(queue.get(timeout=60))\n"
        "child.join(60)\n"
        "assert child.exitcode == 0\n"
        "assert steps(4)[0] == expected()\n"  # and still has it
    )
    reason = "one thread: this process is a forked child, where OpenMP's threads are gone"
    assert in_process(lines) == str((False, 1, reason, True, 1, True))


@needs_openmp
def test_the_pool_is_that_of_torch() -> None:
    """Threads that torch started serve a region: none is added."""
    lines = (
        "torch.set_num_threads(3)\n"
        "(torch.ones(1 << 22) * 2).sum()\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "row, team = steps(3)\n"
        "print(before >= 3, team, len(os.listdir('/proc/self/task')) - before)\n"
    )
    if sys.platform == "linux":
        assert in_process(lines) == "True 3 0"


@needs_openmp
def test_the_reason_names_the_file() -> None:
    assert openmp.available()
    assert openmp.reason().startswith("OpenMP of torch, ")
    if sys.platform == "linux":
        path = openmp.mapped_file(openmp.symbols()["gatewise_parallel"])
        assert openmp.reason().endswith(path)
        assert Path(path).exists()
    assert openmp.mapped_file(0) == ""


def test_threads_follow_torch() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert openmp.threads() == (3 if has_openmp() else 1)
    finally:
        torch.set_num_threads(before)


def test_a_system_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = openmp._find.__wrapped__
    monkeypatch.setattr(sys, "platform", "win32")
    assert find() == ({}, "one thread: the OpenMP of torch has no GOMP_parallel on win32")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    symbols, sentence = find()
    assert symbols == {}
    assert sentence.startswith("one thread: torch's library")
