"""The section that shows processors side by side: what holds on one need not hold on another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benches import derive
from benches.goals import by_shape
from benches.shapes import SHORT, Shape
from benches.tables import bold, table

Record = Mapping[str, Any]
COLUMNS = ("gru_after", "gru_before", "lstm")


def processors(reports: Mapping[str, Record]) -> str:
    """Ratios to torch and shares of the floor on every processor; empty where there is one alone."""
    if len(reports) < 2:
        return ""
    lines = [f"- `{name}`: {_machine(report)}" for name, report in reports.items()]
    parts = [
        f"""## Processors side by side

Figures of a processor are kept until that processor is measured again. Each was measured on the code of its day.

{chr(10).join(lines)}"""
    ]
    for column in COLUMNS:
        rival = derive.BY_NAME[derive.BY_NAME[column].rival].title
        head = f"### {derive.BY_NAME[column].title} beside {rival}"
        what = f"Time of {rival} ÷ own, 1 / 2 threads, in bold where slower; in brackets the shares of the floor."
        parts.append(f"{head}\n\n{what}\n\n{_table(reports, column)}")
    return "\n\n".join(parts)


def _machine(report: Record) -> str:
    found = report["machine"]
    what = f"{found['processor']}, tier {found['tier']}, L2 {found['caches'].get('L2', '?')}"
    return f"{what}; {found['date'][:10]}, torch {found['torch']}"


def _table(reports: Mapping[str, Record], column: str) -> str:
    found = {name: {run["threads"]: by_shape(run) for run in report["runs"]} for name, report in reports.items()}
    rows = []
    for shape in _shapes(reports):
        cells = [_both(runs, shape, column) for runs in found.values()]
        if any(cell != "–" for cell in cells):
            rows.append([shape, *cells])
    return table(["B,T,I,H", *(f"`{name}`" for name in reports)], rows)


def _shapes(reports: Mapping[str, Record]) -> list[str]:
    """Those of the first report, then what only others have."""
    every = (s["shape"] for report in reports.values() for run in report["runs"] for s in run["shapes"])
    return [shape for shape in dict.fromkeys(every) if Shape.read(shape).kind not in SHORT]


def _both(runs: Mapping[int, Mapping[str, Record]], shape: str, column: str) -> str:
    figures = [runs.get(count, {}).get(shape, {}).get(column, {}) for count in (1, 2)]
    if not any("ratio" in figure for figure in figures):
        return "–"
    ratios = (bold(f"{f['ratio']:.2f}", f["ratio"] < 1) if "ratio" in f else "–" for f in figures)
    shares = (f"{f['share']:.0%}" if "share" in f else "–" for f in figures)
    return f"{' / '.join(ratios)} ({' / '.join(shares)})"
