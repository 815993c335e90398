"""The page of figures, made from the JSON files in a folder: ``python -m benches.report docs``.

The folder holds ``performance.json`` and, where measured, ``cells.json``, ``tiles.json`` and ``scaling.json``; what
nobody can compute, the reasons, is written by hand in ``performance-notes.md`` and ``scaling-notes.md``. The page is
``performance.md``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benches import derive, relatives, report_goals, report_studies
from benches.columns import COLUMNS, LOOP
from benches.files import write
from benches.goals import fastest_peer
from benches.peers import PEERS
from benches.shapes import CALL, Shape
from benches.tables import LOST, bold, milliseconds, size, table, threads

Record = Mapping[str, Any]
LSTMS = ("torch_lstm", "lstm")
GRUS = tuple(c.name for c in (*COLUMNS, LOOP, *PEERS) if c.name not in LSTMS)
SMALLEST = 2**15
"""Fewer bytes are in every core's first cache; each power of two above gets one line."""


def page(folder: Path) -> str:
    """The whole page in Markdown. It holds no number that is not in the files or follows from them."""
    report = _read(folder / "performance.json")
    if report is None:
        raise SystemExit(
            f"{folder / 'performance.json'} must hold the figures of python -m benches.layers, but is absent"
        )
    runs = report["runs"]
    sections = [_opening(report), _machine(report), _ceilings(runs), report_goals.goals(runs)]
    sections += [_notes(folder / "performance-notes.md"), report_goals.before(runs)]
    sections += [_times(run) for run in runs] + [_shares(run) for run in runs]
    sections += [_calls(runs), relatives.lstm(runs, report["memory"]), relatives.memory(report["memory"])]
    sections.append(report_studies.cells(_read(folder / "cells.json")))
    sections.append(report_studies.tiles(_read(folder / "tiles.json")))
    sections.append(report_studies.rates(_read(folder / "scaling.json"), _notes(folder / "scaling-notes.md")))
    return "\n\n".join(section for section in sections if section) + "\n"


def _read(path: Path) -> Record | None:
    found: Record | None = json.loads(path.read_text()) if path.exists() else None
    return found


def _notes(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _opening(report: Record) -> str:
    quick = (
        "\n\n**These figures are from `--quick`, few rounds on a machine with other work: for orientation only.**"
        if report["quick"]
        else ""
    )
    return f"""# Performance

How fast the layers are beside `torch.nn` and what else runs a GRU, on this page's machine and on yours:

```
make bench                                             # prints the tables
python -m benches.layers --json docs/performance.json  # the layers and their peers (pip install gatewise[bench])
python -m benches.cells --json docs/cells.json         # cells of one's own
python -m benches.tiles --json docs/tiles.json         # the tiles chosen beside all others
python -m benches.scaling --json docs/scaling.json     # batch 1 to 512, 16 to 2048 units, and the picture
python -m benches.report docs                          # this page
```

`--quick` takes less than a minute; `--threads 1`, `--shapes 8,200,128,256 train:64,24,1,64 step:1,1,64,96`,
`--train-only`, `--inference-only`, `--no-peers` and `--no-memory` narrow it, `--add` keeps the rows of the file that
are not measured anew. Every output and gradient is first compared with the same equations in float64; a layer with
wrong numbers gets no time, and the command fails. Layers take turns in one process, each thread setting in a process
of its own; the first calls are not counted, and each turn waits until the threads of the one before have come to rest.
Samples in which another process took a core are left out where enough others remain. float32, whole layer with its
input product; "train" is forward and backward with gradients of the input and of every weight; "step" is one step of a
stream: `layer.stream()`, and for torch a call with one step. `GRU` resets before the product (Cho et al. 2014),
`GRU(reset_after)` is torch's formula; both are compared with `torch.nn.GRU`.

{_peers(report.get("peers"))}

Made by `{report["command"]}` on {report["machine"]["date"]}.{quick}"""


def _peers(found: Record | None) -> str:
    if not found or not found["measured"]:
        return "Peers were not measured."
    names = ", ".join(f"{name} {version}" for name, version in found["installed"].items()) or "none"
    absent = f" Not installed, so not measured: {', '.join(found['missing'])}." if found["missing"] else ""
    return f"""Peers: {names}.{absent} ONNX Runtime runs one GRU node with its input and outputs bound to memory that
lies ready; OpenVINO one GRUSequence held to float32; JAX a compiled `lax.scan` (training: `jax.vjp` within). Each uses
as many threads as the rest and gets the input in its own layout. Peers hold their weights and may pack them once; a
layer of Gatewise packs on every call, its stream packs once. "after" and "before" say where the reset gate acts."""


def _machine(report: Record) -> str:
    found = report["machine"]
    caches = ", ".join(f"{level} {size}" for level, size in found["caches"].items())
    return f"""## The machine

{found["processor"]}, {found["cores"]} cores, {caches}; {found["system"]}. Tier {found["tier"]}.
torch {found["torch"]} ({found["torch_capability"]}), LLVM {found["llvm"]}, Python {found["python"]}.
Load before and after (1 would be this benchmark on one thread alone): {found["load"]}, {found.get("load_after")}."""


def _ceilings(runs: Sequence[Record]) -> str:
    rows = []
    for run in runs:
        found = run["ceilings"]
        onednn = found["onednn_gflops"]
        products = [f"{found['mm_gflops']:.0f}", "–" if onednn is None else f"{onednn:.0f}"]
        rows.append([str(run["threads"]), f"{found['multiply_add_gflops']:.0f}", *products])
    head = ["threads", "multiply-add, GFLOP/s", "`torch.mm`", "oneDNN"]
    return f"""## What the machine can do

Measured in the same run: fused multiply-adds in registers, compiled as the layers are; a product of 1024 × 1024
matrices; reading so many bytes again and again, each thread its own share.

{table(head, rows)}

{_reading(runs)}

The *floor* of a shape is the larger of its floating-point operations (6·B·T·H·(I+H) for a GRU, 8 for an LSTM, three
times that in training) at the rate of the multiply-adds, and of its weights (those of the state at every step, those
of the input once, all of it twice in training) at the rate of reading their size. Point-wise functions, outputs,
calls and barriers are not in it."""


def _reading(runs: Sequence[Record]) -> str:
    rates = [{int(b): r for b, r in run["ceilings"]["read_gigabytes_per_second"].items()} for run in runs]
    by_power = {s.bit_length(): s for s in sorted({b for found in rates for b in found}) if s >= SMALLEST}
    rows = [[size(b), *(f"{found[b]:.0f}" if b in found else "–" for found in rates)] for b in by_power.values()]
    return table(["reading, GB/s", *(threads(run["threads"]) for run in runs)], rows)


def _shapes(run: Record) -> list[tuple[str, Mapping[str, Record]]]:
    return [(s["shape"], s["columns"]) for s in run["shapes"] if Shape.read(s["shape"]).kind != CALL]


def _measured(run: Record, names: Sequence[str]) -> list[str]:
    return [name for name in names if any(name in columns for _, columns in _shapes(run))]


def _times(run: Record) -> str:
    names = [*_measured(run, GRUS), *_measured(run, LSTMS)]
    rows = []
    for shape, columns in _shapes(run):
        timed = [columns[name]["ms"]["median"] for name in GRUS if "ms" in columns.get(name, {})]
        rows.append([shape, *(_time(columns.get(name), name in GRUS and timed) for name in names)])
    text = f"## {threads(run['threads']).capitalize()}\n\nMilliseconds; the fastest GRU in bold.\n\n"
    text += table(["B,T,I,H", *(derive.BY_NAME[name].title for name in names)], rows)
    text += LOST if any(_lost(c) for _, columns in _shapes(run) for c in columns.values()) else ""
    return text + (f"\n\nLeft out, as time was up: {', '.join(run['left_out'])}." if run["left_out"] else "")


def _time(column: Record | None, rivals: Any) -> str:
    if column is None:
        return "–"
    if "ms" not in column:
        return "wrong"
    ms = column["ms"]["median"]
    return bold(milliseconds(ms), bool(rivals) and ms <= min(rivals)) + ("†" if _lost(column) else "")


def _lost(column: Record) -> bool:
    """Whether no sample was free of other processes, so that the time is theirs as well."""
    return bool("ms" in column and column["ms"]["disturbed"] == 1)


def _shares(run: Record) -> str:
    names = _measured(run, [column.name for column in COLUMNS])
    rows = []
    for shape, columns in _shapes(run):
        peer = fastest_peer(columns, derive.PEER_NAMES)
        bound = next((c["bound"] for c in columns.values() if "bound" in c), "–")
        best = f"{derive.BY_NAME[peer].title}: {_share(columns[peer])}" if peer else "–"
        rows.append([shape, *(_share(columns.get(name, {})) for name in names), best, bound])
    head = ["B,T,I,H", *(derive.BY_NAME[name].title for name in names), "best peer", "floor set by"]
    return f"""### Shares of the floor, {threads(run["threads"])}

GFLOP/s, share of the floor (100 % is the best that can be), and the distance between the quartiles as a share of the
median.

{table(head, rows)}"""


def _share(column: Record) -> str:
    if "share" not in column:
        return "wrong" if "wrong" in column else "–"
    gflops, share = column["gflops"], column["share"]
    return f"{gflops:.{int(gflops < 10)}f}, {share:.{int(share < 0.1)}%}, {column['spread']:.0%}"


def _calls(runs: Sequence[Record]) -> str:
    found = [(run["threads"], s["columns"]) for run in runs for s in run["shapes"] if s["shape"].startswith(CALL)]
    if not found:
        return ""
    names = list(found[0][1])
    rows = [[str(count), *(_microseconds(columns.get(name, {})) for name in names)] for count, columns in found]
    return f"""## A call

Microseconds of a call that computes almost nothing (all sizes 1): checks, dispatch and packing from Python.

{table(["threads", *(derive.BY_NAME[name].title for name in names)], rows)}"""


def _microseconds(column: Record) -> str:
    return f"{1e3 * column['ms']['median']:.1f}" if "ms" in column else "wrong"


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python -m benches.report FOLDER, which holds performance.json")
    folder = Path(sys.argv[1])
    write(folder / "performance.md", page(folder))


if __name__ == "__main__":
    main()
