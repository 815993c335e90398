"""A forked process for what a test must do to a process: let it run out of disk, kill it, let it run beside this one.

It has everything imported and costs 50 ms. It computes on one thread, since OpenMP's threads do not survive a fork.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gatewise.tasks import InputError

SECONDS = 120
SURVIVED, REFUSED = 0, 2
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Forked:
    """Runs a function in a process of its own, from now on."""

    def __init__(self, function: Callable[[], Any]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _run(function, writing)
        os.close(writing)
        self.pipe = os.fdopen(reading, "rb")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> tuple[int, str]:
        """Wait for it: 0, 2 for an InputError, 1 for another error, or minus the signal; and the error's text."""
        with self.pipe:
            text = self.pipe.read().decode()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert status != 1, text
        return status, text


def _run(function: Callable[[], Any], pipe: int) -> None:
    code, text = 1, ""
    try:
        signal.alarm(SECONDS)
        torch.set_num_threads(1)
        function()
        code = SURVIVED
    except InputError as error:
        code, text = REFUSED, str(error)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        text = traceback.format_exc()
    finally:
        os.write(pipe, text.encode())
        os._exit(code)


class Writes:
    """Calls a function before what this process does to the files of a folder: opens one to write, gives one its name,
    makes a directory, removes. It cannot be taken away from a process, so it belongs into a forked one."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.rest()
        sys.addaudithook(self._hook)

    def rest(self) -> None:
        """Call nothing."""
        self.before: Callable[[str, Path], None] = lambda event, path: None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and bool(flags & WRITING)
        else:
            changes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
            path = arguments[event == "os.rename"] if changes else ""
        if changes and str(path).startswith(self.folder):
            self.before(event, Path(path))
