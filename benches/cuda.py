"""Microseconds a step of the kernels for a GPU, beside torch's: ``python -m benches.cuda``.

Every row is first compared with float64, outputs and all gradients; what is wrong gets no time. Times are medians by
the card's own events, on random numbers, of whole calls: packing, input products and gradients of weights are part of
them. Figures go to ``docs/performance/`` under the card's name, after every row. Which row is measured first does not
matter; after the seconds of ``--seconds`` no further one begins, and ``--add`` goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import gatewise
from benches.cuda_rows import DTYPES, FORMULAS, Place, Row, card, measured
from benches.files import unwritable, write_json

SHAPES = (
    (32, 100, 128, 256),
    (64, 1024, 512, 512),
    (16, 1024, 768, 768),
    (256, 128, 128, 256),
    (1, 2048, 256, 256),
    (64, 512, 1024, 1024),
    (16, 512, 2048, 2048),
    (8192, 64, 64, 128),
)
"""Rows, steps, inputs, units."""
FOLDER = Path(__file__).parents[1] / "docs" / "performance"
TIMES = ("forward", "both", "forward replayed", "both replayed")
PEERS = ("ours", "torch", "loop", "loop_compiled")


def shape(text: str) -> tuple[int, int, int, int]:
    """``32,100,128,256`` as numbers."""
    try:
        rows, steps, inputs, units = (int(part) for part in text.split(","))
    except ValueError:
        rows = steps = inputs = units = 0
    if min(rows, steps, inputs, units) < 1:
        raise argparse.ArgumentTypeError(f"a shape must read B,T,I,H with sizes of at least 1, got {text!r}")
    return rows, steps, inputs, units


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benches.cuda", description=__doc__.partition("\n")[0])
    made.add_argument("--shapes", nargs="+", type=shape, default=list(SHAPES), metavar="B,T,I,H")
    made.add_argument("--formulas", nargs="+", choices=FORMULAS, default=list(FORMULAS))
    made.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16"])
    made.add_argument("--seconds", type=float, default=420.0, help="after these no further row begins")
    made.add_argument("--search", action="store_true", help="first time the layouts of each row, and keep the fastest")
    made.add_argument("--no-peers", action="store_true", help="ours alone")
    made.add_argument("--compile", action="store_true", help="torch.compile of the loop too")
    made.add_argument("--add", action="store_true", help="keep what the file holds, and measure what it lacks")
    made.add_argument("--json", type=Path, help="by default docs/performance/, under the card's name")
    return made


def file_name(name: str) -> str:
    """Of a card, such as ``nvidia-h200.json``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".json"


def rows(options: argparse.Namespace) -> list[Row]:
    """One dtype after the other, and in each one shape after the other."""
    return [Row(f, d, s) for d in options.dtypes for s in options.shapes for f in options.formulas]


def key(record: dict[str, Any]) -> str:
    return str(Row(record["formula"], record["dtype"], tuple(record["shape"])))


def known(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["rows"]) if path.is_file() else []


def line(record: dict[str, Any]) -> str:
    """As it is printed."""
    if "problem" in record:
        return f"{key(record)}: {record['problem']}"
    parts = [f"{k} {' / '.join(f'{record[k][t]:.2f}' for t in TIMES if t in record[k])}" for k in PEERS if k in record]
    return f"{key(record)} ({record['backend'].partition(':')[0]}): {'; '.join(parts)}; {record['memory_mb']:.0f} MB"


def run(todo: Sequence[Row], place: Place, options: argparse.Namespace, path: Path, about: dict[str, object]) -> int:
    """Measure, write and print row after row; 1 where one was wrong."""
    found = known(path) if options.add else []
    done, start, status = {key(record) for record in found}, time.perf_counter(), 0
    left = [row for row in todo if str(row) not in done]
    print(f"µs a step: {' / '.join(TIMES)}")
    while left and time.perf_counter() - start < options.seconds:
        row = left.pop(0)
        try:
            if options.search:
                _search(row, place)
            record = measured(row, place, peers=not options.no_peers, compiled=options.compile)
        except RuntimeError as error:
            record = {"formula": row.formula, "dtype": row.dtype, "shape": list(row.shape)}
            record |= {"problem": str(error).partition("\n")[0]}
        found.append(record | {"searched": options.search})
        status |= "problem" in record
        write_json(path, {**about, "rows": found})
        print(line(record), flush=True)
    if left:
        print(f"{len(left)} rows were not reached in {options.seconds:g} s; --add goes on with them", file=sys.stderr)
    return status


def _search(row: Row, place: Place) -> None:
    from gatewise.backends.cuda.calls import NUMBERS
    from gatewise.backends.cuda.search import search

    batch, steps, _, units = row.shape
    search(FORMULAS[row.formula][0], NUMBERS[row.dtype], units, batch, min(steps, 100), place.device.index)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not torch.cuda.is_available():
        print("python -m benches.cuda measures on a GPU of NVIDIA, and torch finds none here", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    name = torch.cuda.get_device_name(device)
    path = options.json or FOLDER / file_name(name)
    if options.json is None:
        FOLDER.mkdir(exist_ok=True)
    problem = unwritable("--json", path)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    about = {
        "card": name,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "gatewise": gatewise.__version__,
    }
    torch.backends.cuda.matmul.allow_tf32 = True  # of all columns alike, as torch's own RNNs do
    return run(rows(options), card(device), options, path, about)


if __name__ == "__main__":
    sys.exit(main())
