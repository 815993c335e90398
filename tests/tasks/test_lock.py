"""A lock holds against other processes and within one, ends with its process, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tasks.forked import Forked

from gatewise.tasks.lock import HeldError, Lock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


def sleep() -> None:
    time.sleep(60)


def held(path: Path) -> str:
    """Who is said to hold it."""
    with pytest.raises(HeldError) as caught:
        Lock(path)
    return str(caught.value)


def test_it_holds_within_a_process_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    lock = Lock(path)
    assert held(path) == "another process"
    lock.sign()
    assert held(path).startswith(f"process {os.getpid()} on ")
    lock.release()
    assert not list(tmp_path.iterdir())
    lock.release()
    again = Lock(path)
    assert not again.left
    again.release()


def test_it_ends_with_its_process_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    here, there = os.pipe()

    def hold() -> None:
        Lock(path).sign()
        os.write(there, b"1")
        sleep()

    holder = Forked(hold)
    os.read(here, 1)
    assert held(path).startswith(f"process {holder.pid} on ")
    holder.kill()
    assert holder.end() == (-signal.SIGKILL, "")
    assert path.exists()
    lock = Lock(path)
    assert lock.left
    lock.release()
    os.close(here)
    os.close(there)


def test_a_forked_process_does_not_hold_it(tmp_path: Path) -> None:
    here, there = os.pipe()

    def hold_and_fork() -> None:
        lock = Lock(tmp_path / ".lock")
        if os.fork() == 0:
            os.write(there, str(os.getpid()).encode())
            sleep()
        time.sleep(60)
        lock.release()

    holder = Forked(hold_and_fork)
    forked = int(os.read(here, 20))
    held(tmp_path / ".lock")
    holder.kill()
    os.waitpid(holder.pid, 0)
    Lock(tmp_path / ".lock").release()
    os.kill(forked, signal.SIGKILL)
    holder.pipe.close()
    os.close(here)
    os.close(there)


@pytest.mark.slow
def test_a_spawned_process_that_was_given_it_holds_it_on(tmp_path: Path) -> None:
    lines = [
        "import multiprocessing, sys, time, os",
        "from pathlib import Path",
        "from gatewise.tasks.lock import Lock",
    ]
    lines += ["def hold(lock, pipe):", "    assert lock.holds()", "    pipe.send(os.getpid())", "    time.sleep(60)"]
    lines += ["if __name__ == '__main__':", "    context = multiprocessing.get_context('spawn')"]
    lines += ["    lock, (here, there) = Lock(Path(sys.argv[1])), context.Pipe()"]
    lines += ["    context.Process(target=hold, args=(lock, there)).start()", "    print(here.recv(), flush=True)"]
    lines += ["    time.sleep(60)"]
    (tmp_path / "given.py").write_text("\n".join(lines))
    path = tmp_path / ".lock"
    first = subprocess.Popen([sys.executable, str(tmp_path / "given.py"), str(path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    second = int(first.stdout.readline())
    first.kill()
    first.wait()
    first.stdout.close()
    held(path)
    os.kill(second, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            Lock(path).release()
            return
        except HeldError:
            time.sleep(0.02)
    pytest.fail("nobody is left to hold it")


def test_a_lock_that_was_removed_or_replaced_is_held_no_longer(tmp_path: Path) -> None:
    lock = Lock(tmp_path / ".lock")
    assert lock.holds()
    (tmp_path / ".lock").unlink()
    assert not lock.holds()
    second = Lock(tmp_path / ".lock")
    assert not lock.holds()
    lock.release()
    assert second.holds()
    second.release()


def test_many_at_once_get_it_one_by_one(tmp_path: Path) -> None:
    """Taking and removing the file in turn, no two ever hold it at the same time."""

    def work() -> None:
        for _ in range(100):
            try:
                lock = Lock(tmp_path / ".lock")
            except HeldError:
                continue
            (tmp_path / "alone").mkdir()
            (tmp_path / "alone").rmdir()
            lock.release()

    for process in [Forked(work) for _ in range(4)]:
        assert process.end() == (0, "")


@pytest.mark.parametrize("text", ["", "\x1b[2J", "process \x1b[2J", "gatewise"])
def test_a_foreign_file_has_no_say(tmp_path: Path, text: str) -> None:
    lock = Lock(tmp_path / ".lock")
    (tmp_path / ".lock").write_text(text)
    assert held(tmp_path / ".lock") == "another process"
    lock.release()


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic link"):
        Lock(tmp_path / ".lock")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_file_system_without_locks_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match="lies on a file system without locks"):
        lock = Lock(tmp_path / ".lock")
    assert lock.holds()
    lock.release()
    assert not list(tmp_path.iterdir())
