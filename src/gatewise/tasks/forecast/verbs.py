"""The forecaster on the command line."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.tasks import checks
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps, whole, write_bytes
from gatewise.tasks.forecast.evaluation import by_target, scores
from gatewise.tasks.forecast.forecaster import Forecaster
from gatewise.tasks.forecast.notes import LOG, listed, print_scheme, print_unusable, remarks, said_seen
from gatewise.tasks.forecast.options import MOST_STEPS
from gatewise.tasks.forecast.picture import draw
from gatewise.tasks.forecast.pivot import predicted
from gatewise.tasks.forecast.table import time_text
from gatewise.tasks.options import argument, option
from gatewise.tasks.verbs import FitData, ScoreData, Verb, print_scores, print_table

MOST_ROWS = 60
TABLE, PICTURE = "forecast.csv", "forecast.png"


@dataclass(frozen=True, kw_only=True)
class FitForecast(FitData):
    """Train a forecaster of time series."""

    data: Path | None = argument(
        None, "CSV or Parquet: unique_id, ds, y or time, value.", metavar="DATA", shown="weekly CO₂, embedded"
    )

    def after(self, task: Forecaster) -> None:
        print_scheme(task.scheme)
        print("\n".join(task.strategy.sentences()), end="\n" * bool(task.strategy.sentences()))
        print_unusable(task.unusable)

    def also(self, task: Forecaster) -> dict[str, Any]:
        left = [one._asdict() for one in task.unusable]
        said = remarks(task, task.scores, 0)
        return {"covariates": listed(task.scheme), "not_read": task.not_read, "unusable": left, "remarks": said}


@dataclass(frozen=True, kw_only=True)
class PredictForecast(Verb):
    """Forecast beyond the end of DATA: a table, forecast.csv and forecast.png."""

    data: Path | None = argument(None, "Series to continue, as for fit.", metavar="DATA", shown="the model's own")
    history: Path | None = option(None, "The same as DATA.", shown="the model's own")
    future: Path | None = option(
        None, "Covariates of the horizon: unique_id, ds and those known ahead.", shown="those of DATA behind its end"
    )
    output: Path | None = option(
        None, "Directory for table and picture.", shown="the model's", flags=("-o", "--output")
    )

    def run(self, task: Forecaster, model: Path, json: bool) -> None:
        folder = model if self.output is None else self.output
        if self.data is not None and self.history is not None:
            raise InputError(f"history: got {self.history} beside DATA {self.data}, expected one of them")
        found = task.forecast(task.chosen_series(self.data or self.history), self.future)
        columns = predicted(found)
        columns["ds"] = time_text(columns["ds"])
        header, rows = list(columns), list(zip(*(np.asarray(c).tolist() for c in columns.values()), strict=True))
        with whole(folder, locked=False):
            draw(task, folder / PICTURE, found)
            write_bytes(folder / TABLE, csv_text(header, rows).encode())
        if json:
            records = [dict(zip(header, row, strict=True)) for row in rows]
            left = [one._asdict() for one in task.unusable]
            print(dumps({"forecasts": records, "picture": str(folder / PICTURE), "unusable": left}), end="")
            return
        shown = [(name, str(time), *(f"{value:.6g}" for value in values)) for name, time, *values in rows[:MOST_ROWS]]
        print_table(header if found.targets else [*header[:2], task.label, *header[3:]], shown)
        if len(rows) > MOST_ROWS:
            print(f"… {len(rows) - MOST_ROWS} more rows in {folder / TABLE}")
        print_unusable(task.unusable)
        print(f"{folder / TABLE}\n{folder / PICTURE}")


@dataclass(frozen=True, kw_only=True)
class ScoreForecast(ScoreData):
    """Score a forecaster on the held-out end of DATA, beside naive forecasts."""

    windows: int = option(
        1, "Origins, the last of which leaves one horizon.", checks.integer(1, MOST_STEPS), flags=("--windows",)
    )
    step_size: int | None = option(
        None, "Steps between origins.", checks.integer(1, MOST_STEPS), shown="one horizon", flags=("--step-size",)
    )

    def run(self, task: Any, model: Path, json: bool) -> None:
        found = task.scored(self.chosen(), self.windows, self.step_size)
        figures = scores(found, task.cell.name, task.season)
        several = by_target(found, task.cell.name, task.season) if task.table.targets else {}
        steps = 0 if self.data else found.reach
        if json:
            said = remarks(task, figures, steps)
            for sentence in said:
                LOG.warning(sentence)
            told = {"scores": figures, "remarks": said}
            print(dumps(told | ({"targets": several} if several else {})), end="")
            return
        print_scores(task, figures, f"{self.windows} horizons" if self.windows > 1 else None)
        if several:
            rows = [(target, *(f"{one[task.metric]:.4g}" for one in own.values())) for target, own in several.items()]
            print_table([f"{task.metric} of", *figures], rows)
        if seen := said_seen(task, steps):
            print(seen)


def csv_text(header: list[str], rows: list[tuple[Any, ...]]) -> str:
    """A table as CSV, every digit of its numbers."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([repr(v) if isinstance(v, float) else v for v in row] for row in rows)
    return buffer.getvalue()
