"""``gatewise predict`` and ``gatewise score``: what a fitted model is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from gatewise.cli import translate
from gatewise.cli.common import Integer, Json, ModelArgument, Text, directory, given, print_scores, print_table
from gatewise.tasks.base import load
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps, whole, write_bytes
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.translate import Translator

MOST_ROWS = 60
File = Optional[Path]  # noqa: UP045
OutputDirectory = Annotated[
    File,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        parser=directory,
        help="Of forecasts: where table and picture go.",
        show_default="the model's",
    ),
]
BEAM = 5
Beam = Annotated[Integer, typer.Option(help="Of translations: width of the search.", show_default=str(BEAM))]


def predict(
    model: ModelArgument,
    data: Annotated[
        Text, typer.Argument(metavar="DATA|TEXT", show_default="the model's own series; standard input, line by line")
    ] = None,
    output: OutputDirectory = None,
    beam: Beam = None,
    n_best: Annotated[Integer, typer.Option(help="Translations of each text.", show_default="1")] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Log-probability per piece, before a translation.")] = False,
    max_length: Annotated[
        Integer, typer.Option(help="Pieces of a translation.", show_default="twice the source's and ten")
    ] = None,
    json: Json = False,
) -> None:
    """Forecast beyond the end of DATA: a table, forecast.csv and forecast.png; or translate TEXT."""
    task = load(model)
    if isinstance(task, Translator):
        _refuse(task.name, given({"output": output}, set()))
        translate.predict(task, data, BEAM if beam is None else beam, n_best or 1, scores, max_length, json)
    elif isinstance(task, Forecaster):
        searching = {"beam": beam, "n_best": n_best, "max_length": max_length, "scores": scores or None}
        _refuse(task.name, given(searching, set()))
        _forecast(task, None if data is None else Path(data), model if output is None else output, json)
    else:
        raise InputError(f"predict is for forecasts and translations, but {model} is a {task.name} model; see score")


def _refuse(name: str, options: dict[str, Any]) -> None:
    for option in options:
        raise InputError(f"--{option.replace('_', '-')} is no option for a {name} model")


def _forecast(task: Forecaster, data: Path | None, folder: Path, json: bool) -> None:
    from gatewise.tasks.forecast.picture import draw
    from gatewise.tasks.forecast.table import rows, to_csv

    table = task.predict_table(data)
    with whole(folder, locked=False):
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


def score(
    model: ModelArgument,
    data: Annotated[Text, typer.Argument(metavar="DATA", show_default="what was held out")] = None,
    source: Annotated[File, typer.Option(help="Of translations, in place of a TSV: sentences, line by line,")] = None,
    target: Annotated[File, typer.Option(help="and their translations.")] = None,
    beam: Beam = None,
    json: Json = False,
) -> None:
    """Score a model on what was held out of its data, or on other data, beside naive baselines."""
    task = load(model)
    if isinstance(task, Translator):
        translate.score(task, data, source, target, BEAM if beam is None else beam, json)
        return
    _refuse(task.name, given({"source": source, "target": target, "beam": beam}, set()))
    scores = task.score(data)
    if json:
        print(dumps({"scores": scores}), end="")
    else:
        print_scores(scores)
