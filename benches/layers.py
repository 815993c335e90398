"""Times the layers beside torch's: ``python -m benches.layers --json docs/performance``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benches import derive, machine, memory, peers, worker
from benches.combine import combine
from benches.files import unwritable, write_json
from benches.floor import Ceilings
from benches.print import print_ceilings, print_header, print_memory, print_shape, print_summary, print_titles
from benches.shapes import CALL_SHAPE, INFERENCE_SHAPES, SHORT_SHAPES, STEP_SHAPES, TRAIN_SHAPES, Shape

Record = dict[str, Any]
Start = Callable[[worker.Job], Iterator[Record]]

FULL = {"budget": 2.5, "least": 5, "check_operations": 3e9, "seconds": 3600.0}
QUICK = {"budget": 0.3, "least": 1, "check_operations": 2e8, "seconds": 18.0}


def main(arguments: Sequence[str] | None = None, start: Start = worker.start) -> int:
    """Measure, print, write. 0, or 1 when numbers are wrong or a worker died."""
    options = _parser().parse_args(arguments)
    options.json = machine.own_file(options.json)
    problem = unwritable("--json", options.json)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    shapes = _shapes(options)
    threads = [] if options.memory_only else options.threads or sorted({1, min(2, os.cpu_count() or 1)})
    report: Record = {"command": _command(arguments), "quick": options.quick, "machine": machine.features()}
    report["peers"] = {"installed": peers.versions(), "missing": peers.missing(), "measured": _peers(options)}
    print_header(report)
    runs = [_run(_job(n, shapes, options), start) for n in threads]
    report |= {"runs": runs, "memory": _memory(options, shapes)}
    report["machine"]["load_after"] = machine.load()
    problems = [p for run in runs for p in (*derive.wrong(run["shapes"]), *run["problems"])]
    if options.json:
        old = json.loads(options.json.read_text()) if options.add and options.json.exists() else None
        write_json(options.json, combine(old, report) if old else report)
    print_summary(runs)
    for sentence in problems:
        print(f"WRONG {sentence}")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.layers", description=__doc__)
    parser.add_argument("--json", type=Path, help="write all figures to this file, or to this processor's in a folder")
    parser.add_argument("--add", action="store_true", help="keep the rows of the file that are not measured anew")
    parser.add_argument("--seconds", type=float, help="of timing for each shape (2.5); at least 5 rounds all the same")
    parser.add_argument("--threads", type=_count, nargs="+", help="thread settings, each in a process of its own (1 2)")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, short references, no peers, no memory: less than a minute"
    )
    parser.add_argument(
        "--shapes",
        type=_shape,
        nargs="+",
        metavar="B,T,I,H",
        help="shapes; train:B,T,I,H, call: and train-call:B,T,I,H, step:, cell: and train-cell:B,1,I,H",
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--train-only", action="store_true", help="leave out inference")
    kinds.add_argument("--inference-only", action="store_true", help="leave out training")
    kinds.add_argument("--calls", action="store_true", help="calls of one to eight steps, of layers and cells")
    parser.add_argument("--loop", action="store_true", help="also time reset-before as a loop of torch operations")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory of calls")
    parser.add_argument("--memory-only", action="store_true", help="the peak memory of calls and nothing else")
    parser.add_argument("--no-peers", action="store_true", help="torch and Gatewise alone")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, got {text!r}")
    return int(text)


def _shape(text: str) -> Shape:
    try:
        return Shape.read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _shapes(options: argparse.Namespace) -> list[Shape]:
    whole = SHORT_SHAPES if options.calls else [CALL_SHAPE, *STEP_SHAPES, *INFERENCE_SHAPES, *TRAIN_SHAPES]
    shapes = options.shapes or whole
    unwanted = {options.train_only: False, options.inference_only: True}
    return [shape for shape in shapes if unwanted.get(True) != shape.training]


def _job(threads: int, shapes: Sequence[Shape], options: argparse.Namespace) -> worker.Job:
    effort: Record = dict(QUICK if options.quick else FULL)
    if options.seconds is not None:
        effort["budget"] = options.seconds
    if options.quick:  # the longest come last, as time may run out
        shapes = sorted(shapes, key=lambda shape: shape.operations("lstm"))
    return worker.Job(threads, tuple(map(str, shapes)), loop=options.loop, peers=_peers(options), **effort)


def _peers(options: argparse.Namespace) -> bool:
    return not (options.quick or options.no_peers)


def _run(job: worker.Job, start: Start) -> Record:
    """One thread setting: prints figures as they come, returns them with the final ceilings."""
    ceilings = Ceilings(job.threads)
    shapes, problems, left_out = [], [], []
    print_titles(job.threads)
    for record in start(job):
        kind = record.pop("kind")
        if kind == "ceilings":
            ceilings = Ceilings.read(record)
        elif kind == "shape":
            shapes.append(record)
            print_shape(derive.complete(record, ceilings))
        elif kind == "left out":
            left_out.append(record["shape"])
            print(f"{record['shape']:24}left out, the time is up", flush=True)
        elif record["status"]:
            at = job.shapes[min(len(shapes), len(job.shapes) - 1)]
            problems.append(f"{at} at {job.threads} threads: the process ended with status {record['status']}")
    print_ceilings(ceilings)
    shapes = [derive.complete(record, ceilings) for record in shapes]
    found: Record = {"threads": job.threads, "ceilings": ceilings.record(), "shapes": shapes}
    return found | {"problems": problems, "left_out": left_out}


def _memory(options: argparse.Namespace, shapes: Sequence[Shape]) -> list[Record]:
    wanted = [shape for shape in shapes if shape.kind in memory.KINDS]
    if options.quick or options.no_memory or not wanted:
        return []
    return print_memory(memory.in_processes(wanted))


def _command(arguments: Sequence[str] | None) -> str:
    return " ".join(["python -m benches.layers", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
