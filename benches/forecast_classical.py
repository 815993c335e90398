"""Statistical methods from the origins of ``benches.forecast``: ``python -m benches.forecast_classical``.

AutoARIMA, AutoETS and Theta of the package ``statsforecast`` (extra ``bench``) are fitted anew at every origin, on the
last 1,500 values before it at most, with missing values filled by the last one. The unit of MASE is that of our own
scores: the seasonal naive error before the first origin. Figures are added to the JSON file under ``classical``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import machine
from benches.files import write_json
from benches.forecast import DATA, SERIES, univariate
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.metrics import mase, naive_error

Values = NDArray[np.float64]
MOST = 1500
"""Values that a fit sees: AutoARIMA with a season of 24 takes minutes on more."""
PATIENCE = 60.0
"""Seconds of the processor that a fit may take, so that a busy machine makes no method slow; one that takes longer is
named as too slow and not run from the other origins."""


def methods(season: int) -> dict[str, Any]:
    from statsforecast.models import AutoARIMA, AutoETS, Theta

    return {kind.__name__: kind(season_length=season) for kind in (Theta, AutoETS, AutoARIMA)}  # the slowest last


def filled(values: Values) -> Values:
    """Missing values as the last one before them; what is missing at the beginning is cut off."""
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))
    return values[last[last >= 0]]


def measured(name: str, folder: Path, without: Collection[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every method with its MASE on a series, and its longest fit in seconds, but for those that are known."""
    file, horizon, windows = SERIES[name]
    task = Forecaster(horizon=horizon, test_size=horizon * windows)
    task.read(univariate(folder / "univariate" / file))
    values, season = task.series[0].values, task.season
    origins = [len(values) - horizon * k for k in range(windows, 0, -1)]
    unit = naive_error(values[: origins[0]], season)
    for method, model in methods(season).items():
        if method in without:
            continue
        said, longest = [], 0.0
        for origin in origins:
            start = time.process_time()
            said.append(model.forecast(filled(values[:origin])[-MOST:], horizon)["mean"])
            longest = max(longest, time.process_time() - start)
            if origin == origins[0] and longest > 2 * PATIENCE:  # the first call compiles too
                break
        truth = np.stack([values[origin : origin + horizon] for origin in origins[: len(said)]])
        whole = len(said) == len(origins)
        found = {
            "MASE": mase(truth, np.stack(said), unit) if whole else None,
            "origins": windows,
            "longest fit": longest,
        }
        print(f"{name} {method}: {found}", file=sys.stderr, flush=True)
        yield method, found


def table(found: dict[str, Any]) -> str:
    """MASE of every method, in Markdown; ``—`` where a fit took too long, or was not run."""
    names = sorted({method for row in found.values() for method in row})
    lines = [f"| MASE | origins | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for name, row in found.items():
        known = [row.get(method, {}).get("MASE") for method in names]
        figures = ["—" if value is None else f"{value:.3f}" for value in known]
        lines.append(f"| {name} | {next(iter(row.values()))['origins']} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", default=list(SERIES), choices=list(SERIES))
    parser.add_argument("--json", type=Path, default=Path("docs/forecast.json"))
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    known = kept.setdefault("classical", {})
    for name in () if asked.table else asked.only:
        for method, row in measured(name, asked.data, known.get(name, {})):
            known.setdefault(name, {})[method] = row
            kept["classical machine"] = machine.features()
            write_json(asked.json, kept)
    print(table(known))


if __name__ == "__main__":
    main()
