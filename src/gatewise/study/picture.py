"""The picture of a comparison: parameters as bars, scores as points, validation over seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gatewise.study.colours import by_cell
from gatewise.study.compare import Comparison, Entry
from gatewise.tasks.errors import need
from gatewise.tasks.figures import save

INK = "#1c242c"


def draw(comparison: Comparison, path: Path) -> None:
    """Draw the figure of a comparison into a PNG file."""
    save(drawn(comparison), path)


def drawn(comparison: Comparison) -> Any:
    """The figure: a panel for every sizing, and below them the validation figure over seconds of training."""
    need("matplotlib")
    from matplotlib.figure import Figure

    entries = comparison.entries
    titles = {"size": f"equal hidden size ({entries[0].hidden_size})", "parameters": "equal parameters"}
    titles |= {"time": f"equal training time, hidden size {entries[0].hidden_size}"}
    panels = [(titles[name], _of_sizing(entries, name)) for name in titles if any(e.sizing == name for e in entries)]
    panels = panels or [(titles["size"], entries)]
    colours = by_cell([e.cell for e in entries])
    figure = Figure(figsize=(max(10, 5 * len(panels)), 8.0), dpi=130, layout="constrained")
    bars_top = 1.8 * max(e.parameters for e in entries)  # bars below, points above; both axes start at zero
    line_top = 1.2 * max(e.mean + e.spread for e in entries)
    places: Any = [["curves" if row else f"panel {k}" for k in range(len(panels))] for row in range(2)]
    axes = figure.subplot_mosaic(places)
    better = "higher" if comparison.higher_is_better else "lower"
    for index, (title, chosen) in enumerate(panels):
        own = axes[f"panel {index}"]
        own.yaxis.set_major_formatter("{x:,.0f}")
        score = _panel(own, chosen, title, bars_top, colours)
        score.set_ylim(0, line_top)
        if index == 0:
            own.set_ylabel("parameters (bars)")
        else:
            own.set_yticklabels([])
        if index == len(panels) - 1:
            score.set_ylabel(f"{comparison.metric} on held-out data (points, {better} is better)")
        else:
            score.set_yticklabels([])
    _curves(axes["curves"], comparison, colours)
    runs = f"{comparison.seeds} seeds, ± standard deviation" if comparison.seeds > 1 else "one seed"
    naive = ", ".join(f"{name} {value:.2f}" for name, value in comparison.baselines.items())
    figure.suptitle(f"{comparison.task}: {comparison.metric} of {runs}" + (f"; {naive}" if naive else ""), fontsize=10)
    return figure


def _of_sizing(entries: list[Entry], sizing: str) -> list[Entry]:
    """The reference and its rivals of one sizing; where a solved size is the reference's, it stands for both."""
    rivals = {e.cell: e for e in entries if e.sizing == "size"} if sizing == "parameters" else {}
    rivals |= {e.cell: e for e in entries if e.sizing == sizing}
    return [entries[0], *rivals.values()] if sizing != "parameters" else _equal_parameters(entries, rivals)


def _equal_parameters(entries: list[Entry], rivals: dict[str, Entry]) -> list[Entry]:
    solved = {e.cell for e in entries if e.sizing == "parameters"}
    same = [e for e in rivals.values() if e.cell in solved or e.parameters == entries[0].parameters]
    return [entries[0], *same]


def _curves(axes: Any, comparison: Comparison, colours: dict[str, str]) -> None:
    """The validation figure over seconds of training: the mean of the seeds, as far as all of them went."""
    looks = dict(zip(dict.fromkeys(e.sizing for e in comparison.entries), ("-", "--", ":", "-."), strict=False))
    for entry in comparison.entries:
        count = min(map(len, entry.curves))
        seconds = np.mean([one[:count] for one in entry.seconds], 0)
        values = np.array([one[:count] for one in entry.curves])
        name = f"{entry.cell} {entry.hidden_size}" + (" (as long)" if entry.sizing == "time" else "")
        style = {"color": colours[entry.cell], "ls": looks[entry.sizing], "lw": 1.6}
        axes.plot(seconds, values.mean(0), label=name, marker="o" if count < 3 else None, **style)
        axes.fill_between(seconds, values.min(0), values.max(0), color=style["color"], alpha=0.12, lw=0)
    axes.set_xlabel("seconds of training, mean of the seeds")
    axes.set_ylabel(f"validation {comparison.metric}")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, ncols=3)
    axes.spines[["top", "right"]].set_visible(False)


def _panel(axes: Any, entries: list[Entry], title: str, top: float, colours: dict[str, str]) -> Any:
    """Parameters as bars on the left axis, scores as points on the right one; no line joins unrelated cells."""
    places = range(len(entries))
    own = [colours[e.cell] for e in entries]
    bars = axes.bar(places, [e.parameters for e in entries], width=0.55, color=own, alpha=0.35)
    axes.bar_label(bars, [f"{e.parameters:,}" for e in entries], label_type="center", fontsize=8)
    axes.set_xticks(list(places), [f"{e.cell}\nhidden size {e.hidden_size}" for e in entries])
    axes.set_ylim(0, top)
    axes.set_title(title, fontsize=10)
    score = axes.twinx()
    for place, entry, colour in zip(places, entries, own, strict=True):
        score.errorbar(place, entry.mean, yerr=entry.spread, color=colour, marker="D", capsize=4, mec=INK, ls="none")
        score.annotate(f"{entry.mean:.4g}", (place, entry.mean), (9, 5), textcoords="offset points", fontsize=9)
    axes.spines["top"].set_visible(False)
    score.spines["top"].set_visible(False)
    return score
