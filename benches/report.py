"""The page of figures, made from the JSON files in a folder: ``python -m benches.report docs``.

The folder holds ``performance/`` with a file for each processor, such as ``znver4.json``, and, where measured,
``znver4-cells.json``, ``-tiles`` and ``-scaling``; what nobody can compute, the reasons, is written by hand in
``notes.md`` and ``scaling-notes.md`` there. The page is ``performance.md``: in full of the processor that was measured
last, beside the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benches import derive, relatives, report_calls, report_goals, report_processors, report_studies
from benches.columns import COLUMNS, LOOP
from benches.files import write
from benches.goals import fastest_peer
from benches.peers import PEERS
from benches.shapes import CALL_SHAPE, SHORT, Shape
from benches.tables import LOST, bold, milliseconds, size, table, threads

Record = Mapping[str, Any]
FIGURES = "performance"
STUDIES = ("cells", "tiles", "scaling")
LSTMS = ("torch_lstm", "lstm")
GRUS = tuple(c.name for c in (*COLUMNS, LOOP, *PEERS) if c.name not in LSTMS)
SMALLEST = 2**15
"""Fewer bytes are in every core's first cache; each power of two above gets one line."""


def page(folder: Path) -> str:
    """The whole page in Markdown. It holds no number that is not in the files or follows from them."""
    reports, figures = processors(folder), folder / FIGURES
    name, report = next(iter(reports.items()))
    runs = report["runs"]
    sections = [_opening(report), _machine(report), _ceilings(runs), report_goals.goals(runs)]
    sections += [_notes(figures / "notes.md"), report_processors.processors(reports), report_goals.before(runs)]
    sections += [_times(run) for run in runs] + [_shares(run) for run in runs]
    sections += [_calls(runs), report_calls.calls(runs)]
    sections += [relatives.lstm(runs, report["memory"]), relatives.memory(report["memory"])]
    cells, tiles, scaling = (_study(figures, name, what) for what in STUDIES)
    sections += [report_studies.cells(cells), report_studies.tiles(tiles)]
    sections.append(report_studies.rates(scaling, _notes(figures / "scaling-notes.md")))
    return "\n\n".join(section for section in sections if section) + "\n"


def processors(folder: Path) -> dict[str, Record]:
    """The figures of layers by processor, the last measured first.

    Raises:
        SystemExit: when there are none.
    """
    studies = tuple(f"-{what}" for what in STUDIES)  # names of processors may have dashes too
    files = (path for path in (folder / FIGURES).glob("*.json") if not path.stem.endswith(studies))
    found = {path.stem: json.loads(path.read_text()) for path in files}
    found = {name: record for name, record in found.items() if "machine" in record}  # a GPU's have a card
    if not found:
        raise SystemExit(
            f"{folder / FIGURES} must hold figures of python -m benches.layers --json {folder / FIGURES}, found none"
        )
    return dict(sorted(found.items(), key=lambda item: str(item[1]["machine"]["date"]), reverse=True))


def _study(folder: Path, name: str, what: str) -> Record | None:
    """Figures of a study on the page's processor, else those of the processor that was measured last."""
    found: list[Record] = [json.loads(path.read_text()) for path in folder.glob(f"*-{what}.json")]
    newest = sorted(found, key=lambda study: str(study["machine"]["date"]))
    return next((study for study in newest if study["machine"]["llvm_host"] == name), newest[-1] if newest else None)


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
python -m benches.layers --json docs/performance       # the layers and their peers (pip install gatewise[bench])
python -m benches.layers --calls --add --json docs/performance                         # calls of a few steps
python -m benches.cells --json docs/performance        # cells of one's own
python -m benches.tiles --json docs/performance        # the tiles chosen beside all others
python -m benches.scaling --json docs/performance      # batch 1 to 512, 16 to 2048 units, and the picture
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
    return [(s["shape"], s["columns"]) for s in run["shapes"] if Shape.read(s["shape"]).kind not in SHORT]


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
    empty = str(CALL_SHAPE)
    found = [(run["threads"], s["columns"]) for run in runs for s in run["shapes"] if s["shape"] == empty]
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
        sys.exit("usage: python -m benches.report FOLDER, which holds performance/ with a file for each processor")
    folder = Path(sys.argv[1])
    report_calls.draw(next(iter(processors(folder).values()))["runs"][0], folder / "calls.png")
    write(folder / "performance.md", page(folder))


if __name__ == "__main__":
    main()
