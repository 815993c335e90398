"""A file that is written part by part: what is gone on with, what is begun anew, and what is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewise.tasks.errors import InputError, WriteError
from gatewise.tasks.stored import Stored, files


def write(stored: Stored, mark: str, parts: list[bytes], stop: Exception | None = None) -> int:
    """Write parts, each noted, from where an earlier call stopped; returns how many were there already."""
    done = list(stored.begun(mark).get("done", ()))
    there = len(done)
    with stored.opened(sum(done)) as file:
        for part in parts[there:]:
            file.write(part)
            done.append(len(part))
            stored.note(mark, {"done": done}, file)
        if stop is not None:
            file.write(b"half a part")
            raise stop
        written = os.fstat(file.fileno())
    stored.seal(mark, {"count": sum(done)}, written)
    return there


def test_it_is_gone_on_with_by_the_same_mark_alone(tmp_path: Path) -> None:
    stored = Stored(tmp_path, "x")
    with pytest.raises(RuntimeError):
        write(stored, "a", [b"one", b"two"], RuntimeError("killed"))
    assert not stored.whole("a")
    assert write(stored, "a", [b"one", b"two", b"three"]) == 2
    assert stored.path.read_bytes() == b"onetwothree"
    assert stored.whole("a")
    assert not stored.whole("b")
    with pytest.raises(RuntimeError):
        write(stored, "b", [b"1"], RuntimeError("killed"))
    assert write(stored, "c", [b"new"]) == 0
    assert stored.path.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files("x")[:2])


def test_data_that_cannot_be_read_are_not_gone_on_with(tmp_path: Path) -> None:
    stored = Stored(tmp_path, "x")
    with pytest.raises(InputError, match="line 3"):
        write(stored, "a", [b"one"], InputError("line 3 is bad"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WriteError, match=r"x\.partial cannot be written"):
        write(stored, "a", [b"one"], OSError(28, "No space left on device"))
    assert stored.partial.exists()


def test_damage_is_seen(tmp_path: Path) -> None:
    stored = Stored(tmp_path, "x")
    write(stored, "a", [b"one"])
    (tmp_path / "other").mkdir()
    again = Stored(tmp_path / "other", "y")
    again.copied(stored.path)
    about = {"sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"}  # of "one"
    again.check(about, 3, verify=True)
    again.path.write_bytes(b"two")
    again.check(about, 3, verify=False)
    for size, verify in ((3, True), (4, False)):
        with pytest.raises(InputError, match=r"is not as y\.json says it was written"):
            again.check(about, size, verify)
    again.path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        again.check(about, 3, verify=False)
