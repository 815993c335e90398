"""Peak memory of one call or training step, each in a process of its own: ``python -m benches.memory SHAPE …``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benches.columns import COLUMNS, Column
from benches.problem import Problem
from benches.shapes import INFERENCE, TRAIN, Shape

KINDS = (INFERENCE, TRAIN)
"""A step of a stream and an empty call take no memory worth a table."""
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")

Record = dict[str, object]


def in_processes(shapes: Sequence[Shape]) -> Iterator[Record]:
    """Measure every column at every shape: megabytes, or the sentence why not.

    One fresh process imports torch and Gatewise and starts a copy of itself for each: it has run nothing, so that the
    copies start alike and without threads.
    """
    command = [sys.executable, "-m", "benches.memory", *map(str, shapes)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    if process.wait():
        yield {"column": "", "shape": "", "problem": f"the process ended with status {process.returncode}"}


def peak(column: Column, shape: Shape) -> Record:
    """Megabytes that a call adds at its peak to a process that holds the layer and its input."""
    torch.set_num_threads(1)
    problem = Problem.of(shape, column.formula)
    with torch.set_grad_enabled(shape.training):
        column.start(problem.shortened(2)).call()  # kernels are compiled or loaded here, not in the call that counts
        return {"column": column.name, "shape": str(shape)} | of_call(column.start(problem).call)


def of_call(call: Callable[[], object]) -> Record:
    """Megabytes that a call adds at its peak, and those of the whole process then."""
    before = _resident()
    _forget_peak()
    results = call()
    after = _peak_resident()
    assert results is not None
    return {"step_mb": (after - before) / 1e6, "process_mb": after / 1e6}


def _in_copy(column: Column, shape: Shape) -> Record:
    """Measure in a copy of this process, where the system can make one."""
    if not hasattr(os, "fork"):
        return peak(column, shape)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writing, "w") as pipe:
                json.dump(peak(column, shape), pipe)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)  # nothing of the parent's is cleaned up here
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        return {"column": column.name, "shape": str(shape), "problem": "the process ended without a figure"}
    record: Record = json.loads(text)
    return record


# On Linux a process inherits getrusage's peak from the one that started it, so /proc is asked there.


def _status(field: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def _resident() -> int:
    return _status("VmRSS") if _STATUS.exists() else _used()


def _peak_resident() -> int:
    return _status("VmHWM") if _STATUS.exists() else _used()


def _used() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _forget_peak() -> None:
    if _RESET.exists():
        _RESET.write_text("5")


def main() -> None:
    for text in sys.argv[1:]:
        for column in COLUMNS:
            print(json.dumps(_in_copy(column, Shape.read(text))), flush=True)


if __name__ == "__main__":
    main()
