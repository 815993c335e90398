"""Machine code and its cache on disk: hits, damage, races, folders that refuse."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

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
    monkeypatch.setattr(jit, "_statistics", {**dict.fromkeys(jit._statistics, 0), "cache_problem": None})


def counts() -> tuple[int, int]:
    found = jit.statistics()
    return found["compiled"], found["loaded_from_disk"]


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def unused() -> str:
    raise AssertionError("a warm load writes no IR")


PROCESS = """
import json, sys, time
from gatewise.backends.cpu import jit, tiers, openmp
openmp.symbols(), tiers.default()
start = time.perf_counter()
for number in map(int, sys.argv[1].split(",")):
    text = "define void @run(ptr %p) {{ store i64 {}, ptr %p ret void }}".format(number)
    jit.load(str(number), lambda: text, tiers.default(), ["run"])
print(json.dumps({**jit.statistics(), "all": time.perf_counter() - start}))
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
    monkeypatch.setattr(jit, "_source_hash", lambda: "other")
    assert digest("a", tiers.default(), ("run",)) != before


def test_a_fresh_process_loads_from_disk(folder: Path) -> None:
    cold, warm = finish(start_process("1", folder)), finish(start_process("1", folder))
    assert (cold["compiled"], cold["loaded_from_disk"]) == (1, 0)
    assert (warm["compiled"], warm["loaded_from_disk"]) == (0, 1)
    assert (
        warm["all"] < 0.2
    )  # measured 2.5 ms with the start of LLVM, 0.3 ms without; the bound is for a crowded machine


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "magic": lambda data: flip(data, 0),
    "sum": lambda data: flip(data, 20),
    "middle": lambda data: flip(data, len(data) // 2),
    "last": lambda data: flip(data, len(data) - 1),
    "half": lambda data: data[: len(data) // 2],
    "head": lambda data: data[:10],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "foreign": lambda data: b"\x7fELF" + bytes(1000),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_mended(folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    load("a", 3)
    (path,) = entries(folder)
    sound = path.read_bytes()
    path.write_bytes(DAMAGE[damage](sound))
    forget(monkeypatch)
    assert (call(load("a", 3)), counts()) == (3, (1, 0))
    assert entries(folder) == [path]
    assert path.read_bytes() == sound


def test_a_sound_entry_is_loaded_without_its_ir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("a", 3)
    forget(monkeypatch)
    assert call(jit.load("a", unused, tiers.default(), ["run"]), 4) == 7
    assert counts() == (0, 1)


def test_a_sound_entry_under_another_name_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("a", 3)
    (first,) = entries(folder)
    load("b", 4)
    (second,) = set(entries(folder)) - {first}
    first.write_bytes(second.read_bytes())
    forget(monkeypatch)
    assert (call(load("a", 3)), counts()) == (3, (1, 0))


def test_two_processes_fill_the_cache_at_once(folder: Path) -> None:
    numbers = ",".join(map(str, range(20)))
    for found in map(finish, [start_process(numbers, folder), start_process(numbers, folder)]):
        assert found["compiled"] + found["loaded_from_disk"] == 20
        assert found["cache_problem"] is None
    assert [path.suffix for path in entries(folder)] == [".o"] * 20
    assert finish(start_process(numbers, folder))["loaded_from_disk"] == 20


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


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GATEWISE_CACHE", str(tmp_path / "file" / "cache"))
    assert (call(load("a", 3)), counts()) == (3, (1, 0))
    assert "could not be written" in jit.statistics()["cache_problem"]
    assert (jit.cache_size(), jit.clear_cache()) == (0, 0)


def test_a_full_disk_leaves_no_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    assert call(load("a", 3)) == 3
    assert "No space left" in jit.statistics()["cache_problem"]
    assert entries(folder) == []


@pytest.mark.parametrize("value", ["off", "OFF", ""])
def test_the_cache_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    forget(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWISE_CACHE", value)
    assert call(load("a", 3)) == 3
    assert jit.cache_folder() is None
    assert (jit.cache_size(), jit.clear_cache(), jit.statistics()["cache_problem"]) == (0, 0, None)
    assert entries(tmp_path) == []
    monkeypatch.delenv("GATEWISE_CACHE")
    assert "gatewise" in str(jit.cache_folder())


def test_without_source_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "_source_hash", lambda: "")
    assert call(load("no source", 3)) == 3
    assert not folder.exists()
    assert "source of Gatewise" in jit.statistics()["cache_problem"]


def test_size_and_clearing_count_our_files_only(folder: Path) -> None:
    load("a", 3)
    load("b", 4)
    (folder / "notes.txt").write_text("mine")
    assert jit.cache_size() == sum(path.stat().st_size for path in folder.glob("*.o")) > 0
    assert jit.clear_cache() == 2
    assert [path.name for path in entries(folder)] == ["notes.txt"]
    assert jit.cache_size() == 0


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_oldest_entries_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        load(str(number), number)
    for number in range(8):
        age(folder / (jit._digest(str(number), tiers.default(), ("run",)) + ".o"), 1000 - number)
    forget(monkeypatch)
    load("0", 0)  # used again, so 1 is now the oldest
    size = entries(folder)[0].stat().st_size
    monkeypatch.setattr(jit, "LIMIT_BYTES", 8 * size + 10)
    load("8", 8)
    forget(monkeypatch)
    for number in (0, *range(3, 9)):
        load(str(number), number)
    assert counts() == (0, 7)
    load("1", 1)
    assert counts() == (1, 7)


def test_a_dead_processs_temporary_file_goes(folder: Path) -> None:
    folder.mkdir()
    old, new = folder / ("a" * 20 + ".tmp"), folder / ("b" * 20 + ".tmp")
    for path, seconds in ((old, 7200), (new, 60)):
        path.write_bytes(b"half")
        age(path, seconds)
    load("a", 3)
    assert (old.exists(), new.exists()) == (False, True)


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
