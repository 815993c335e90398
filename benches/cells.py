"""Cells that nobody tuned for: ``python -m benches.cells --json docs/performance``.

Five that are not built in, each time over its arithmetic floor, beside that of ``gru`` at the same shape: what the
compiler gives to a cell that a user has just written.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import gatewise as gw
from benches.check import Reference, checked_steps, verify
from benches.columns import Column, gatewise_layer
from benches.files import unwritable, write_json
from benches.floor import Ceilings
from benches.machine import features, own_file
from benches.problem import Problem
from benches.shapes import TRAIN, Shape
from benches.timing import measure
from benches.worker import Start, spawn
from gatewise import cell
from gatewise.cells import gru
from gatewise.compiler.cell import Cell
from gatewise.compiler.functions import diagonal, sigmoid, tanh

Record = dict[str, Any]
SHAPES = (Shape(1, 100, 128, 256), Shape(8, 200, 128, 256), Shape(32, 100, 256, 512), Shape(32, 100, 128, 256, TRAIN))
GOAL = 1.3
"""Time over floor ÷ that of gru."""
CHECK_OPERATIONS = 1e9


@cell
def three_gates(gate: Any, x: Any, h: Any) -> Any:
    """A GRU whose keeping and renewing are not coupled."""
    r = sigmoid(gate.r(x, h))
    f = sigmoid(gate.f(x, h))
    i = sigmoid(gate.i(x, h))
    n = tanh(gate.n(x, r * h))
    return f * h + i * n


@cell
def two_states(gate: Any, x: Any, h: Any, s: Any) -> Any:
    """A slow state behind the fast one, each with a gate that sees its own past."""
    z = sigmoid(gate.z(x, s))
    n = tanh(gate.n(x, h))
    s = z * s + (1 - z) * n
    f = sigmoid(gate.f(x, h))
    return f * h + (1 - f) * tanh(s), s


@cell
def coupled_peephole(gate: Any, x: Any, h: Any, c: Any) -> Any:
    """An LSTM with one gate to forget and select, and peepholes."""
    f = sigmoid(gate.f(x, h, diagonal(c)))
    g = tanh(gate.g(x, h))
    c = f * c + (1 - f) * g
    o = sigmoid(gate.o(x, h, diagonal(c)))
    return o * tanh(c), c


@cell
def gated_gate(gate: Any, x: Any, h: Any) -> Any:
    """The reset gate acts on what the update gate sees as well."""
    r = sigmoid(gate.r(x, h))
    z = sigmoid(gate.z(x, r * h))
    n = tanh(gate.n(x, r * h))
    return z * h + (1 - z) * n


@cell
def no_gate(gate: Any, x: Any, h: Any) -> Any:
    """A leaky integrator (Jaeger et al. 2007)."""
    return 0.75 * h + 0.25 * tanh(gate.n(x, h))


CELLS: tuple[Cell, ...] = (gru, three_gates, two_states, coupled_peephole, gated_gate, no_gate)


def operations(one: Cell, shape: Shape) -> float:
    """Floating-point operations of the products: two for each weight of a matrix, row and step; thrice in training."""
    layer = gw.Recurrent(one, shape.input, shape.hidden)
    weights = sum(value.numel() for name, value in layer.named_parameters() if name in ("weight_ih_l0", "weight_hh_l0"))
    return (6.0 if shape.training else 2.0) * shape.batch * shape.time * weights


def job_records(job: str) -> Iterator[Record]:
    """What ``main`` asks a process of each thread setting for."""
    threads, budget, *shapes = json.loads(job)
    return work(threads, budget, [Shape.read(text) for text in shapes])


def work(threads: int, budget: float, shapes: Sequence[Shape]) -> Iterator[Record]:
    """Check and time every cell at every shape."""
    torch.set_num_threads(threads)
    ceilings = Ceilings(threads)
    for shape in shapes:
        ceilings.arithmetic()
        runs = {one.name: _run(one, shape) for one in CELLS}
        with torch.inference_mode(not shape.training), torch.set_grad_enabled(shape.training):
            times = measure(runs, budget)
        ceilings.arithmetic()
        floors = {one.name: operations(one, shape) / ceilings.multiply_add / 1e6 for one in CELLS}
        columns = {name: {"ms": asdict(t), "floor_ms": floors[name]} for name, t in times.items()}
        yield {"shape": str(shape), "threads": threads, "columns": columns}


def _run(one: Cell, shape: Shape) -> Callable[[], object]:
    """What is timed, once its numbers are right."""
    build = functools.partial(gw.Recurrent, one)
    problem = Problem.made(shape, build)
    reference = Reference.of(problem, checked_steps(shape, operations(one, shape), CHECK_OPERATIONS))
    _, run = verify(Column(one.name, one.name, one.name, gatewise_layer(build)), problem, reference)
    return run.call


def relative(columns: Record, name: str) -> float:
    """Time over floor, in shares of that of gru."""
    over = {key: c["ms"]["median"] / c["floor_ms"] for key, c in columns.items()}
    return over[name] / over["gru"]


def main(arguments: Sequence[str] | None = None, start: Start = spawn) -> int:
    """Print and write. 0, or 1 when numbers are wrong or a process died."""
    parser = argparse.ArgumentParser(prog="python -m benches.cells", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shapes", type=Shape.read, nargs="+", default=SHAPES)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    given = parser.parse_args(arguments)
    given.json = own_file(given.json, "cells")
    if problem := unwritable("--json", given.json):
        print(problem, file=sys.stderr)
        return 2
    found, failed = [], 0
    for threads in given.threads:
        job = [threads, 0.3 if given.quick else 2.0, *map(str, given.shapes)]
        for record in start("benches.cells", json.dumps(job), threads):
            if record.get("kind") == "end":
                failed |= record["status"] != 0
            else:
                found.append(record)
                print_record(record)
    if given.json and not failed:
        write_json(given.json, {"machine": features(), "cells": found})
    return failed


def print_record(record: Record) -> None:
    """A line for every cell."""
    for name, column in record["columns"].items():
        ms, floor = column["ms"]["median"], column["floor_ms"]
        text = f"{record['shape']:22}{record['threads']} threads  {name:18}{ms:9.3f} ms{ms / floor:7.2f} × floor"
        print(f"{text}{relative(record['columns'], name):7.2f} of gru", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("["):
        for line in job_records(sys.argv[1]):
            print(json.dumps(line), flush=True)
    else:
        sys.exit(main())
