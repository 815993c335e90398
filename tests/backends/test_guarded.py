"""Folders that only their user can write: what is opened, what is refused and why, on the real file system."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatewise.backends import guarded
from gatewise.backends.guarded import UntrustedError

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")
root_only = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
STRANGER = 12345


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that keeps the rule, with one entry."""
    path = tmp_path / "above" / "cache"
    with guarded.opened(path, make=True) as folder:
        folder.write("entry", "temporary", b"code")
    return path


def read(path: Path, name: str = "entry") -> bytes:
    with guarded.opened(path, make=False) as folder:
        return folder.read(name)


def test_a_folder_is_made_for_its_user_alone(place: Path) -> None:
    assert read(place) == b"code"
    modes = [path.stat().st_mode & 0o777 for path in (place.parent, place, place / "entry")]
    assert modes == [0o700, 0o700, 0o600]
    assert os.listdir(place) == ["entry"]


def test_a_missing_folder_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o2770])
def test_a_folder_that_others_can_write_is_refused(place: Path, mode: int) -> None:
    place.chmod(mode)
    with pytest.raises(UntrustedError, match=rf"^{place} can be written by others, mode {mode:o}$"):
        read(place)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_above_that_others_can_write_is_refused(place: Path, mode: int) -> None:
    place.parent.chmod(mode)
    with pytest.raises(UntrustedError, match=rf"^{place.parent} can be written by others, mode {mode:o}$"):
        read(place)


def test_others_may_read_and_may_write_a_sticky_folder_above(place: Path) -> None:
    place.chmod(0o755)
    (place / "entry").chmod(0o644)
    place.parent.chmod(0o1777)
    assert read(place) == b"code"


@root_only
@pytest.mark.parametrize("what", ["above", "above/cache", "above/cache/entry"])
def test_what_belongs_to_somebody_else_is_refused(place: Path, tmp_path: Path, what: str) -> None:
    os.chown(tmp_path / what, STRANGER, STRANGER)
    expected = rf"^{tmp_path / what} belongs to user {STRANGER}, expected user 0 or root$"
    with pytest.raises(UntrustedError, match=expected):
        read(place)


@root_only
def test_a_sticky_folder_of_somebody_else_is_refused(place: Path) -> None:
    place.parent.chmod(0o1777)
    os.chown(place.parent, STRANGER, STRANGER)
    with pytest.raises(UntrustedError, match="belongs to user"):
        read(place)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of root's with one entry, which everybody can read; nobody but root can list what is above."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "above" / "cache"
        if not all(above.stat().st_mode & 0o001 for above in Path(os.path.realpath(name)).parents):
            pytest.skip("the folder for temporary files is closed to others")
        with guarded.opened(path, make=True) as folder:
            folder.write("entry", "temporary", b"code")
        for above in (Path(name), path.parent):
            above.chmod(0o711)
        path.chmod(0o755)
        (path / "entry").chmod(0o644)
        yield path


def read_by_stranger(path: Path) -> bool:
    """Whether a child process of another user trusts the entry."""
    child = os.fork()
    if child == 0:
        result = 2
        try:
            os.setegid(STRANGER)
            os.seteuid(STRANGER)
            result = 0 if read(path) == b"code" else 2
        except UntrustedError:
            result = 1
        finally:
            os._exit(result)
    return [True, False][os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


@root_only
def test_everybody_trusts_root_and_himself_alone(shared: Path) -> None:
    assert read_by_stranger(shared)
    os.chown(shared / "entry", STRANGER, STRANGER)
    assert read_by_stranger(shared)
    os.chown(shared / "entry", STRANGER + 1, STRANGER + 1)
    assert not read_by_stranger(shared)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_can_write_is_refused(place: Path, mode: int) -> None:
    (place / "entry").chmod(mode)
    with pytest.raises(UntrustedError, match=rf"^{place / 'entry'} can be written by others, mode {mode:o}$"):
        read(place)


def make_link(path: Path) -> None:
    (path.parent.parent / "elsewhere").write_bytes(b"code")
    path.symlink_to(path.parent.parent / "elsewhere")


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (make_link, "is a symbolic link"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "folder": (Path.mkdir, "is not a regular file"),
    "device": (lambda path: os.mknod(path, 0o020600, os.makedev(1, 5)), "is not a regular file"),
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=root_only if kind == "device" else ()) for kind in ODD])
def test_only_regular_files_are_read(place: Path, kind: str) -> None:
    make, words = ODD[kind]
    make(place / "odd")
    found: list[str] = []

    def work() -> None:
        try:
            read(place, "odd")
        except UntrustedError as error:
            found.append(str(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)  # the opening of a pipe would wait for ever
    assert found == [f"{place / 'odd'} {words}"]


def test_an_entry_of_enormous_size_is_refused(place: Path) -> None:
    os.truncate(place / "entry", guarded.LARGEST_BYTES + 1)
    with pytest.raises(UntrustedError, match=rf"has {guarded.LARGEST_BYTES + 1} bytes, expected at most"):
        read(place)


def test_a_link_to_a_folder_is_followed_and_the_real_path_is_checked(place: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place.parent)
    assert read(tmp_path / "link" / "cache") == b"code"
    place.parent.chmod(0o777)
    with pytest.raises(UntrustedError, match=rf"^{place.parent} can be written"):
        read(tmp_path / "link" / "cache")


def test_a_folder_that_becomes_a_link_after_it_was_resolved_is_not_followed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "entry").write_bytes(b"theirs")
    resolve = os.path.realpath

    def then_swapped(path: Path) -> str:
        found = resolve(path)
        place.rename(tmp_path / "moved")
        place.symlink_to(other)
        return found

    monkeypatch.setattr(os.path, "realpath", then_swapped)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        read(place)


def test_a_folder_that_is_swapped_after_it_was_opened_is_not_read(place: Path, tmp_path: Path) -> None:
    with guarded.opened(place, make=False) as folder:
        place.rename(tmp_path / "moved")
        place.mkdir()
        (place / "entry").write_bytes(b"theirs")
        assert folder.read("entry") == b"code"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        read(tmp_path / "a")


def test_descriptors_are_closed(place: Path) -> None:
    (place / "folder").mkdir()
    (place / "link").symlink_to("entry")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for name in ("entry", "folder", "link", "missing"):
        for _ in range(3):
            try:
                read(place, name)
            except (UntrustedError, OSError):
                continue
    place.chmod(0o777)
    for _ in range(3):
        with pytest.raises(UntrustedError):
            read(place)
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


def test_entries_are_listed_by_age_and_a_fault_is_found_among_them(place: Path) -> None:
    names = re.compile("[a-z]+")
    with guarded.opened(place, make=False) as folder:
        folder.write("later", "temporary", b"more")
        os.utime(place / "entry", (1000, 1000))
        assert [name for name, _ in folder.entries(names)] == ["entry", "later"]
        assert [name for name, _ in folder.entries(re.compile("later"))] == ["later"]
        assert folder.fault(names) == ""
        (place / "later").chmod(0o666)
        assert folder.fault(names) == f"{place / 'later'} can be written by others, mode 666"
        folder.touch("entry")
        assert [name for name, _ in folder.entries(names)] == ["later", "entry"]
        assert (folder.remove("later"), folder.remove("later")) == (True, False)
