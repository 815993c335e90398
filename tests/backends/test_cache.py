"""The cache of machine code on disk: names, damage, folders that refuse or are refused, what is told of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from gatewise.backends import cache

owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")


def name(number: int, kind: str = "o") -> str:
    return f"{hashlib.sha256(bytes([number])).hexdigest()}.{kind}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is not made yet, asked for by a process that has met nothing."""
    path = tmp_path / "cache"
    monkeypatch.setenv("GATEWISE_CACHE", str(path))
    monkeypatch.setattr(cache, "_process", cache._Process())
    return path


@pytest.fixture
def open_folder(folder: Path) -> Iterator[Path]:
    """One that everybody can write, where a stranger has put an entry with its right checksum."""
    cache.store(name(0), b"good")
    (kept,) = folder.iterdir()
    kept.write_bytes(cache._head(name(0), b"evil") + b"evil")
    folder.chmod(0o777)
    yield folder
    private = cache._process.private
    shutil.rmtree(private or folder)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- entries ---


def test_what_was_stored_is_read(folder: Path) -> None:
    with no_warning():
        assert cache.read(name(0)) is None
        for number, content in enumerate((b"code", b"", bytes(1 << 20))):
            cache.store(name(number), content)
            assert cache.read(name(number)) == content
        cache.store(name(0), b"other")
        cache.store(name(0, "cubin"), b"for another machine")
        assert [cache.read(one) for one in (name(0), name(0, "cubin"))] == [b"other", b"for another machine"]
    assert files(folder) == sorted([name(0), name(1), name(2), name(0, "cubin")])
    assert cache.problem() is None


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
def test_a_damaged_entry_is_not_taken(folder: Path, damage: str) -> None:
    cache.store(name(0), bytes(range(100)))
    (path,) = folder.iterdir()
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert cache.read(name(0)) is None


def test_a_sound_entry_under_another_name_is_not_taken(folder: Path) -> None:
    cache.store(name(0), b"code")
    for other in (name(1), name(0, "cubin")):
        shutil.copy(folder / name(0), folder / other)
        assert cache.read(other) is None


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_oldest_entries_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        cache.store(name(number), b"code")
        age(folder / name(number), 1000 - number)
    assert cache.read(name(0)) == b"code"  # used again, so 1 is now the oldest
    monkeypatch.setattr(cache, "LIMIT_BYTES", 8 * (folder / name(0)).stat().st_size + 10)
    cache.store(name(8), b"code")
    assert files(folder) == sorted(name(number) for number in (0, *range(3, 9)))


def test_a_dead_processs_temporary_file_goes(folder: Path) -> None:
    folder.mkdir()
    old, new = folder / ("a" * 32 + ".tmp"), folder / ("b" * 32 + ".tmp")
    for path, seconds in ((old, 7200), (new, 60)):
        path.write_bytes(b"half")
        age(path, seconds)
    cache.store(name(0), b"code")
    assert (old.exists(), new.exists()) == (False, True)


def test_size_and_clearing_count_our_files_only(folder: Path) -> None:
    assert (cache.size(), cache.clear()) == (0, 0)
    for number in range(2):
        cache.store(name(number), b"code")
    (folder / "notes.txt").write_text("mine")
    (folder / "notes.o").write_text("mine")
    assert cache.size() == sum((folder / name(number)).stat().st_size for number in range(2)) > 0
    assert cache.clear() == 2
    assert files(folder) == ["notes.o", "notes.txt"]
    assert cache.size() == 0


# --- folders that refuse ---


def test_a_folder_that_cannot_be_made_is_reported(folder: Path) -> None:
    folder.write_text("in the way")
    with no_warning():
        cache.store(name(0), b"code")
        assert cache.read(name(0)) is None
    assert f"{folder} could not be written" in str(cache.problem())
    assert (cache.size(), cache.clear()) == (0, 0)
    assert cache.report() == {
        "cache": str(folder),
        "cache_bytes": 0,
        "cache_problem": "it cannot be opened: Not a directory",
    }


def test_a_full_disk_leaves_no_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    cache.store(name(0), b"code")
    assert "No space left" in str(cache.problem())
    assert files(folder) == []


@pytest.mark.parametrize("value", ["off", "OFF", ""])
def test_the_cache_can_be_switched_off(folder: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("GATEWISE_CACHE", value)
    cache.store(name(0), b"code")
    assert (cache.folder(), cache.read(name(0)), cache.size(), cache.clear(), cache.problem()) == (
        None,
        None,
        0,
        0,
        None,
    )
    assert cache.report() == {"cache": "off", "cache_bytes": 0}
    assert files(folder.parent) == []
    monkeypatch.delenv("GATEWISE_CACHE")
    assert "gatewise" in str(cache.folder())


def test_without_source_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "source_hash", lambda: "")
    cache.store(name(0), b"code")
    assert not folder.exists()
    assert "source of Gatewise" in str(cache.report()["cache_problem"])


# --- folders that are refused ---


@owners
def test_nothing_is_read_from_a_folder_that_others_can_write(open_folder: Path) -> None:
    with pytest.warns(RuntimeWarning, match=rf"the cache folder {open_folder} is not used, because .*mode 777"):
        assert cache.read(name(0)) is None
    before = {path: path.read_bytes() for path in open_folder.iterdir()}
    with no_warning():  # it was said
        cache.store(name(0), b"good")
        cache.store(name(1), b"more")
        assert [cache.read(name(number)) for number in range(2)] == [b"good", b"more"]
    assert {path: path.read_bytes() for path in open_folder.iterdir()} == before
    private = cache._process.private
    assert private is not None
    assert private.stat().st_mode & 0o777 == 0o700
    assert files(private) == sorted([name(0), name(1)])
    assert cache.size() == sum(path.stat().st_size for path in private.iterdir())
    assert cache.report()["cache"] == str(private)
    assert cache.report()["cache_bytes"] == cache.size()
    assert cache.clear() == 2
    assert len(before) == 1


@owners
def test_where_no_folder_is_private_nothing_is_kept(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    with pytest.warns(RuntimeWarning, match="is not used"):
        cache.store(name(0), b"code")
    assert cache.read(name(0)) is None
    assert cache._process.private is not None
    assert files(cache._process.private) == []


SPOIL: dict[str, Callable[[Path], object]] = {
    "written by others": lambda path: path.chmod(0o666),
    "link": lambda path: path.symlink_to(path.rename(path.with_suffix(".moved"))),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@owners
@pytest.mark.parametrize("kind", SPOIL)
def test_an_entry_that_is_not_to_be_trusted_is_replaced(folder: Path, kind: str) -> None:
    for number in range(2):
        cache.store(name(number), b"code")
        SPOIL[kind](folder / name(number))
    with pytest.warns(RuntimeWarning, match=rf"compiled anew, because {folder / name(0)} (can be|is)") as caught:
        assert [cache.read(name(number)) for number in range(2)] == [None, None]
    assert len(caught) == 1
    assert str(folder / name(1)) in str(cache.problem())
    for number in range(2):
        cache.store(name(number), b"new")
        assert cache.read(name(number)) == b"new"
        assert stat.S_ISREG((folder / name(number)).lstat().st_mode)


@owners
def test_a_folder_under_the_name_of_an_entry_costs_the_entry_alone(folder: Path) -> None:
    (folder / name(0)).mkdir(parents=True)
    folder.chmod(0o700)
    with pytest.warns(RuntimeWarning, match="is not a regular file"):
        assert cache.read(name(0)) is None
    cache.store(name(0), b"code")
    assert "could not be written" in str(cache.problem())
    assert files(folder) == [name(0)]
    assert cache.clear() == 0


@owners
def test_a_report_names_the_folder_and_what_is_wrong(folder: Path) -> None:
    with no_warning():
        assert cache.report() == {"cache": str(folder), "cache_bytes": 0}
        assert not folder.exists()
        cache.store(name(0), b"code")
        assert cache.report() == {"cache": str(folder), "cache_bytes": cache.size()}
        (folder / name(0)).chmod(0o606)
        assert cache.report()["cache_problem"] == f"{folder / name(0)} can be written by others, mode 606"
        folder.chmod(0o702)
        found = cache.report()
    assert found["cache"] == "a private folder, removed at the end of each process"
    assert str(found["cache_problem"]).startswith(f"the cache folder {folder} is not used, because {folder} can be")
    assert cache._process == cache._Process()


PROCESS = """
import os, sys
from gatewise.backends import backend, cache
import gatewise, torch
gatewise.GRU(3, 5)(torch.zeros(2, 1, 3))
if os.fork() == 0:
    raise SystemExit  # a child that ends takes nothing away
os.wait()
print(cache._process.private, len(os.listdir(cache._process.private)))
"""


@owners
def test_a_process_says_it_once_and_leaves_no_private_folder(open_folder: Path) -> None:
    result = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=120, check=True)
    assert result.stderr.count("RuntimeWarning") == 1
    assert str(open_folder) in result.stderr
    private, kept = result.stdout.split()
    assert int(kept) > 1
    assert not Path(private).exists()
    assert files(open_folder) == [name(0)]


# --- what decides the code ---


def test_every_module_that_decides_the_code_is_part_of_the_key(tmp_path: Path) -> None:
    copy = tmp_path / "gatewise"
    for part in ("compiler", "backends"):
        shutil.copytree(cache.PACKAGE / part, copy / part)

    def found() -> str:
        return str(cache.source_hash.__wrapped__(copy))

    before = found()
    assert before == cache.source_hash() == found()
    modules = sorted(copy.rglob("*.py"))
    parts = {module.relative_to(copy).parts[:2] for module in modules}
    assert parts >= {("compiler", "plan.py"), ("backends", "eager.py"), ("backends", "cpu")}
    for module in modules:
        text = module.read_text()
        module.write_text(text + "\n")
        assert found() != before, module
        module.write_text(text)
    assert found() == before


def test_a_module_that_moves_is_another_key_and_its_bytecode_is_none(tmp_path: Path) -> None:
    """Names and contents in the same order as before do not suffice."""
    for part in ("compiler", "backends/cpu", "backends/kernels/__pycache__"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "backends" / "cpu" / "calls.py").write_text("code")
    hash_of = cache.source_hash.__wrapped__
    before = hash_of(tmp_path)
    for ignored in ("backends/kernels/__pycache__/calls.pyc", "backends/.calls.py.swp"):
        (tmp_path / ignored).write_text("cache")
        assert hash_of(tmp_path) == before
    (tmp_path / "backends" / "skeleton.cu").write_text("code")
    assert hash_of(tmp_path) != before
    (tmp_path / "backends" / "skeleton.cu").unlink()
    (tmp_path / "backends" / "cpu" / "calls.py").rename(tmp_path / "backends" / "kernels" / "calls.py")
    assert hash_of(tmp_path) != before
    (tmp_path / "backends" / "kernels" / "calls.py").unlink()
    assert hash_of(tmp_path) == hash_of(tmp_path / "none") == ""
