"""A directory is held, and temporary files of killed processes go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gatewise.tasks.claim import LOCK, claim_on, claimed
from gatewise.tasks.errors import InputError, WriteError
from gatewise.tasks.folder import write_bytes

HALF = ".model.safetensors.a1b2c3_8.part"
LOOSE = ".forecast.csv.a1b2c3_8.tmp"
FOREIGN = (".notes.tmp", ".x.part", "model.safetensors.a1b2c3d4.part", ".bashrc")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_half_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    for name in (HALF, LOOSE, *FOREIGN):
        (tmp_path / name).write_text("half")
    with claimed(tmp_path, locked=False):
        assert names(tmp_path) == {HALF, LOOSE, *FOREIGN}, "their writers may be alive"
    with claimed(tmp_path):
        assert names(tmp_path) == {LOOSE, *FOREIGN, LOCK}, "only who holds the lock writes the first"
    old = time.time() - 7200
    for name in (LOOSE, *FOREIGN):
        os.utime(tmp_path / name, (old, old))
    with claimed(tmp_path, locked=False):
        pass
    assert names(tmp_path) == set(FOREIGN)


@pytest.mark.parametrize(("locked", "ending"), [(True, ".part"), (False, ".tmp")])
def test_half_files_have_such_names(tmp_path: Path, locked: bool, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, seen = os.replace, list[str]()

    def note(source: str, target: Path) -> None:
        seen.append(source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    with claimed(tmp_path, locked=locked):
        write_bytes(tmp_path / "f", b"")
    assert seen[0].endswith(ending)


def test_a_claim_is_known_inside_alone(tmp_path: Path) -> None:
    with claimed(tmp_path) as outer:
        with claimed(tmp_path / "inner") as inner:
            assert (claim_on(tmp_path), claim_on(tmp_path / "inner")) == (outer, inner)
        assert claim_on(tmp_path / "inner") is None
        with pytest.raises(InputError, match="is in use"), claimed(tmp_path):
            pass
    assert claim_on(tmp_path) is None
    assert names(tmp_path) == {"inner"}


def test_an_unusable_lock_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(WriteError, match=r"cannot be written because of its \.lock: Is a dir"), claimed(tmp_path):
        pass


def test_directories_above_that_others_use_meanwhile_stay(tmp_path: Path) -> None:
    def fail() -> None:
        with claimed(tmp_path / "a" / "b"):
            (tmp_path / "a" / "another's").mkdir()
            raise InputError

    with pytest.raises(InputError):
        fail()
    assert names(tmp_path / "a") == {"another's"}
