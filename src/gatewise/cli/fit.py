"""``gatewise fit``: train a model for a task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from gatewise.cli.common import (
    Backend,
    DataArgument,
    Horizon,
    Integer,
    Json,
    Precision,
    Real,
    Season,
    Text,
    backend_of,
    directory,
    given,
    print_scores,
)
from gatewise.tasks.base import task_named
from gatewise.tasks.folder import dumps, state

app = typer.Typer(help="Train a model for a task and score it on held-out data.", no_args_is_help=True)


@app.command("forecast")
def fit_forecast(
    data: DataArgument = None,
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", parser=directory, help="Directory of the run; must be new."),
    ],
    horizon: Horizon = None,
    season: Season = None,
    cell: Annotated[Text, typer.Option(help="Cell; see `gatewise cells`.", show_default="gru")] = None,
    hidden_size: Annotated[Integer, typer.Option(show_default="64")] = None,
    num_layers: Annotated[Integer, typer.Option(show_default="1")] = None,
    dropout: Annotated[Real, typer.Option(help="Between layers.", show_default="0")] = None,
    epochs: Annotated[Integer, typer.Option(help="Of 25 steps.", show_default="16")] = None,
    max_steps: Annotated[Integer, typer.Option(help="Steps in all.", show_default="no limit")] = None,
    learning_rate: Annotated[Real, typer.Option(help="At its peak.", show_default="0.003")] = None,
    patience: Annotated[Integer, typer.Option(help="Epochs without improvement.", show_default="8")] = None,
    seed: Annotated[Integer, typer.Option(help="Same seed, same result.", show_default="0")] = None,
    label: Annotated[Text, typer.Option(help="What the values are, with unit.", show_default="column name")] = None,
    precision: Precision = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Train a forecaster of time series."""
    options = given(locals(), without={"data", "output", "resume", "backend", "json"})
    run_fit("forecast", data, None, output, resume, 1, backend, json, options)


def run_fit(
    name: str,
    data: Any,
    validation: Any,
    output: Path,
    resume: bool,
    devices: int,
    backend: str | None,
    json: bool,
    options: dict[str, Any],
) -> Any:
    """Fit or resume, and say how it went; the fitted task."""
    from gatewise.tasks.progress import Progress

    kind = cast(Any, task_named(name))
    how: dict[str, Any] = {"report": Progress, "devices": devices}
    if "precision" in options:
        how["precision"] = options.pop("precision")
    try:
        with backend_of(backend):
            if resume:
                task = kind.resume(output, data, validation=validation, **how, **options)
            else:
                task = kind(**options).fit(data, validation=validation, directory=output, **how)
    except KeyboardInterrupt:
        print(f"gatewise: interrupted; {state(output)}", file=sys.stderr)
        raise typer.Exit(130) from None
    best = task.history.best
    if json:
        summary = {"directory": str(output), "task": name, "cell": task.cell.name, "epochs": len(task.history.epochs)}
        print(dumps({**summary, "best_epoch": best.epoch, "scores": task.scores}), end="")
        return task
    print_scores(task.scores, "held-out horizon" if name == "forecast" else "held out")
    print(f"{output}: {len(task.history.epochs)} epochs, best {best.epoch} (validation {task.metric} {best.value:.3f})")
    return task
