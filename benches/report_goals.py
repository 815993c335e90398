"""The sections of the page that hold figures against goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benches import derive
from benches.goals import FLOOR, FORMS, PEER, TORCH, Line, Reached, before_goal, by_shape, judge, of_kind
from benches.shapes import SHORT, Shape
from benches.tables import LOST, bold, table, threads

Record = Mapping[str, Any]
BEYOND = "\n\n‡ A layer on its floor would miss it too: no program in float32 reaches it on this machine."
KINDS = (TORCH, PEER, FLOOR)


def goals(runs: Sequence[Record]) -> str:
    """Reached and wanted, for both forms and both thread settings."""
    lines = judge(runs, derive.PEER_NAMES)
    if not lines:
        return ""
    counts = sorted({count for line in lines for count in line.figures})
    head = ["B,T,I,H", "reset", *(f"{kind}, {threads(count)}" for kind in KINDS for count in counts)]
    rows = [[line.shape, FORMS[line.form], *_cells(line, counts)] for line in lines]
    text = f"""## Goals

Time of `torch.nn.GRU` ÷ time of Gatewise; time of the fastest peer of either form ÷ time of Gatewise; time of Gatewise
in multiples of the floor: reached / wanted. Bold where it is met, else by how much of the goal it is missed.
{_sums(lines)}

{table(head, rows)}"""
    figures = [f for line in lines for kinds in line.figures.values() for f in kinds.values()]
    text += BEYOND if any(f.beyond and not f.met for f in figures) else ""
    return text + (LOST if any(f.disturbed for f in figures) else "")


def _sums(lines: Sequence[Line]) -> str:
    parts = []
    for kind in KINDS:
        figures = of_kind(lines, kind)
        if figures:
            parts.append(f"{kind} {sum(f.met for f in figures)} of {len(figures)}")
    return f"Met: {', '.join(parts)}."


def _cells(line: Line, counts: Sequence[int]) -> list[str]:
    return [_reached(line.figures.get(count, {}).get(kind)) for kind in KINDS for count in counts]


def _reached(figure: Reached | None) -> str:
    if figure is None:
        return "–"
    text = bold(f"{figure.value:.2f}", figure.met and not figure.disturbed) + f" / {figure.goal:g}"
    if figure.whom in derive.PEER_NAMES:
        text += f" {derive.BY_NAME[figure.whom].title}"
    if figure.disturbed:
        return text + "†"
    if figure.met:
        return text
    return f"{text} ({'−' if figure.least else '+'}{figure.missing:.0%}{'‡' if figure.beyond else ''})"


def before(runs: Sequence[Record]) -> str:
    """Time with the reset before the product ÷ time with the reset behind it."""
    shapes = [s["shape"] for run in runs[:1] for s in run["shapes"] if Shape.read(s["shape"]).kind not in SHORT]
    rows = []
    for text in shapes:
        wanted = before_goal(Shape.read(text))
        found = [_ratio(by_shape(run).get(text, {}), wanted) for run in runs]
        rows.append([text, *found, "–" if wanted is None else f"{wanted:g}"])
    if not rows:
        return ""
    return f"""## Reset before ÷ reset after

The formula of the paper has two dependent products a step, torch's has one; time of the first ÷ time of the second.

{table(["B,T,I,H", *(threads(run["threads"]) for run in runs), "at most"], rows)}"""


def _ratio(columns: Mapping[str, Record], wanted: float | None) -> str:
    if not all("ms" in columns.get(form, {}) for form in FORMS):
        return "–"
    ratio = columns["gru_before"]["ms"]["median"] / columns["gru_after"]["ms"]["median"]
    return bold(f"{ratio:.2f}", wanted is not None and ratio <= wanted)
