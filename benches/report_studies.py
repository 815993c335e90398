"""The sections on cells that nobody tuned for, on tiles, and on rates over batch and hidden size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benches import cells as own
from benches import scaling
from benches import tiles as search
from benches.tables import bold, table

Record = Mapping[str, Any]
MOST = 20


def cells(found: Record | None) -> str:
    """Time over arithmetic floor, beside that of gru."""
    if not found:
        return ""
    names = [cell.name for cell in own.CELLS]
    rows = [[r["shape"], str(r["threads"]), *(_cell(r["columns"], name) for name in names)] for r in found["cells"]]
    judged = [own.relative(r["columns"], name) for r in found["cells"] for name in names[1:]]
    met = sum(ratio <= own.GOAL for ratio in judged)
    meanings = "\n".join(f"- `{cell.name}`: {cell.source}" for cell in own.CELLS[1:])
    return f"""## Cells of one's own

Five cells that are not built in (`benches/cells.py`), through the compiler as any other. Time in multiples of the
arithmetic floor (two operations for each weight, row and step; thrice in training), and in brackets divided by that of
`gru`; bold where that is at most {own.GOAL}: {met} of {len(judged)}. Measured {where(found)}.

{meanings}

{table(["B,T,I,H", "threads", *names], rows)}"""


def where(found: Record) -> str:
    """The processor and the day of a study, which may be others than the page's."""
    return f"on {found['machine']['llvm_host']}, {found['machine']['date'][:10]}"


def _cell(columns: Mapping[str, Record], name: str) -> str:
    over = columns[name]["ms"]["median"] / columns[name]["floor_ms"]
    ratio = own.relative(columns, name)
    return f"{over:.2f}" if name == "gru" else f"{over:.2f} ({bold(f'{ratio:.2f}', ratio <= own.GOAL)})"


def tiles(found: Record | None) -> str:
    """The tiles that the cost model chooses, beside the best of all."""
    if not found:
        return ""
    records = found["records"]
    return f"""## Tiles

Which part of the batch and of the units a kernel keeps in registers is chosen by a cost model of a few lines
(`backends/cpu/tile.py`). Here each phase of the recurrence runs on every tile that fits, the others as chosen
(`python -m benches.tiles --json docs/performance`); tiles are rows × vectors of 16 units, times those of whole calls.
{search.summary(records)} Measured {where(found)}.

{table(list(search.HEAD), search.rows(records))}"""


def rates(found: Record | None, notes: str) -> str:
    """The chart, where it bends downwards, and the reasons that somebody wrote down."""
    if not found:
        return ""
    bends = sorted(scaling.bends(found["points"]), key=lambda bend: bend[3] / scaling.fall(*bend[:2]))
    head = ["from → to", "threads", "reset", "GFLOP/s", "ratio", "ratio of the floors"]
    rows = [
        [_place(first, second), str(first["threads"]), form.removeprefix("gru_"), *_fall(first, second, form, ratio)]
        for first, second, form, ratio in bends[:MOST]
    ]
    below = f"less than {scaling.BEND:.0%} of the rate of its neighbour beyond what the floor explains"
    count = f"The {MOST} worst of {len(bends)} points" if len(bends) > MOST else "Points"
    said = f"{count} at {below}:\n\n{table(head, rows)}" if rows else f"No point is at {below}."
    return f"""## Batch and hidden size

Rate of a step, the input as wide as the state (`python -m benches.scaling --json docs/performance`), {where(found)}.

![GFLOP/s over batch and over hidden size](performance/{found["machine"]["llvm_host"]}-scaling.png)

{said}

{notes}""".rstrip()


def _place(first: Record, second: Record) -> str:
    return f"B {first['batch']}, H {first['units']} → B {second['batch']}, H {second['units']}"


def _fall(first: Record, second: Record, form: str, ratio: float) -> Sequence[str]:
    rate = " → ".join(f"{scaling.rate(r, form):.0f}" for r in (first, second))
    return [rate, f"{ratio:.2f}", f"{scaling.fall(first, second):.2f}"]
