"""``gatewise predict`` and ``gatewise score``: what a fitted model is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional, cast

import typer

from gatewise.cli.common import DataArgument, Json, ModelArgument, directory, print_scores, print_table
from gatewise.tasks.base import load
from gatewise.tasks.folder import dumps, nothing_on_error, writable, write_bytes

MOST_ROWS = 60


def predict(
    model: ModelArgument,
    data: DataArgument = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            parser=directory,
            help="Where table and picture go.",
            show_default="the model's",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Forecast beyond the end of the data: a table, forecast.csv and forecast.png."""
    from gatewise.tasks.forecast.forecaster import Forecaster
    from gatewise.tasks.forecast.picture import draw
    from gatewise.tasks.forecast.table import rows, to_csv

    task = cast(Forecaster, load(model))
    table = task.predict_table(data)
    folder = model if output is None else output
    with nothing_on_error(folder):
        writable(folder)
        draw(task, folder / "forecast.png", data)
        write_bytes(folder / "forecast.csv", to_csv(table).encode())
    records = rows(table)
    if json:
        keys = ("unique_id", "ds", "y")
        values = [dict(zip(keys, record, strict=True)) for record in records]
        print(dumps({"forecasts": values, "picture": str(folder / "forecast.png")}), end="")
        return
    shown = [(name, time, f"{value:.6g}") for name, time, value in records[:MOST_ROWS]]
    print_table(["unique_id", "ds", task.label], shown)
    if len(records) > MOST_ROWS:
        print(f"… {len(records) - MOST_ROWS} more rows in {folder / 'forecast.csv'}")
    print(f"{folder / 'forecast.csv'}\n{folder / 'forecast.png'}")


def score(model: ModelArgument, data: DataArgument = None, json: Json = False) -> None:
    """Score a model on the held-out end of its data, or of other data, beside naive baselines."""
    scores = load(model).score(data)
    if json:
        print(dumps({"scores": scores}), end="")
    else:
        print_scores(scores)
