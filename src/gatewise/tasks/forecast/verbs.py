"""The forecaster on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gatewise.tasks.folder import dumps, whole, write_bytes
from gatewise.tasks.forecast.forecaster import Forecaster
from gatewise.tasks.forecast.notes import print_unusable
from gatewise.tasks.forecast.picture import draw
from gatewise.tasks.forecast.table import rows, to_csv
from gatewise.tasks.options import argument, option
from gatewise.tasks.verbs import FitData, Verb, print_table

MOST_ROWS = 60
TABLE, PICTURE = "forecast.csv", "forecast.png"


@dataclass(frozen=True, kw_only=True)
class FitForecast(FitData):
    """Train a forecaster of time series."""

    data: Path | None = argument(
        None, "CSV or Parquet: unique_id, ds, y or time, value.", metavar="DATA", shown="weekly CO₂, embedded"
    )

    def after(self, task: Forecaster) -> None:
        print_unusable(task.unusable)


@dataclass(frozen=True, kw_only=True)
class PredictForecast(Verb):
    """Forecast beyond the end of DATA: a table, forecast.csv and forecast.png."""

    data: Path | None = argument(None, "Series to continue, as for fit.", metavar="DATA", shown="the model's own")
    output: Path | None = option(
        None, "Directory for table and picture.", shown="the model's", flags=("-o", "--output")
    )

    def run(self, task: Forecaster, model: Path, json: bool) -> None:
        folder = model if self.output is None else self.output
        chosen = task.chosen_series(self.data)
        table = task.forecast(chosen)
        with whole(folder, locked=False):
            draw(task, folder / PICTURE, chosen, table)
            write_bytes(folder / TABLE, to_csv(table).encode())
        records = rows(table)
        if json:
            keys = ("unique_id", "ds", "y")
            values = [dict(zip(keys, record, strict=True)) for record in records]
            left = [one._asdict() for one in task.unusable]
            print(dumps({"forecasts": values, "picture": str(folder / PICTURE), "unusable": left}), end="")
            return
        shown = [(name, time, f"{value:.6g}") for name, time, value in records[:MOST_ROWS]]
        print_table(["unique_id", "ds", task.label], shown)
        if len(records) > MOST_ROWS:
            print(f"… {len(records) - MOST_ROWS} more rows in {folder / TABLE}")
        print_unusable(task.unusable)
        print(f"{folder / TABLE}\n{folder / PICTURE}")
