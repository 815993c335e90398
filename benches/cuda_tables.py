"""The figures in docs/gpu.md, from docs/performance/: ``python -m benches.cuda_tables`` writes them there.

Each table stands between two comments with its name. Times are µs a step, forward / forward and backward.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches.cuda import SHAPES
from benches.cuda_rows import DTYPES
from benches.tables import placed, table

DOCS = Path(__file__).parent.parent / "docs"
PAGE, FIGURES = DOCS / "gpu.md", DOCS / "performance" / "nvidia-h200.json"
ABSENT = "—"
CALLED, REPLAYED = ("forward", "both"), ("forward replayed", "both replayed")
Rows = dict[tuple[str, str, tuple[int, ...]], dict[str, Any]]


def rows_of(kept: dict[str, Any]) -> Rows:
    """By formula, dtype and shape."""
    return {(row["formula"], row["dtype"], tuple(row["shape"])): row for row in kept["rows"]}


def pair(row: dict[str, Any] | None, whose: str, how: Sequence[str]) -> str:
    if row is None or whose not in row:
        return ABSENT
    return " / ".join(f"{row[whose][each]:.3g}" for each in how)


def times(ours: dict[str, Any] | None, theirs: dict[str, Any] | None, how: Sequence[str]) -> str:
    """How many times as fast as torch's layer."""
    if ours is None or theirs is None or "ours" not in ours or "torch" not in theirs:
        return ABSENT
    return " / ".join(f"{theirs['torch'][each] / ours['ours'][each]:.1f}" for each in how)


def beside_torch(kept: dict[str, Any], dtype: str, how: Sequence[str]) -> str:
    """Every shape of a dtype: torch's layers and ours."""
    found, lines = rows_of(kept), []
    for shape in SHAPES:
        after, before, lstm, mgu = (found.get((f, dtype, shape)) for f in ("gru_after", "gru_before", "lstm", "mgu"))
        if after is None:
            continue
        cells = [pair(after, "torch", how), pair(after, "ours", how), times(after, after, how)]
        cells += [pair(before, "ours", how), pair(lstm, "torch", how), pair(lstm, "ours", how), times(lstm, lstm, how)]
        lines.append((",".join(map(str, shape)), *cells, pair(mgu, "ours", how)))
    head = ("B,T,I,H", "nn.GRU", "reset after", "times", "reset before", "nn.LSTM", "LSTM", "times", "MGU")
    return table(head, lines)


def others(kept: dict[str, Any]) -> str:
    """The loop of torch's operations, and the memory of a training step, in bfloat16."""
    found, lines = rows_of(kept), []
    for shape in SHAPES:
        row = found.get(("gru_after", "bf16", shape))
        if row is not None:
            mega = [f"{row[name]:.0f}" for name in ("memory_mb", "torch_memory_mb")]
            lines.append((",".join(map(str, shape)), pair(row, "loop", CALLED), *mega))
    return table(("B,T,I,H", "the loop, µs a step", "MB of ours", "MB of nn.GRU"), lines)


def page(text: str, kept: dict[str, Any]) -> str:
    """The page with the tables of now."""
    made = {f"{d} replayed": beside_torch(kept, d, REPLAYED) for d in DTYPES}
    made |= {"bf16 called": beside_torch(kept, "bf16", CALLED), "others": others(kept)}
    return placed(text, made)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), json.loads(FIGURES.read_text())))
