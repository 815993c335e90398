"""Rates over batch and hidden size: ``python -m benches.scaling --json docs/performance`` also draws a picture.

A step's time is the difference of a long and a short sequence, divided by the difference of their steps: packing and
the call are not in it. ``--draw`` draws the picture again from the figures.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benches.columns import COLUMNS
from benches.files import unwritable, write_json
from benches.floor import Ceilings
from benches.machine import features, own_file
from benches.problem import Problem
from benches.shapes import Shape
from benches.timing import measure
from benches.worker import Start, spawn

Record = dict[str, Any]
FORMS = ("gru_after", "gru_before")
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512)
UNITS = (16, 64, 128, 256, 512, 1024, 2048)
FINE_BATCHES = (1, 8, 64)
FINE_UNITS = (16, 24, 32, 48, 64, 96, 100, 128, 192, 200, 256, 384, 400, 512, 640, 768, 1024, 1280, 1536, 2048)
LEAST_SECONDS = 3e-3
"""Of the long sequence, beyond what packing takes: as that is subtracted, its noise must not count."""
PACKING = 1e9
READING = 3e10
ARITHMETIC = 1.5e11
"""Rough bytes and operations a second of a core, to choose the number of steps by."""
LONGEST = 256
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
BEND = 0.8
"""A rate below this share of that of the smaller neighbour is a bend downwards: more work at a time, yet slower.

Where the floor falls too, as weights outgrow a cache, the share is one of its fall.
"""


def points() -> list[tuple[int, int]]:
    """Batch and units; the input is as wide as the state."""
    coarse = [(batch, units) for units in UNITS for batch in BATCHES]
    return coarse + [(b, h) for b in FINE_BATCHES for h in FINE_UNITS if (b, h) not in coarse]


def job_records(job: str) -> Iterator[Record]:
    """What ``main`` asks a process of each thread setting for."""
    threads, budget, places = json.loads(job)
    return work(threads, budget, places)


def work(threads: int, budget: float, places: Sequence[tuple[int, int]]) -> Iterator[Record]:
    """Measure every form at every point."""
    torch.set_num_threads(threads)
    ceilings = Ceilings(threads)
    starts = {column.name: column.start for column in COLUMNS if column.name in FORMS}
    for batch, units in places:
        one = Shape(batch, 1, units, units)
        long = steps(one, threads)
        short = max(1, long // 4)
        calls = {}
        with torch.inference_mode():
            for form, start in starts.items():
                problem = Problem.of(Shape(batch, long, units, units), form)
                calls |= {
                    f"{form} {time}": start(problem if time == long else problem.shortened(time)).call
                    for time in (short, long)
                }
            for call in calls.values():
                call()
            times = measure(calls, budget)
        floor, bound = _floor(ceilings, batch, units)
        record: Record = {"threads": threads, "batch": batch, "units": units, "floor_us": floor, "bound": bound}
        for form in FORMS:
            ms = times[f"{form} {long}"].min - times[f"{form} {short}"].min
            record[form] = 1e3 * ms / (long - short) if ms > 0 else None  # other processes were in the short one
        yield record | {"operations": one.operations("gru_after")}
    yield {"threads": threads, "multiply_add_gflops": ceilings.arithmetic()}


def steps(one: Shape, threads: int) -> int:
    """Steps of the long sequence."""
    weights = one.recurrent_bytes("gru_after")
    step = max(weights / READING, one.operations("gru_after") / ARITHMETIC) / threads
    return min(LONGEST, max(3, int((LEAST_SECONDS + weights / PACKING) / step)))


def _keep_memory() -> None:
    """Freed memory stays with the process: fresh pages for packed weights take longer than the steps, unevenly so."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # of glibc
        for parameter, value in ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_MAX, 0)):
            library.mallopt(parameter, value)


def _floor(ceilings: Ceilings, batch: int, units: int) -> tuple[float, str]:
    """Microseconds of a step at best, the input product over all steps at once."""
    many = Shape(batch, 1000, units, units)
    ceilings.multiply_add = ceilings.multiply_add or ceilings.arithmetic()
    milliseconds, bound = ceilings.floor(many, "gru_after")
    return milliseconds, bound  # of 1000 steps, so microseconds of one


def rate(record: Mapping[str, Any], form: str) -> float:
    """GFLOP/s of a step; not a number where it could not be measured."""
    return float(record["operations"] / record[form] / 1e3) if record[form] else float("nan")


def best(record: Mapping[str, Any]) -> float:
    """GFLOP/s of a step on the floor."""
    return float(record["operations"] / record["floor_us"] / 1e3)


def fall(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """The floor's rate at the second point ÷ at the first."""
    return best(second) / best(first)


def bends(records: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any], str, float]]:
    """Where more work at a time is done at a clearly lower rate, whatever the floor: from, to, form, ratio."""
    found = []
    for first, second in neighbours(records):
        for form in FORMS:
            ratio = rate(second, form) / rate(first, form)
            if ratio < BEND * min(1, fall(first, second)):
                found.append((first, second, form, ratio))
    return found


def neighbours(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Points that lie side by side in batch or in units."""
    for along, across in (("batch", "units"), ("units", "batch")):
        for line in sorted({(r["threads"], r[across]) for r in records}):
            row = sorted((r for r in records if (r["threads"], r[across]) == line), key=lambda r: r[along])
            yield from itertools.pairwise(row)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """A row of two panels for each thread setting: over the batch, over the units; full lines reset after."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    settings = sorted({r["threads"] for r in report["points"]})
    figure, panels = pyplot.subplots(len(settings), 2, figsize=(11, 4.2 * len(settings)), squeeze=False, sharey="row")
    for threads, row in zip(settings, panels, strict=True):
        records = [r for r in report["points"] if r["threads"] == threads]
        ceiling = report["multiply_add_gflops"][str(threads)]
        for panel, along, across, lines in (
            (row[0], "batch", "units", UNITS),
            (row[1], "units", "batch", FINE_BATCHES),
        ):
            _panel(panel, records, along, across, lines)
            panel.axhline(ceiling, color="black", linewidth=0.8, linestyle=":")
            panel.set_title(f"{threads} thread{'s' if threads > 1 else ''}", fontsize=9)
        row[0].set_ylabel("GFLOP/s of a step")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _panel(panel: Any, records: Sequence[Mapping[str, Any]], along: str, across: str, lines: Sequence[int]) -> None:
    for k, line in enumerate(lines):
        row = sorted((r for r in records if r[across] == line), key=lambda r: r[along])
        for form, style, label in (("gru_after", "-", f"{across} {line}"), ("gru_before", "--", None)):
            rates = [rate(r, form) for r in row]
            panel.plot([r[along] for r in row], rates, style, color=f"C{k}", marker=".", markersize=4, label=label)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlabel(f"{along} (full: reset after, dashed: before; dotted: multiply-adds in registers)", fontsize=8)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)


def main(arguments: Sequence[str] | None = None, start: Start = spawn) -> int:
    """Measure, write, draw. 0, or 1 when a process died."""
    parser = argparse.ArgumentParser(prog="python -m benches.scaling", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="figures; the picture is written beside them")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.1, help="of timing for each point")
    parser.add_argument("--quick", action="store_true", help="every fourth point")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw the figures of the file")
    given = parser.parse_args(arguments)
    given.json = own_file(given.json, "scaling")
    if problem := unwritable("--json", given.json):
        print(problem, file=sys.stderr)
        return 2
    if given.draw:
        draw(json.loads(given.json.read_text()), given.json.with_suffix(".png"))
        return 0
    places = points()[:: 4 if given.quick else 1]
    found: list[Record] = []
    ceilings, failed = {}, 0
    for threads in given.threads:
        for record in start("benches.scaling", json.dumps([threads, given.seconds, places]), threads):
            if record.get("kind") == "end":
                failed |= record["status"] != 0
            elif "units" in record:
                found.append(record)
                rates = "".join(f"{rate(record, form):8.1f}" for form in FORMS)
                print(f"{threads} threads  B {record['batch']:4}  H {record['units']:5}  GFLOP/s {rates}", flush=True)
            else:
                ceilings[str(threads)] = record["multiply_add_gflops"]
    if not failed:
        report = {"machine": features(), "multiply_add_gflops": ceilings, "points": found}
        write_json(given.json, report)
        draw(report, given.json.with_suffix(".png"))
    return failed


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("["):
        _keep_memory()
        for line in job_records(sys.argv[1]):
            print(json.dumps(line), flush=True)
    else:
        sys.exit(main())
