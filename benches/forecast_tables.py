"""The figures in docs/forecasting.md, from docs/forecast.json: ``python -m benches.forecast_tables`` writes them there.

Each table stands between two comments with its name. A figure of several seeds is their mean and standard deviation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benches.forecast import REFERENCES, SERIES
from benches.forecast_neural import report
from benches.tables import placed, table

DOCS = Path(__file__).parent.parent / "docs"
PAGE, FIGURES = DOCS / "forecasting.md", DOCS / "forecast.json"
NAMES = {
    "airline": "airline passengers, 3 origins of 12 months",
    "airline-refitted": "the same, trained again for each origin",
    "sunspots": "monthly sunspots, 10 origins of 12 months",
    "temperatures": "daily temperatures, 10 origins of 7 days",
    "pm2.5": "hourly PM2.5, 10 origins of 24 hours",
    "co2": "weekly CO₂, the held-out year",
    "m4-hourly": "M4 hourly, 414 series",
    **{f"etth1-{h}": f"ETTh1, window 96, horizon {h}" for h in (96, 192, 336, 720)},
}
MAIN = {"m4-hourly": ("OWA", "FFORMA"), **{f"etth1-{h}": ("MSE", "SegRNN") for h in (96, 192, 336, 720)}}
"""The figure of a row, and whose is beside it; MASE beside the best statistical method elsewhere."""
METHODS = ("AutoARIMA", "AutoETS", "Theta")
ABSENT, EARLIER = "—", "†"


def figure(kept: dict[str, Any], name: str, metric: str) -> str:
    """A figure of a row of all its seeds."""
    values = [row["figures"].get(metric) for key, row in kept["rows"].items() if key.rpartition(" ")[0] == name]
    if not values or None in values:
        return ABSENT
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(set(values)) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def loss(kept: dict[str, Any], name: str) -> str:
    """The quantile loss of a row, with a mark where its intervals were calibrated by an earlier rule."""
    earlier = any("calibration" in row for key, row in kept["rows"].items() if key.rpartition(" ")[0] == name)
    return figure(kept, name, "quantile loss") + EARLIER * earlier


def statistical(kept: dict[str, Any], name: str, method: str) -> float | None:
    found: float | None = kept.get("classical", {}).get(name, {}).get(method, {}).get("MASE")
    return found


def beside(kept: dict[str, Any], name: str) -> str:
    """What a row is compared to."""
    if name in MAIN:
        metric, other = MAIN[name]
        return f"{other} {REFERENCES[name][metric]:.3f}"
    known = {method: statistical(kept, name.removesuffix("-refitted"), method) for method in METHODS}
    figures = {method: value for method, value in known.items() if value is not None}
    best = min(figures, key=lambda method: figures[method], default=None)
    if best is not None:
        return f"{best} {figures[best]:.3f}"
    return f"seasonal naive {figure(kept, name, 'seasonal naive')}"


def figures(kept: dict[str, Any]) -> str:
    """Every row by default, beside the best that others reach."""
    rows = []
    for name, words in NAMES.items():
        metric = MAIN.get(name, ("MASE",))[0]
        seconds = [row["seconds"] for key, row in kept["rows"].items() if key.rpartition(" ")[0] == name]
        if seconds:
            rows.append((words, metric, figure(kept, name, metric), beside(kept, name), f"{np.mean(seconds):.0f}"))
    return table(("data", "figure", "Gatewise", "others", "seconds"), rows)


def strategies(kept: dict[str, Any]) -> str:
    """MASE, and in brackets the quantile loss, of both strategies."""
    rows = []
    for name in SERIES:
        both = [(figure(kept, each, "MASE"), loss(kept, each)) for each in (name, f"{name}-recursive")]
        said = [ABSENT if mase == ABSENT else f"{mase} ({lost})" for mase, lost in both]
        naive = {figure(kept, each, "seasonal naive") for each in (name, f"{name}-recursive")} - {ABSENT}
        rows.append((NAMES[name], *said, *sorted(naive)[:1]))
    return table(("data", "direct", "recursive", "seasonal naive"), rows)


def classical(kept: dict[str, Any]) -> str:
    """MASE of statistical methods, fitted anew at each origin."""
    rows = []
    for name in kept.get("classical", {}):
        known = [statistical(kept, name, method) for method in METHODS]
        theirs = [ABSENT if value is None else f"{value:.3f}" for value in known]
        ours = [figure(kept, each, "MASE") for each in (name, f"{name}-recursive")]
        rows.append((NAMES[name], *theirs, *ours))
    return table(("MASE", *METHODS, "direct", "recursive"), rows)


def scalings(kept: dict[str, Any]) -> str:
    """MASE and quantile loss in units of the window and of the series."""
    rows = []
    for name in SERIES:
        both = [(figure(kept, each, "MASE"), loss(kept, each)) for each in (name, f"{name}-by-series")]
        if ABSENT not in [mase for mase, _ in both]:
            rows.append((NAMES[name], *(f"{mase} ({lost})" for mase, lost in both)))
    return table(("data", "window", "series"), rows)


def neural(kept: dict[str, Any]) -> str:
    """Wall time beside the GRU of neuralforecast."""
    return report(kept["neural"]["figures"])


def page(text: str, kept: dict[str, Any]) -> str:
    """The page with the tables of now."""
    return placed(text, {make.__name__: make(kept) for make in (figures, strategies, scalings, classical, neural)})


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), json.loads(FIGURES.read_text())))
