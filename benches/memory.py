"""Peak memory of one training step, each layer in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from benches.columns import COLUMNS, LOOP, Column, Problem, call, fill
from benches.shapes import TRAIN, Shape

SHAPE = Shape(32, 200, 256, 512, TRAIN)
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def in_process(column: Column, shape: Shape) -> dict[str, object]:
    """Measure in a fresh process; megabytes, or the sentence why not."""
    command = [sys.executable, "-m", "benches.memory", column.name, str(shape)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if found.returncode:
        return {"column": column.name, "problem": (found.stderr.strip().splitlines() or ["no message"])[-1]}
    record: dict[str, object] = json.loads(found.stdout)
    return record


def peak(column: Column, shape: Shape) -> dict[str, object]:
    """Megabytes that a training step adds at its peak to a process that holds the layer and its input."""
    problem = Problem.of(shape, column.formula)
    layer = fill(column.build(shape.input, shape.hidden), problem.parameters)
    call(layer, problem.shortened(2), True)()  # kernels are compiled or loaded here, not in the step that counts
    step = call(layer, problem, True)
    before = _resident()
    _forget_peak()
    results = step()
    after = _peak_resident()
    assert len(results) > 2
    return {"column": column.name, "shape": str(shape), "step_mb": (after - before) / 1e6, "process_mb": after / 1e6}


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
    name, shape = sys.argv[1], Shape.read(sys.argv[2])
    column = next(c for c in (*COLUMNS, LOOP) if c.name == name)
    torch.set_num_threads(1)
    print(json.dumps(peak(column, shape)))


if __name__ == "__main__":
    main()
