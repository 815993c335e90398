"""The processes that this one starts for a training, and what is said of those that fail."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.multiprocessing.spawn import start_processes

from gatewise.backends import backend, wish
from gatewise.tasks.errors import InputError, WriteError
from gatewise.tasks.machines import MEETING, Machines, Place
from gatewise.tasks.together import LostError

FAILED = 2
GRACE = 10.0
"""Seconds in which the other processes may notice by themselves that one failed, and end what they are writing."""
KINDS = {kind.__name__: kind for kind in (LostError, WriteError, InputError)}  # the special before the general


def spread(machines: Machines, folder: Path, job: Callable[[Place], None]) -> None:
    """Run a job in the processes that this host is to start, and wait for all of them.

    Args:
        folder: an empty one for what they leave. job: importable and picklable.

    Raises:
        InputError: what a process raised first of all; or that one was ended.
        RuntimeError: with the traceback of another error.
    """
    places = machines.places()
    around: Any = wish(), folder, job
    context = start_processes(_run, (places, around), len(places), join=False)
    assert context is not None
    try:
        failed = not _all_end(context.processes)
    except BaseException:  # Ctrl-C, which they have got too
        _end(context.processes, GRACE / 4)
        raise
    if failed:
        _end(context.processes, GRACE)
        raise _reason(folder, [process.exitcode or 0 for process in context.processes])


def _run(index: int, places: list[Place], around: Any) -> None:
    """One of the processes."""
    (name, tier), folder, job = around
    place = places[index]
    os.environ |= place.environment({name: os.environ.get(name, "") for name in MEETING})
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(places)))
    try:
        with backend(name, tier=tier):
            job(place)
    except InputError as error:
        kind = next(name for name, kind in KINDS.items() if isinstance(error, kind))
        _fail(folder, index, kind, str(error))
    except Exception:
        _fail(folder, index, RuntimeError.__name__, traceback.format_exc())


def _fail(folder: Path, index: int, kind: str, text: str) -> NoReturn:
    """End a process, and leave why: what it raises would be printed."""
    (folder / f"{index}.json").write_text(json.dumps([kind, text]))
    sys.exit(FAILED)


def _all_end(processes: list[BaseProcess]) -> bool:
    """Wait until all have ended well, or one has not."""
    while True:
        codes = [process.exitcode for process in processes]  # asked once: a process may end at any moment
        if any(codes):
            return False
        running = [process.sentinel for process, code in zip(processes, codes, strict=True) if code is None]
        if not running:
            return True
        connection.wait(running)


def _end(processes: list[BaseProcess], grace: float) -> None:
    for stop in (lambda process: None, BaseProcess.terminate, BaseProcess.kill):
        deadline = time.monotonic() + grace
        for process in processes:
            if process.is_alive():
                stop(process)
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))


def _reason(folder: Path, codes: list[int]) -> Exception:
    """Why a training ended: what a process said, else how it ended; that it lost another one is said last."""
    told: list[list[str]] = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    for kind, text in told:
        if kind in KINDS and kind != LostError.__name__:
            return KINDS[kind](text)
        if kind not in KINDS:
            return RuntimeError(f"a process of the training raised\n{text}")
    for index, code in enumerate(codes):
        if code not in (0, FAILED, -signal.SIGTERM):  # SIGTERM ends those that wait for a lost one
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            return InputError(f"process {index + 1} of {len(codes)} of the training {how}")
    return LostError(told[0][1]) if told else InputError("a process of the training was ended by SIGTERM")


def orphaned() -> bool:
    """Whether the process that started this one was killed: nobody would take up what this one does."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
