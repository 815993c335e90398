"""The tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benches import derive
from benches.floor import Ceilings
from benches.goals import FLOOR, PEER, TORCH, judge, of_kind
from benches.shapes import Shape
from benches.tables import milliseconds

Record = Mapping[str, Any]
TITLES = (
    f"{'shape B,T,I,H':24}{'layer':22}{'ms':>10}{'spread':>8}{'lost':>6}{'÷ torch':>9}{'GFLOP/s':>9}{'of floor':>10}"
)


def print_header(report: Record) -> None:
    """Machine and versions."""
    found = report["machine"]
    print(f"{found['processor']}, {found['cores']} cores, tier {found['tier']}, load {found['load']}, {found['date']}")
    print(f"torch {found['torch']} ({found['torch_capability']}), LLVM {found['llvm']}, {found['threading']}")


def print_titles(threads: int) -> None:
    """The head of a thread setting's table. ``lost``: the share of samples in which other processes took a core."""
    print(f"\nthreads {threads}\n{TITLES}", flush=True)


def print_ceilings(ceilings: Ceilings) -> None:
    """The rates that the floor is made of."""
    onednn = "none" if ceilings.onednn is None else f"{ceilings.onednn:.0f}"
    rates = f"multiply-add {ceilings.multiply_add:.0f}, torch.mm {ceilings.mm:.0f}, oneDNN {onednn} GFLOP/s"
    reading = [f"{_bytes(size)} {rate:.0f}" for size, rate in sorted(ceilings.gigabytes.items())]
    print(f"ceilings: {rates}; reading GB/s: {', '.join(reading)}", flush=True)


def _bytes(size: int) -> str:
    return f"{size / 2**20:.1f}M" if size >= 2**20 else f"{size / 2**10:.0f}K"


def print_shape(record: Record) -> None:
    """A line for every layer."""
    shape = Shape.read(record["shape"])
    for name, column in record["columns"].items():
        print(f"{shape!s:24}{_line(shape, derive.BY_NAME[name].title, column)}", flush=True)


def _line(shape: Shape, title: str, column: Record) -> str:
    if "wrong" in column:
        return f"WRONG {column['wrong']}"
    text = (
        f"{title:22}{milliseconds(column['ms']['median']):>10}{column['spread']:>8.0%}{column['ms']['disturbed']:>6.0%}"
    )
    text += f"{column['ratio']:>9.2f}" if "ratio" in column else " " * 9
    if "share" not in column:
        return text
    return f"{text}{column['gflops']:>9.1f}{column['share']:>10.1%} {column['bound']}"


def print_memory(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a call or a training step adds at its peak, as it comes; returns it."""
    records = []
    print("\npeak memory")
    for record in found:
        title = derive.BY_NAME[record["column"]].title if record["column"] else ""
        print(f"{record['shape']:24}{title:18}" + (record.get("problem") or f"{record['step_mb']:8.1f} MB"), flush=True)
        records.append(record)
    return records


def print_summary(runs: Sequence[Record]) -> None:
    """How many goals were met."""
    lines = judge(runs, derive.PEER_NAMES)
    for kind in (TORCH, PEER, FLOOR):
        figures = of_kind(lines, kind)
        if figures:
            print(f"{kind}: {sum(figure.met for figure in figures)} of {len(figures)} goals met")
