"""The page of figures, made from the JSON: ``python -m benches.report performance.json > performance.md``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benches import derive
from benches.print import milliseconds
from benches.shapes import CALL, Shape

Record = Mapping[str, Any]
RIVALS = {"gru_after": "torch_gru", "gru_before": "torch_gru", "lstm": "torch_lstm"}


def page(report: Record) -> str:
    """The whole page in Markdown. It holds no number that is not in the report or follows from it."""
    sections = [_opening(report), _machine(report), _ceilings(report["runs"])]
    for run in report["runs"]:
        sections += [_times(run), _shares(run)]
    sections += [_calls(report["runs"]), _memory(report["memory"]), _missed(report["runs"]), _bounds(report["runs"])]
    return "\n\n".join(section for section in sections if section) + "\n"


def _opening(report: Record) -> str:
    quick = (
        "\n\n**These figures are from `--quick`, few rounds on a machine with other work: for orientation only.**"
        if report["quick"]
        else ""
    )
    return f"""# Performance

How fast the layers are beside `torch.nn`, on this page's machine and on yours:

```
make bench                                             # prints the tables
python -m benches.layers --json docs/performance.json  # writes all figures: least, quartiles, median, largest
python -m benches.report docs/performance.json > docs/performance.md
```

`--quick` takes less than a minute; `--threads 1`, `--shapes 8,200,128,256 train:64,24,1,64`, `--train-only` and
`--inference-only` narrow it. Every output and gradient is first compared with the same equations in float64; a layer
with wrong numbers gets no time, and the command fails. Layers take turns in one process, each thread setting in a
process of its own; the first calls are not counted. Samples in which another process took a core are left out where
enough others remain. float32, whole layer with its input product; "train" is forward and backward with gradients of
the input and of every weight. `GRU` resets before the product (Cho et al. 2014), `GRU(reset_after)` is torch's
formula; both are compared with `torch.nn.GRU`.

Made by `{report["command"]}` on {report["machine"]["date"]}.{quick}"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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

{_table(head, rows)}

{_reading(runs)}

The *floor* of a shape is the larger of its floating-point operations (6·B·T·H·(I+H) for a GRU, 8 for an LSTM, three
times that in training) at the rate of the multiply-adds, and of its weights (those of the state at every step, those
of the input once, all of it twice in training) at the rate of reading their size. Point-wise functions, outputs,
calls and barriers are not in it."""


def _reading(runs: Sequence[Record]) -> str:
    rates = [run["ceilings"]["read_gigabytes_per_second"] for run in runs]
    sizes = sorted({int(size) for found in rates for size in found})
    rows = [[_bytes(size), *(f"{f[str(size)]:.0f}" if str(size) in f else "–" for f in rates)] for size in sizes]
    return _table(["reading, GB/s", *(_plural(run["threads"]) for run in runs)], rows)


def _bytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 2**10:.0f} KB"


def _plural(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _times(run: Record) -> str:
    rows = []
    for record in run["shapes"]:
        shape, columns = Shape.read(record["shape"]), record["columns"]
        if shape.kind != CALL:
            cells = [_time(columns.get(name, {}), shape) for name in _order(columns)]
            rows.append([str(shape), *cells])
    names = _order(run["shapes"][0]["columns"]) if run["shapes"] else []
    head = ["B,T,I,H", *(derive.BY_NAME[name].title for name in names)]
    text = f"## {_plural(run['threads']).capitalize()}\n\n"
    text += "Milliseconds, and how many times faster than torch; bold where the goal is met.\n\n" + _table(head, rows)
    if any("ms" in c and _lost(c) for record in run["shapes"] for c in record["columns"].values()):
        text += (
            "\n\n† In every sample other processes took a core: too long by an unknown part, and held against no goal."
        )
    return text + (f"\n\nLeft out, as time was up: {', '.join(run['left_out'])}." if run["left_out"] else "")


def _order(columns: Mapping[str, Any]) -> list[str]:
    return [name for name in derive.BY_NAME if name in columns]


def _time(column: Record, shape: Shape) -> str:
    if "ms" not in column:
        return "wrong"
    text = milliseconds(column["ms"]["median"]) + ("†" if _lost(column) else "")
    if "ratio" not in column:
        return text
    ratio = f"{column['ratio']:.2f} ×"
    return f"{text} ({'**' + ratio + '**' if column['ratio'] >= shape.goal and not column['disturbed'] else ratio})"


def _lost(column: Record) -> bool:
    """Whether no sample was free of other processes, so that the time is theirs as well."""
    return bool(column["ms"]["disturbed"] == 1)


def _shares(run: Record) -> str:
    rows = []
    for record in run["shapes"]:
        shape, columns = Shape.read(record["shape"]), record["columns"]
        if shape.kind != CALL:
            bound = next((c["bound"] for c in columns.values() if "bound" in c), "–")
            rows.append([str(shape), *(_share(columns[name]) for name in _order(columns)), bound])
    names = _order(run["shapes"][0]["columns"]) if run["shapes"] else []
    head = ["B,T,I,H", *(derive.BY_NAME[name].title for name in names), "floor set by"]
    text = "GFLOP/s, share of the floor (100 % is the best that can be), and the distance between the quartiles as\n"
    return text + "a share of the median.\n\n" + _table(head, rows)


def _share(column: Record) -> str:
    if "share" not in column:
        return "wrong"
    gflops, share = column["gflops"], column["share"]
    return f"{gflops:.{int(gflops < 10)}f}, {share:.{int(share < 0.1)}%}, {column['spread']:.0%}"


def _calls(runs: Sequence[Record]) -> str:
    found = [(run["threads"], s) for run in runs for s in run["shapes"] if Shape.read(s["shape"]).kind == CALL]
    if not found:
        return ""
    names = _order(found[0][1]["columns"])
    rows = [
        [
            str(threads),
            *(f"{1e3 * s['columns'][n]['ms']['median']:.1f}" if "ms" in s["columns"][n] else "wrong" for n in names),
        ]
        for threads, s in found
    ]
    head = ["threads", *(derive.BY_NAME[name].title for name in names)]
    return f"""## A call

Microseconds of a call that computes almost nothing (all sizes 1): checks, dispatch and packing from Python.

{_table(head, rows)}"""


def _memory(found: Sequence[Record]) -> str:
    measured = [record for record in found if "step_mb" in record]
    if not measured:
        return ""
    rows = [[derive.BY_NAME[r["column"]].title, f"{r['step_mb']:.0f}", f"{r['process_mb']:.0f}"] for r in measured]
    return f"""## Memory

Peak of one training step of shape {measured[0]["shape"].removeprefix("train ")}, in a fresh process, in MB.

{_table(["layer", "added by the step", "whole process"], rows)}"""


def _missed(runs: Sequence[Record]) -> str:
    rows = []
    total = sum(derive.compared(run["shapes"]) for run in runs)
    disturbed = sum(derive.disturbed(run["shapes"]) for run in runs)
    unjudged = f"; {disturbed} more are not judged, as other processes took part in their times" if disturbed else ""
    for run in runs:
        for miss in derive.missed(run["shapes"]):
            lacking = f"{1 - miss['ratio'] / miss['goal']:.0%}"
            reach = f"{miss['ratio_at_floor']:.2f} ×"
            title = derive.BY_NAME[miss["column"]].title
            ratios = [f"{miss['ratio']:.2f} ×", f"{miss['goal']:.1f} ×", lacking, f"{miss['share']:.0%}", reach]
            rows.append([miss["shape"], str(run["threads"]), title, *ratios])
    text = f"""## Goals

Twice torch's speed for batches of 8 and more and for 1,100,128,256; 1.5 times for other inference and in training.
Met: {total - len(rows)} of {total}{unjudged}."""
    if not rows:
        return text
    head = ["B,T,I,H", "threads", "layer", "reached", "goal", "lacking", "of the floor", "on the floor"]
    above = sum(m["ratio_at_floor"] < m["goal"] for run in runs for m in derive.missed(run["shapes"]))
    return f"""{text} The others, with the ratio that a layer on its floor would have; for {above} of them that is less
than the goal, so that no program in float32 reaches it on this machine.

{_table(head, rows)}"""


def _bounds(runs: Sequence[Record]) -> str:
    lines = ["## What is bound by what", ""]
    for run in runs:
        rates = sorted((int(size), rate) for size, rate in run["ceilings"]["read_gigabytes_per_second"].items())
        if not rates:
            continue
        (small, fast), (large, slow) = rates[0], rates[-1]
        threads = _plural(run["threads"])
        lines.append(
            f"- {threads}: {_bytes(small)} of weights are read at {fast:.0f} GB/s, {_bytes(large)} at {slow:.0f}."
        )
        lines += [f"- {threads}: {sentence}" for sentence in _rival_shares(run)]
    lines.append(_REASONS)
    return "\n".join(lines)


def _rival_shares(run: Record) -> list[str]:
    """How near torch itself comes to the arithmetic floor: the less is left, the less can be gained."""
    found = []
    for name in ("torch_gru", "torch_lstm"):
        shares = [
            (s["columns"][name]["share"], s["shape"])
            for s in run["shapes"]
            if s["columns"].get(name, {}).get("bound") == "arithmetic"
        ]
        if shares:
            (low, worst), (high, best) = min(shares), max(shares)
            title = derive.BY_NAME[name].title
            found.append(
                f"where arithmetic sets the floor, {title} stands at {low:.0%} ({worst}) to {high:.0%} ({best}) of it."
            )
    return found


_REASONS = """
A single step of a small layer is bound by the call from Python, see "A call": its arithmetic takes about a
microsecond. A sequence at batch 1 is bound by reading the weights of the state at every step: fast while each core's
share stays in its second-level cache, several times slower beyond, whatever the program. Batches are bound by
arithmetic. torch runs a matrix product and about nine point-wise passes a step; what can be gained on it is the
passes, the calls between them, and how far its product stays below the multiply-adds. So the nearer torch's own share
of the floor is to 100 %, the less any program can gain: the last column of "Goals" says where that rules a goal out.
Training adds the products of the weight gradients, which run over all steps at once, where a library's product is at
its best."""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benches.report FILE.json > PAGE.md")
    sys.stdout.write(page(json.loads(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
