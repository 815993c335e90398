"""The picture of a comparison: parameters as bars, score as a line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from gatewise.study.compare import Comparison, Entry
from gatewise.tasks.errors import need
from gatewise.tasks.folder import write_bytes

BAR, LINE = "#9ecae1", "#D55E00"


def draw(comparison: Comparison, path: Path) -> None:
    """Draw a panel for equal hidden size and one for equal parameters into a PNG file."""
    need("matplotlib")
    from matplotlib.figure import Figure

    entries = comparison.entries
    panels = [
        (f"equal hidden size ({entries[0].hidden_size})", [e for e in entries if e.sizing != "parameters"]),
        ("equal parameters", [e for e in entries if e.sizing != "size"]),
    ]
    figure = Figure(figsize=(10, 4.2), dpi=130, layout="constrained")
    bars_top = 1.8 * max(e.parameters for e in entries)  # bars below, line above; both axes start at zero
    line_top = 1.2 * max(e.mean + e.spread for e in entries)
    axes = figure.subplots(1, 2)
    for index, (title, chosen) in enumerate(panels):
        score = _panel(axes[index], chosen, title, bars_top)
        score.set_ylim(0, line_top)
        if index == 0:
            axes[index].set_ylabel("parameters (bars)")
            score.set_yticklabels([])
        else:
            axes[index].set_yticklabels([])
            score.set_ylabel(f"{comparison.metric} on held-out data (line, lower is better)", color=LINE)
    runs = f"{comparison.seeds} seeds, ± standard deviation" if comparison.seeds > 1 else "one seed"
    naive = ", ".join(f"{name} {value:.2f}" for name, value in comparison.baselines.items())
    figure.suptitle(f"{comparison.task}: {comparison.metric} of {runs}" + (f"; {naive}" if naive else ""), fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def _panel(axes: Any, entries: list[Entry], title: str, top: float) -> Any:
    places = range(len(entries))
    bars = axes.bar(places, [e.parameters for e in entries], width=0.55, color=BAR)
    axes.bar_label(bars, [f"{e.parameters:,}" for e in entries], label_type="center", fontsize=8)
    axes.set_xticks(list(places), [f"{e.cell}\nhidden size {e.hidden_size}" for e in entries])
    axes.set_ylim(0, top)
    axes.set_title(title, fontsize=10)
    score = axes.twinx()
    means, spreads = [e.mean for e in entries], [e.spread for e in entries]
    score.errorbar(places, means, yerr=spreads, color=LINE, marker="o", lw=1.6, capsize=4)
    score.tick_params(axis="y", colors=LINE)
    for place, mean in zip(places, means, strict=True):
        score.annotate(f"{mean:.3f}", (place, mean), (9, 5), textcoords="offset points", color=LINE, fontsize=9)
    axes.spines["top"].set_visible(False)
    score.spines["top"].set_visible(False)
    return score
