"""Wall time beside the GRU of neuralforecast in one run: ``python -m benches.forecast_neural``.

Both fit the 414 hourly series of M4, forecast 50 origins of each, and then the horizon behind the end of one series, in
this process, by the same number of threads. The network of ``neuralforecast`` (extra ``bench``) has its own
defaults with a window of a week. Its ``cross_validation`` trains anew unless it is told to take the fitted network,
which it is. MASE over the 50 origins stands beside each time: a faster forecast that is worse is no gain. The fits see
all but the last horizon and the origins before it, so that these origins are a test of both.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benches import machine
from benches.files import write_json
from benches.forecast import DATA, HOURS, hours, m4
from benches.tables import table
from gatewise.errors import InputError, need
from gatewise.tasks.forecast import Forecaster

WEEK = 168
SAID = {
    "fit": "`fit`, s",
    "cross_validation": "`cross_validation`, s",
    "predict": "`predict`, s",
    "MASE": "MASE over all origins",
}
PREDICTIONS = 20
"""Forecasts of one series, of which the fastest counts: others use the machine."""


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def frame(series: dict[str, np.ndarray]) -> Any:
    import pandas

    parts = [pandas.DataFrame({"unique_id": name, "ds": hours(len(v)), "y": v}) for name, v in series.items()]
    return pandas.concat(parts, ignore_index=True)


def mase(found: Any, said: str, unseen: int, data: Any) -> float:
    """The mean over series of the absolute error in units of the seasonal naive error of what a fit saw."""
    past = {name: part["y"].to_numpy()[:-unseen] for name, part in data.groupby("unique_id")}
    unit = {name: np.abs(values[24:] - values[:-24]).mean() for name, values in past.items()}
    error = (found["y"] - found[said]).abs().groupby(found["unique_id"]).mean()
    return float(np.mean([error[name] / unit[name] for name in unit if unit[name] > 0]))


def gatewise(data: Any, asked: argparse.Namespace, unseen: int) -> dict[str, float]:
    options = {} if asked.steps is None else {"max_steps": asked.steps}
    model = Forecaster(horizon=asked.horizon, freq="h", test_size=unseen, seed=0, **options)
    fit, _ = timed(lambda: model.fit(data))
    crossing, found = timed(lambda: model.cross_validation(n_windows=asked.windows, step_size=asked.step))
    one = model.series[:1]
    predict = min(timed(lambda: model.forecast(one))[0] for _ in range(PREDICTIONS))
    return {"fit": fit, "cross_validation": crossing, "predict": predict, "MASE": mase(found, "gru", unseen, data)}


def neuralforecast(data: Any, asked: argparse.Namespace, unseen: int) -> dict[str, float]:
    from neuralforecast import NeuralForecast
    from neuralforecast.models import GRU

    options = {} if asked.steps is None else {"max_steps": asked.steps}
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    network = GRU(h=asked.horizon, input_size=WEEK, random_seed=0, enable_model_summary=False, **quiet, **options)
    model = NeuralForecast(models=[network], freq="h")
    seen = data[data.groupby("unique_id").cumcount(ascending=False) >= unseen]
    fit, _ = timed(lambda: model.fit(seen))
    crossing, found = timed(
        lambda: model.cross_validation(data, n_windows=asked.windows, step_size=asked.step, use_fitted=True)
    )
    one = data[data["unique_id"] == data["unique_id"].iloc[0]]
    predict = min(timed(lambda: model.predict(one))[0] for _ in range(PREDICTIONS))
    found = found.reset_index() if "unique_id" not in found.columns else found
    return {"fit": fit, "cross_validation": crossing, "predict": predict, "MASE": mase(found, "GRU", unseen, data)}


def report(found: dict[str, dict[str, float]]) -> str:
    """Both, and how many times as fast or as accurate Gatewise is, in Markdown."""
    ours, theirs = found["gatewise"], found["neuralforecast"]
    rows = [
        (SAID[name], f"{ours[name]:.3g}", f"{theirs[name]:.3g}", f"{theirs[name] / ours[name]:.3g}") for name in ours
    ]
    return table(("", "Gatewise", "neuralforecast", "ratio"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--series", type=int, default=414)
    parser.add_argument("--windows", type=int, default=50)
    parser.add_argument("--step", type=int, default=1, help="steps between origins")
    parser.add_argument("--horizon", type=int, default=HOURS)
    parser.add_argument("--steps", type=int, help="of training; those of each by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path("docs/forecast.json"))
    asked = parser.parse_args()
    try:
        need("neuralforecast", "bench")
    except InputError as error:
        parser.exit(2, f"{error}\n")
    torch.set_num_threads(asked.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    data = frame(dict(list(m4(asked.data, "train").items())[: asked.series]))
    unseen = asked.horizon + asked.step * (asked.windows - 1)
    found = {one.__name__: one(data, asked, unseen) for one in (gatewise, neuralforecast)}
    kept = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    how = {name: value for name, value in vars(asked).items() if name not in ("data", "json")}
    kept["neural"] = {"figures": found, "options": how, "machine": machine.features()}
    write_json(asked.json, kept)
    print(report(found))


if __name__ == "__main__":
    main()
