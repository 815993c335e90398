"""The section on calls of a few steps, and its picture: microseconds of a call over its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benches import derive
from benches.goals import by_shape
from benches.shapes import CALL, CELL, SHORT_BATCHES, SHORT_STEPS, SHORT_UNITS, TRAIN_CALL, TRAIN_CELL, Shape
from benches.tables import bold, table, threads

Record = Mapping[str, Any]
OWN = {"gru_after": "torch_gru", "gru_before": "torch_gru", "lstm": "torch_lstm"}
"""Columns, and what each is compared with."""
TITLES = {CALL: "T = {}", TRAIN_CALL: "T = {}, training", CELL: "cell", TRAIN_CELL: "cell, training"}
PLACES = [(kind, steps) for kind, times in SHORT_STEPS.items() for steps in times]
LINES = {"torch_gru": "C1", "gru_after": "C0", "onnx_runtime_after": "C2"}
"""Columns of the picture and their colours: all compute torch's formula."""
DRAWN_BATCHES, DRAWN_UNITS = (1, 8), (64, 256, 1024)


def calls(runs: Sequence[Record], picture: str = "calls.png") -> str:
    """Own time / torch's of every call of a few steps; empty where none was measured."""
    parts = [_run(run) for run in runs]
    if not any(parts):
        return ""
    return "\n\n".join(
        [
            f"""## Calls of a few steps

Microseconds of a call of a layer with T steps, and of `GRUCell` or `LSTMCell`: Gatewise / torch, in bold where
Gatewise is no slower (`python -m benches.layers --calls --add --json docs/performance`). The input is as wide as the
state; training is forward and backward with all gradients. A layer is given its weights anew at every call and keeps
nothing of them; ONNX Runtime, in the picture, packs them once.

![Microseconds of a call over its steps]({picture})""",
            *filter(None, parts),
        ]
    )


def _run(run: Record) -> str:
    found = by_shape(run)
    rows = []
    for column, rival in OWN.items():
        for batch in SHORT_BATCHES:
            for units in SHORT_UNITS:
                shapes = [str(Shape(batch, steps, units, units, kind)) for kind, steps in PLACES]
                if any(shape in found for shape in shapes):
                    cells = [_pair(found.get(shape, {}), column, rival) for shape in shapes]
                    rows.append([f"{derive.BY_NAME[column].title}, B {batch}, H {units}", *cells])
    if not rows:
        return ""
    head = [threads(run["threads"]), *(TITLES[kind].format(steps) for kind, steps in PLACES)]
    return f"{_worst(found)}\n\n{table(head, rows)}"


def _pair(columns: Record, column: str, rival: str) -> str:
    if not all("ms" in columns.get(name, {}) for name in (column, rival)):
        return "–"
    own, other = (1e3 * columns[name]["ms"]["median"] for name in (column, rival))
    return bold(f"{own:.0f} / {other:.0f}", own <= other)


def _worst(found: Mapping[str, Record]) -> str:
    """How many calls are no slower than torch's, and the slowest of the others."""
    ratios = {
        (shape, column): columns[column]["ms"]["median"] / columns[rival]["ms"]["median"]
        for shape, columns in found.items()
        if Shape.read(shape).kind in SHORT_STEPS and shape != "call 1,1,1,1"
        for column, rival in OWN.items()
        if all("ms" in columns.get(name, {}) for name in (column, rival))
    }
    met = sum(ratio <= 1 for ratio in ratios.values())
    (shape, column), ratio = max(ratios.items(), key=lambda item: item[1])
    text = f"No slower than torch: {met} of {len(ratios)}"
    title = derive.BY_NAME[column].title
    return f"{text}." if ratio <= 1 else f"{text}; the worst takes {ratio:.2f} times as long ({title}, {shape})."


def draw(run: Record, path: Path) -> None:
    """A panel for each batch and number of units; nothing where no such call was measured."""
    found = by_shape(run)
    places = [(batch, units) for batch in DRAWN_BATCHES for units in DRAWN_UNITS]
    if not any(str(Shape(b, 1, h, h, CALL)) in found for b, h in places):
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    size = (3.4 * len(DRAWN_UNITS), 2.9 * len(DRAWN_BATCHES))
    figure, panels = pyplot.subplots(len(DRAWN_BATCHES), len(DRAWN_UNITS), figsize=size, squeeze=False)
    for panel, (batch, units) in zip(panels.flat, places, strict=True):
        for column, colour in LINES.items():
            points = [
                (steps, 1e3 * columns[column]["ms"]["median"])
                for steps in SHORT_STEPS[CALL]
                for columns in (found.get(str(Shape(batch, steps, units, units, CALL)), {}),)
                if "ms" in columns.get(column, {})
            ]
            if points:
                panel.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=_label(column))
        panel.set_title(f"B {batch}, H {units}", fontsize=9)
        panel.set_xscale("log", base=2)
        panel.set_xticks(SHORT_STEPS[CALL], [str(steps) for steps in SHORT_STEPS[CALL]])
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    for panel in panels[-1]:
        panel.set_xlabel("steps of a call")
    for row in panels:
        row[0].set_ylabel("µs of a call")
    panels[0][0].legend(fontsize=8)
    figure.suptitle(f"GRU of torch's formula, {threads(run['threads'])}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _label(column: str) -> str:
    return {"gru_after": "Gatewise", "torch_gru": "torch.nn.GRU"}.get(column, "ONNX Runtime")
