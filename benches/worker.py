"""One thread setting in a process of its own: checks, measures, prints a JSON record per line.

Threads of OpenMP's pool keep spinning after a region, so two settings in one process would disturb each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benches import peers
from benches.check import Reference, WrongNumbersError, checked_steps, verify
from benches.columns import COLUMNS, LOOP, Column
from benches.floor import Ceilings
from benches.problem import Problem
from benches.shapes import SHORT, Shape
from benches.timing import measure

Record = dict[str, Any]
SHORT_SHARE = 0.2
"""Of the budget, for calls of a few steps: they are many, and short."""
Start = Callable[[str, str, int], Iterator[Record]]
"""Runs a module with an argument on so many threads, and yields its records and its end."""


@dataclass(frozen=True)
class Job:
    """What a worker does.

    ``budget`` is the seconds of timing for a shape, with at least ``least`` rounds; ``seconds`` those after which no
    further shape is begun; ``check_operations`` the size of a reference.
    """

    threads: int
    shapes: tuple[str, ...]
    budget: float
    least: int
    check_operations: float
    seconds: float
    loop: bool = False
    peers: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*COLUMNS, *([LOOP] if self.loop else []), *(peers.installed() if self.peers else ()))


def start(job: Job) -> Iterator[Record]:
    """Run a job in a fresh process and yield its records; the last is of kind ``end`` with the exit status."""
    return spawn("benches.worker", json.dumps(asdict(job)), job.threads)


def spawn(module: str, argument: str, threads: int) -> Iterator[Record]:
    """Run a module in a fresh process that keeps to so many threads and yield the records it prints, then its end."""
    own = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", module, argument],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **own, **peers.environment(threads)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    yield {"kind": "end", "status": process.wait()}


def work(job: Job, columns: Sequence[Column]) -> Iterator[Record]:
    """Ceilings and shapes in turn: the best ceilings of the run are those that all shapes are compared with."""
    end = time.monotonic() + job.seconds
    ceilings = Ceilings(job.threads)
    ceilings.measure()
    for text in job.shapes:
        shape = Shape.read(text)
        if time.monotonic() > end:
            yield {"kind": "left out", "shape": text}
            continue
        if shape.kind not in SHORT:
            ceilings.again(shape)
        yield {"kind": "ceilings", **ceilings.record()}
        yield {"kind": "shape", **measure_shape(shape, job, columns)}
    ceilings.measure()
    for shape in map(Shape.read, job.shapes if time.monotonic() < end else ()):
        if shape.kind not in SHORT:
            ceilings.again(shape)
    yield {"kind": "ceilings", **ceilings.record()}


def measure_shape(shape: Shape, job: Job, columns: Sequence[Column]) -> Record:
    """Check every column, then time those whose numbers are right."""
    columns = [column for column in columns if shape.kind in column.kinds]
    steps = {c.formula: checked_steps(shape, shape.operations(c.formula), job.check_operations) for c in columns}
    problems = {formula: Problem.of(shape, formula) for formula in steps}
    references = {f: Reference.of(problems[f], count) for f, count in steps.items()}
    right: dict[str, Callable[[], object]] = {}
    found: dict[str, Record] = {}
    for column in columns:
        try:
            error, run = verify(column, problems[column.formula], references[column.formula])
            found[column.name], right[column.name] = {"error": error}, run.call
        except WrongNumbersError as sentence:
            found[column.name] = {"wrong": str(sentence)}
    with torch.inference_mode(not shape.training), torch.set_grad_enabled(shape.training):
        budget = job.budget * (SHORT_SHARE if shape.kind in SHORT else 1)
        times = measure(right, budget, least=job.least)
    for name, own in times.items():
        found[name]["ms"] = asdict(own)
    return {"shape": str(shape), "threads": job.threads, "checked_steps": min(steps.values()), "columns": found}


def main() -> None:
    fields = json.loads(sys.argv[1])
    job = Job(**{**fields, "shapes": tuple(fields["shapes"])})
    torch.set_num_threads(job.threads)
    for record in work(job, job.columns):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
