"""Machine code: what is compiled, what is found again in memory and on disk, races."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gatewise.backends import cache, guarded
from gatewise.backends.cpu import jit, tiers


def code(number: int) -> str:
    """A kernel that adds a number to the one its argument points to."""
    body = f"%v = load i64, ptr %p %w = add i64 %v, {number} store i64 %w, ptr %p ret void"
    return f"define void @run(ptr %p) {{ {body} }}"


def call(kernel: jit.Kernel, value: int = 0) -> int:
    cell = ctypes.c_int64(value)
    kernel.function("run")(ctypes.addressof(cell))
    return cell.value


def load(key: str, number: int) -> jit.Kernel:
    return jit.load(key, lambda: code(number), tiers.default(), ["run"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and a process that has loaded nothing."""
    path = tmp_path / "cache"
    monkeypatch.setenv("GATEWISE_CACHE", str(path))
    forget(monkeypatch)
    return path


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fresh process."""
    monkeypatch.setattr(jit, "_kernels", {})
    monkeypatch.setattr(jit, "_statistics", dict.fromkeys(jit._statistics, 0))
    monkeypatch.setattr(cache, "_process", cache._Process())


def counts() -> tuple[int, int]:
    found = jit.statistics()
    return found["compiled"], found["loaded_from_disk"]


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def unused() -> str:
    raise AssertionError("a warm load writes no IR")


PROCESS = """
import json, sys
from gatewise.backends.cpu import jit, tiers
for number in map(int, sys.argv[1].split(",")):
    text = "define void @run(ptr %p) {{ store i64 {}, ptr %p ret void }}".format(number)
    jit.load(str(number), lambda: text, tiers.default(), ["run"])
print(json.dumps(jit.statistics()))
"""


def start_process(numbers: str, folder: Path) -> subprocess.Popen[str]:
    environment, command = {**os.environ, "GATEWISE_CACHE": str(folder)}, [sys.executable, "-c", PROCESS, numbers]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return dict(json.loads(output))


def test_a_kernel_runs(folder: Path) -> None:
    kernel = load("a", 3)
    assert call(kernel, 4) == 7
    assert jit.load("a", unused, tiers.default(), ["run"]) is kernel
    assert counts() == (1, 0)
    assert jit.statistics()["in_memory"] == 1
    with pytest.raises(ValueError, match="entry 'walk' is not in this kernel; expected one of run"):
        kernel.address("walk")


def test_keys_tiers_and_entries_are_told_apart(folder: Path) -> None:
    assert [call(load(key, number)) for key, number in (("a", 1), ("b", 2), ("a\0b", 3), ("a", 4))] == [1, 2, 3, 1]
    for name in tiers.available():
        assert call(jit.load("c", lambda: code(5), tiers.get(name), ["run"])) == 5
    two = code(6) + code(7).replace("@run", "@walk")
    assert list(jit.load("a", lambda: two, tiers.default(), ["run", "walk"]).addresses) == ["run", "walk"]
    assert counts()[0] == 3 + len(tiers.available()) + 1


def test_a_change_of_the_source_is_another_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = jit._digest.__wrapped__
    before = digest("a", tiers.default(), ("run",))
    assert before == digest("a", tiers.default(), ("run",))
    monkeypatch.setattr(cache, "source_hash", lambda: "other")
    assert digest("a", tiers.default(), ("run",)) != before


def test_a_damaged_entry_is_mended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("a", 3)
    (path,) = entries(folder)
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    forget(monkeypatch)
    assert (call(load("a", 3)), counts()) == (3, (1, 0))
    assert entries(folder) == [path]
    assert path.read_bytes() == sound


def test_a_sound_entry_is_loaded_without_its_ir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("a", 3)
    forget(monkeypatch)
    assert call(jit.load("a", unused, tiers.default(), ["run"]), 4) == 7
    assert counts() == (0, 1)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")
def test_code_that_others_could_have_written_does_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("a", 3)
    (kept,) = entries(folder)
    load("b", 4)
    (other,) = set(entries(folder)) - {kept}
    with guarded.opened(folder, make=False) as opened:
        foreign = opened.read(other.name)[cache._HEAD_BYTES :]
    kept.write_bytes(cache._head(kept.name, foreign) + foreign)
    forget(monkeypatch)
    assert call(load("a", 3)) == 4  # its checksum is right, and the folder was closed to others
    folder.chmod(0o777)
    forget(monkeypatch)
    with pytest.warns(RuntimeWarning, match="is not used, because .* can be written by others"):
        assert (call(load("a", 3)), counts()) == (3, (1, 0))
    assert jit.statistics()["cache_problem"]


def test_two_processes_fill_the_cache_at_once_and_a_third_compiles_nothing(folder: Path) -> None:
    numbers = ",".join(map(str, range(20)))
    for found in map(finish, [start_process(numbers, folder), start_process(numbers, folder)]):
        assert found["compiled"] + found["loaded_from_disk"] == 20
        assert found["cache_problem"] is None
    assert [path.suffix for path in entries(folder)] == [".o"] * 20
    third = finish(start_process(numbers, folder))
    assert (third["compiled"], third["loaded_from_disk"]) == (0, 20)


def test_many_threads_compile_once(folder: Path) -> None:
    built, results, barrier = [], [], threading.Barrier(16)

    def build() -> str:
        built.append(1)
        time.sleep(0.02)  # long enough for the others to arrive
        return code(3)

    def work() -> None:
        barrier.wait()
        results.append(call(jit.load("a", build, tiers.default(), ["run"])))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert (len(built), results) == (1, [3] * 16)


def test_no_garbage_is_collected_while_ir_is_made_and_others_rule_as_before() -> None:
    before, rounds = gc.get_threshold(), list[str]()

    def note(phase: str, info: dict[str, int]) -> None:
        rounds.append(phase)

    gc.callbacks.append(note)
    try:
        with jit._no_collections():
            kept = [[] for _ in range(100_000)]
            during = list(rounds)
            gc.disable()  # somebody else, who wants it so
        assert not gc.isenabled()
        with pytest.raises(KeyError), jit._no_collections():
            raise KeyError
    finally:
        gc.enable()
        gc.callbacks.remove(note)
    assert during == []
    assert len(kept) == 100_000
    assert gc.get_threshold() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only ELF objects are read")
def test_a_kernel_may_not_call_libm(folder: Path) -> None:
    text = code(0).replace("ret void", "call void @exp() ret void") + "declare void @exp()"
    with pytest.raises(RuntimeError, match=r"the kernel calls \['exp'\], expected no other than"):
        jit.load("a", lambda: text, tiers.default(), ["run"])


def test_memory_functions_come_from_the_process(folder: Path) -> None:
    fill = "call void @llvm.memset.p0.i64(ptr %p, i8 1, i64 %v, i1 false) ret void"
    text = code(0).replace("ret void", fill) + "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"
    assert call(jit.load("a", lambda: text, tiers.default(), ["run"]), 8) == 0x0101010101010101


def test_wrong_ir_raises_a_sentence(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="LLVM refused the IR of a kernel"):
        jit.load("a", lambda: "define void @run(ptr %p) { ret i32 0 }", tiers.default(), ["run"])
    assert call(load("a", 3)) == 3  # a failure is not kept


def test_a_thousand_kernels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWISE_CACHE", "off")
    kernels = [load(f"many {number}", number) for number in range(1000)]
    assert [call(kernel) for kernel in kernels] == list(range(1000))
