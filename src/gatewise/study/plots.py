"""Pictures of studies: gates over a sequence, gradients over distance. Maps and colours for any colour vision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gatewise.study.colours import COLOURS
from gatewise.study.gradients import Flow, Saliency
from gatewise.study.tracing import MOST_STEPS, Traced, nth
from gatewise.tasks.errors import need
from gatewise.tasks.figures import save

MOST_LABELS = 60


def _figure(width: float, height: float) -> Any:
    need("matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def trace_picture(trace: Traced, path: Path) -> None:
    """Draw the gates as heat maps over the positions of the input, with the series above and the rate of change below.

    Of more than 400 steps every k-th is drawn, and the title says so.
    """
    steps = len(trace.labels)
    every = -(-steps // MOST_STEPS)
    shown = np.arange(0, steps, every)
    gates = trace.gates
    heights = [1.0] * (trace.series is not None) + [1.6] * len(gates) + [1.0]
    figure = _figure(min(16.0, max(8.0, 0.16 * len(shown) + 3)), 1.0 + 1.3 * sum(heights))
    panels = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    sampled = f", every {nth(every)} of {steps} steps drawn" if every > 1 else f", {steps} steps"
    order = "slowest unit on top" if trace.keeper is None else f"longest half-life by {trace.keeper} on top"
    figure.suptitle(f"{trace.cell}: gates of {len(trace.units)} units ({order}){sampled}", fontsize=10)
    if trace.series is not None:
        above = panels.pop(0)
        above.plot(np.arange(len(shown)), trace.series[shown], color="#333333", lw=1.2)
        above.set_ylabel("input")
        above.grid(alpha=0.25)
    for (name, values), axes in zip(gates.items(), panels, strict=False):
        signed = float(values.min()) < 0.0
        bounds = {"vmin": -1, "vmax": 1, "cmap": "PuOr"} if signed else {"vmin": 0, "vmax": 1, "cmap": "cividis"}
        if float(np.abs(values).max()) > 1.0:
            bounds |= {"vmax": float(np.abs(values).max()), "vmin": -float(np.abs(values).max()) if signed else 0}
        image = axes.imshow(values[shown].T, aspect="auto", interpolation="nearest", **bounds)
        axes.set_ylabel(f"{name}\nunit")
        axes.set_yticks([])
        figure.colorbar(image, ax=axes, pad=0.01, label=f"value of {name}")
    below = panels[-1]
    below.plot(np.arange(len(shown)), trace.change[shown], color=COLOURS[0], lw=1.4)
    below.set_ylabel("‖Δh‖ / ‖h‖\nper step")
    below.set_ylim(bottom=0)
    below.grid(alpha=0.25)
    _positions(below, [trace.labels[k] for k in shown])
    save(figure, path)


def _positions(axes: Any, labels: list[str]) -> None:
    """Labels along the axis: all of them where they fit."""
    every = -(-len(labels) // MOST_LABELS) if max(map(len, labels), default=0) <= 3 else -(-len(labels) // 24)
    places = list(range(0, len(labels), every))
    upright = max((len(labels[k]) for k in places), default=0) <= 3
    axes.set_xticks(places, [labels[k] or "·" for k in places], rotation=0 if upright else 60, fontsize=7)
    axes.set_xlabel("position in the input" if any(not label.isdigit() for label in labels if label) else "step")
    axes.set_xlim(-0.5, len(labels) - 0.5)


def gradient_picture(title: str, flows: list[Flow], path: Path, salient: Saliency | None = None) -> None:
    """Draw ‖∂h_T/∂s_t‖ over distance on a logarithmic axis where there are flows, and below the saliency of the
    positions where given."""
    count = bool(flows) + (salient is not None)
    figure = _figure(8.0, 2.2 + 2.1 * count)
    panels = list(figure.subplots(count, 1, squeeze=False)[:, 0])
    figure.suptitle(title, fontsize=10)
    if flows:
        _flows(panels[0], flows)
    if salient is not None:
        below = panels[-1]
        below.bar(np.arange(len(salient.values)), salient.values, color=COLOURS[0], width=0.9)
        below.set_ylabel("‖∂y/∂x_t‖")
        below.set_title(f"saliency of the input for {salient.output}", fontsize=10)
        _positions(below, salient.labels)
    save(figure, path)


def _flows(axes: Any, flows: list[Flow]) -> None:
    for colour, flow in zip(COLOURS, flows, strict=False):
        distance = np.arange(len(flow.mean))
        floor = 1e-30
        axes.plot(distance, np.maximum(flow.mean, floor), color=colour, lw=1.8, label=_named(flow))
        axes.fill_between(
            distance, np.maximum(flow.low, floor), np.maximum(flow.high, floor), color=colour, alpha=0.15, lw=0
        )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 1e-20), min(high, 1e20))
    axes.axhline(1.0, color="#777777", lw=0.8, ls=":")
    axes.set_xlabel("distance T − t (steps)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("‖∂h_T/∂s_t‖ / √H  (1 = arrives whole)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


def _named(flow: Flow) -> str:
    return f"{flow.label} (× {flow.factor:.3g} a step)"
