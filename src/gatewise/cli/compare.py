"""``gatewise compare``: cells against each other on a task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gatewise.cli.common import Backend, DataArgument, Horizon, Json, Season, backend_of, directory, given, print_table
from gatewise.tasks.base import cell_of
from gatewise.tasks.folder import dumps

app = typer.Typer(help="Compare cells on a task, at equal size and at equal parameters.", no_args_is_help=True)


@app.command("forecast")
def compare_forecast(
    data: DataArgument = None,
    cells: Annotated[str, typer.Option(help="Names, the reference first.")] = "gru,lstm,rnn",
    hidden_size: Annotated[int, typer.Option(help="Of the reference.")] = 64,
    seeds: Annotated[int, typer.Option(help="Fits of each network.")] = 3,
    max_steps: Annotated[int, typer.Option(help="Training steps of a fit.")] = 400,
    horizon: Horizon = None,
    season: Season = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", parser=directory, help="Where compare.json and compare.png go."),
    ] = Path("runs/compare"),
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Compare cells as forecasters: parameters, score, time per training step."""
    options = given({"max_steps": max_steps, "horizon": horizon, "season": season}, without=set())
    names = [name.strip() for name in cells.split(",")]
    _compare("forecast", data, names, hidden_size, seeds, output, backend, json, options)


def _compare(
    task: str,
    data: Path | None,
    names: list[str],
    hidden_size: int,
    seeds: int,
    output: Path,
    backend: str | None,
    json: bool,
    options: dict[str, Any],
) -> None:
    from gatewise.study.compare import compare
    from gatewise.study.picture import draw

    chosen = [cell_of(name) for name in names]
    console = Console(stderr=True)
    with backend_of(backend), console.status(f"comparing {', '.join(names)}") as status:

        def report(what: str, done: int, total: int) -> None:
            line = f"fit {done + 1} of {total}: {what}"
            status.update(line) if console.is_terminal else print(line, file=sys.stderr)

        result = compare(
            task, data, cells=chosen, hidden_size=hidden_size, seeds=seeds, directory=output, report=report, **options
        )
    draw(result, output / "compare.png")
    if json:
        print(dumps(result.as_json()), end="")
        return
    labels = {"size": "equal size", "parameters": "equal parameters", "both": "reference"}
    rows = [
        (
            e.cell,
            labels[e.sizing],
            str(e.hidden_size),
            f"{e.parameters:,}",
            f"{e.mean:.3f} ± {e.spread:.3f}",
            f"{1e3 * e.seconds_per_step:.1f}",
        )
        for e in result.entries
    ]
    rows += [(name, "baseline", "", "", f"{value:.3f}", "") for name, value in result.baselines.items()]
    print_table(["cell", "sizing", "hidden size", "parameters", f"{result.metric} (lower is better)", "ms/step"], rows)
    print(f"{output / 'compare.json'}\n{output / 'compare.png'}")
