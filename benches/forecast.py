"""Forecasts on public data through the public interface: ``python -m benches.forecast``.

Rows are run one after the other, each figure is added to the JSON file when it is there, and what the file has is not
run again. ``--only`` names rows; ``--table`` prints what the file holds beside the reference points.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import machine
from benches.files import write_json
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.table import Table
from gatewise.tasks.progress import Progress

DATA = Path("../shared/data")
NAIVE2 = 18.383, 2.3952
"""sMAPE and MASE of the forecast that the OWA of the M4 competition is relative to, on its hourly series."""
HOURS = 48
ETT = {"train": 8640, "validation": 2880, "test": 2880}
ETT_HIDDEN: dict[str, Any] = {
    "window": 96,
    "lags": "1",
    "scaling": "series",
    "n_models": 3,
    "hidden_size": 256,
    "dropout": 0.3,
    "max_steps": 300,
    "learning_rate": 2e-3,
}
"""Chosen on the validation part, 192 hours ahead."""
REFERENCES = {
    "etth1-96": {"MSE": 0.368},
    "etth1-192": {"MSE": 0.408},
    "etth1-336": {"MSE": 0.444},
    "etth1-720": {"MSE": 0.446},
    "m4-hourly": {"sMAPE": 11.506, "MASE": 0.819, "OWA": 0.484},
    "airline": {"MASE": 0.851},
    "sunspots": {"MASE": 0.947},
    "temperatures": {"MASE": 0.735},
    "pm2.5": {"MASE": 0.896},
}
"""SegRNN (ETTh1), FFORMA (M4), Theta (airline); an earlier version, not always from the same origins (the others)."""
SERIES: dict[str, tuple[str, int, int]] = {
    "airline": ("airline-passengers.csv", 12, 3),
    "sunspots": ("monthly-sunspots.csv", 12, 10),
    "temperatures": ("daily-min-temperatures.csv", 7, 10),
    "pm2.5": ("pollution.csv.gz", 24, 10),
    "co2": ("", 52, 1),
}
"""File, horizon and number of origins, a horizon apart; no file is the embedded series."""


def hours(count: int) -> NDArray[np.datetime64]:
    return np.datetime64("2000-01-01T00", "s") + np.arange(count) * np.timedelta64(3600, "s")


def text(path: Path) -> io.StringIO:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return io.StringIO(file.read())


def etth1(folder: Path) -> Table:
    """All seven columns as series, z-scored on the training rows."""
    rows = list(csv.reader(text(folder / "ett" / "ETTh1.csv.gz")))
    values = np.array([[float(v) for v in row[1:]] for row in rows[1:]])[: sum(ETT.values())]
    train = values[: ETT["train"]]
    values = (values - train.mean(0)) / train.std(0)
    return Table({name: (hours(len(values)), v) for name, v in zip(rows[0][1:], values.T, strict=True)}, "z-score")


def run_etth1(horizon: int, folder: Path, seed: int, options: dict[str, Any]) -> dict[str, float]:
    """Mean squared and absolute error over every window of the test rows."""
    table = etth1(folder)
    how = {"test_size": ETT["test"], "validation_size": ETT["validation"], **ETT_HIDDEN, **options}
    model = Forecaster(horizon=horizon, seed=seed, **how).fit(table, report=Progress)
    found = model.cross_validation(n_windows=ETT["test"] - horizon + 1, step_size=1)
    errors = found["y"] - found["gru"]
    return {"MSE": float((errors**2).mean()), "MAE": float(np.abs(errors).mean())}


def m4(folder: Path, part: str) -> dict[str, NDArray[np.float64]]:
    rows = list(csv.reader(text(folder / "m4" / f"Hourly-{part}.csv.gz")))[1:]
    return {row[0]: np.array([float(v) for v in row[1:] if v not in ("", "NA")]) for row in rows}


def run_m4(folder: Path, seed: int, options: dict[str, Any]) -> dict[str, float]:
    """The competition's figures on its test part; the fit has the training part alone."""
    past, future = m4(folder, "train"), m4(folder, "test")
    table = Table({name: (hours(len(values)), values) for name, values in past.items()}, "y")
    model = Forecaster(horizon=HOURS, seed=seed, **options).fit(table, report=Progress)
    said = model.predict()["y"].reshape(-1, HOURS)
    truth = np.stack([future[name] for name in past])
    units = np.array([np.abs(values[24:] - values[:-24]).mean() for values in past.values()])
    smape = float(np.mean(200 * np.abs(truth - said) / (np.abs(truth) + np.abs(said))))
    mase = float(np.mean(np.abs(truth - said).mean(1) / units))
    return {"sMAPE": smape, "MASE": mase, "OWA": (smape / NAIVE2[0] + mase / NAIVE2[1]) / 2}


def univariate(path: Path) -> Any:
    """The path, or of the hourly measurements the table of the particles."""
    if path.suffix != ".gz":
        return path
    values = [row["pm2.5"] for row in csv.DictReader(text(path))]
    numbers = np.array([float("nan") if v == "NA" else float(v) for v in values])
    return Table({"": (hours(len(numbers)), numbers)}, "PM2.5 (µg/m³)")


def run_series(name: str, folder: Path, seed: int, options: dict[str, Any]) -> dict[str, float]:
    """Scores over the origins; the network is trained once, on what lies before them all."""
    file, horizon, windows = SERIES[name]
    how = {"level": [80, 95], "test_size": horizon * windows, **options}
    model = Forecaster(horizon=horizon, seed=seed, **how)
    model.fit(univariate(folder / "univariate" / file) if file else None, report=Progress)
    scores = model.score(windows=windows)
    return {**scores["gru"], "seasonal naive": scores["seasonal naive"]["MASE"]}


def run_refitted(name: str, folder: Path, seed: int, options: dict[str, Any]) -> dict[str, float]:
    """MASE where the network is trained anew for every origin, as statistical methods are."""
    file, horizon, windows = SERIES[name]
    data = folder / "univariate" / file
    model = Forecaster(horizon=horizon, test_size=horizon, seed=seed, **options).fit(data)
    found = model.cross_validation(n_windows=windows, refit=True)
    values = model.series[0].values
    unit = np.nanmean(np.abs(values[model.season : -horizon * windows] - values[: -horizon * windows - model.season]))
    return {"MASE": float(np.nanmean(np.abs(found["y"] - found["gru"])) / unit)}


def rows() -> dict[str, Callable[[Path, int, dict[str, Any]], dict[str, float]]]:
    """What is run, by name."""
    found: dict[str, Any] = {name: lambda *a, name=name: run_series(name, *a) for name in SERIES}
    for name in SERIES:
        recursive = {"strategy": "recursive"}
        found[f"{name}-recursive"] = lambda *a, name=name, how=recursive: run_series(name, *a[:2], {**how, **a[2]})
        whole = {"scaling": "series"}
        found[f"{name}-by-series"] = lambda *a, name=name, how=whole: run_series(name, *a[:2], {**how, **a[2]})
    found["airline-refitted"] = lambda *a: run_refitted("airline", *a)
    found["m4-hourly"] = run_m4
    for horizon in (96, 192, 336, 720):
        found[f"etth1-{horizon}"] = lambda *a, horizon=horizon: run_etth1(horizon, *a)
    return found


def table(found: dict[str, Any]) -> str:
    """Figures beside the reference points, in Markdown."""
    lines = ["| data | seed | figures | to beat | seconds |", "|---|---|---|---|---|"]
    for key, row in found.items():
        name, _, seed = key.rpartition(" ")
        figures = ", ".join(f"{metric} {value:.3f}" for metric, value in row["figures"].items())
        beat = ", ".join(f"{metric} {value:g}" for metric, value in REFERENCES.get(name, {}).items())
        lines.append(f"| {name} | {seed} | {figures} | {beat} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", default=list(rows()), choices=list(rows()))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("docs/forecast.json"))
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="options of every forecaster")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    kept = json.loads(asked.json.read_text()) if asked.json.exists() else {"rows": {}}
    options = {name: json.loads(value) for name, _, value in (word.partition("=") for word in asked.set)}
    for seed in range(asked.seeds):
        for name in () if asked.table else asked.only:
            if f"{name} {seed}" in kept["rows"]:
                continue
            start = time.perf_counter()
            figures = rows()[name](asked.data, seed, options)
            seconds = time.perf_counter() - start
            kept["rows"][f"{name} {seed}"] = {"figures": figures, "seconds": seconds, "options": options}
            kept["machine"] = machine.features()
            write_json(asked.json, kept)
            print(f"{name} {seed}: {figures} {seconds:.0f} s", file=sys.stderr, flush=True)
    print(table(kept["rows"]))


if __name__ == "__main__":
    main()
