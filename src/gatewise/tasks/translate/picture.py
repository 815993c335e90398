"""The picture of a translation: attention, and along its sides the gate that keeps the state, over the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatewise.tasks.errors import need
from gatewise.tasks.figures import save
from gatewise.tasks.text.vocabulary import SPACE
from gatewise.tasks.translate.looking import Looking, Values


def draw(found: Looking, path: Path) -> None:
    """Draw into a picture file, whose suffix says the format.

    Raises:
        InputError: without matplotlib.
    """
    need("matplotlib")
    from matplotlib.figure import Figure

    wide, high = len(found.source), len(found.target)
    figure = Figure(figsize=(4.6 + 0.42 * wide, 3.6 + 0.3 * high), dpi=130, layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(0.42 * wide + 1, 2.4), height_ratios=(0.3 * high + 1, 1.2, 1.2))
    attention = figure.add_subplot(grid[0, 0])
    if found.attention is None:
        attention.set_axis_off()
        attention.text(0.5, 0.5, "no attention: the final state alone is handed over", ha="center", va="center")
    else:
        image = attention.imshow(found.attention, aspect="auto", cmap="cividis", vmin=0, vmax=1)
        figure.colorbar(image, ax=attention, label="attention", location="left", shrink=0.7)
        _words(attention, "x", found.source)
        _words(attention, "y", found.target)
        attention.set_title("where each word of the translation looked", fontsize=9)
    if found.gate is not None and found.reading is not None and found.writing is not None:
        for row, (values, way) in enumerate(zip(found.reading, ("→", "←"), strict=True), 1):
            axes = figure.add_subplot(grid[row, 0])
            _gate(axes, _sorted(values).T, f"encoder {way}\nunit")
            _words(axes, "x", found.source)
        axes = figure.add_subplot(grid[0, 1])
        image = _gate(axes, _sorted(found.writing), "")
        axes.set_xlabel("unit of the decoder", fontsize=8)
        _words(axes, "y", found.target)
        axes.set_title(f"{found.gate} while writing", fontsize=9)
        corner = figure.add_subplot(grid[1:, 1])
        corner.set_axis_off()
        figure.colorbar(image, ax=corner, label=f"{found.gate}: share of the state that stays", shrink=0.9)
    figure.suptitle(found.translation, fontsize=11)
    save(figure, path)


def _gate(axes: Any, values: Values, label: str) -> Any:
    axes.set_ylabel(label, fontsize=8)
    return axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")


def _sorted(values: Values) -> Values:
    """(steps, units) with the units from the quickest to the slowest."""
    ordered: Values = values[:, values.mean(0).argsort()]
    return ordered


def _words(axes: Any, side: str, pieces: list[str]) -> None:
    labels = [piece.replace(SPACE, "") or SPACE for piece in pieces]
    if side == "x":
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    else:
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
