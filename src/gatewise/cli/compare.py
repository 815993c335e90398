"""``gatewise compare``: cells against each other on a task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gatewise.cli.common import (
    Backend,
    DataArgument,
    Horizon,
    Integer,
    Json,
    Real,
    Season,
    backend_of,
    directory,
    given,
    print_table,
)
from gatewise.cli.translate import Decoder, Embedding, Kind, Pairs, Source, Target, pair_files
from gatewise.tasks.base import cell_of
from gatewise.tasks.folder import dumps

app = typer.Typer(help="Compare cells on a task: at equal size, parameters or training time.", no_args_is_help=True)

Cells = Annotated[str, typer.Option(help="Names, the reference first; one's own as module:cell or file.py:cell.")]
Units = Annotated[int, typer.Option(help="Of the reference.")]
Seeds = Annotated[int, typer.Option(help="Fits of each network.")]
Steps = Annotated[int, typer.Option(help="Training steps of a fit.")]
Equal = Annotated[str, typer.Option(help="What is equal: size, parameters, time.")]
Margin = Annotated[float, typer.Option(help="Difference that counts as none, as a share of the reference's figure.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted comparison.")]
Output = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="DIR", parser=directory, help="Where compare.json, compare.png and fits go."
    ),
]
PLACE = Path("runs/compare")
EQUAL = "size,parameters"


@app.command("forecast")
def compare_forecast(
    data: DataArgument = None,
    cells: Cells = "gru,lstm,rnn",
    hidden_size: Units = 64,
    seeds: Seeds = 3,
    max_steps: Steps = 400,
    horizon: Horizon = None,
    season: Season = None,
    equal: Equal = EQUAL,
    margin: Margin = 0.05,
    output: Output = PLACE,
    resume: Resume = False,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Compare cells as forecasters."""
    options = given({"max_steps": max_steps, "horizon": horizon, "season": season}, without=set())
    study = {"hidden_size": hidden_size, "seeds": seeds, "margin": margin, "resume": resume}
    _compare("forecast", data, cells, equal, output, backend, json, study | options)


@app.command("translate")
def compare_translate(
    data: Pairs = None,
    source: Source = None,
    target: Target = None,
    cells: Cells = "gru,lstm,rnn",
    hidden_size: Annotated[int, typer.Option(help="Of the reference; even.")] = 64,
    embedding_size: Embedding = None,
    decoder: Decoder = None,
    vocabulary: Kind = None,
    seeds: Seeds = 3,
    max_steps: Steps = 400,
    learning_rate: Annotated[Real, typer.Option(help="At its peak.", show_default="0.001; embedded: 0.004")] = None,
    equal: Equal = EQUAL,
    margin: Margin = 0.05,
    output: Output = PLACE,
    resume: Resume = False,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Compare cells as translators."""
    asked = {"embedding_size": embedding_size, "decoder": decoder, "vocabulary": vocabulary}
    options = given({**asked, "learning_rate": learning_rate, "max_steps": max_steps}, without=set())
    study = {"hidden_size": hidden_size, "seeds": seeds, "margin": margin, "resume": resume}
    chosen = pair_files(data, source, target, "")
    _compare("translate", chosen, cells, equal, output, backend, json, study | options)


def _exercise(name: str, words: str) -> None:
    """A verb for an exercise that makes its own examples."""

    def run(
        cells: Cells = "gru,lstm,rnn",
        hidden_size: Units = 32,
        seeds: Seeds = 3,
        max_steps: Steps = 800,
        span: Annotated[Integer, typer.Option(help="Steps to keep, or how far ahead.", show_default="its own")] = None,
        share: Annotated[Real, typer.Option(help="Part of the training data.", show_default="all")] = None,
        learning_rate: Annotated[Real, typer.Option(help="At its peak.", show_default="0.005")] = None,
        equal: Equal = EQUAL,
        margin: Margin = 0.05,
        output: Output = PLACE,
        resume: Resume = False,
        backend: Backend = None,
        json: Json = False,
    ) -> None:
        options = given({"span": span, "share": share, "learning_rate": learning_rate}, without=set())
        study = {"hidden_size": hidden_size, "seeds": seeds, "margin": margin, "resume": resume, "max_steps": max_steps}
        _compare(name, None, cells, equal, output, backend, json, study | options)

    app.command(name, help=words)(run)


_exercise("adding", "Compare cells on the adding problem: two marked numbers, their sum at the end.")
_exercise("copy", "Compare cells on copy memory: five symbols to be said again after a span.")
_exercise("digits", "Compare cells on hand-written digits, read pixel by pixel.")
_exercise("mackey_glass", "Compare cells on a chaotic series, some steps ahead.")


def _compare(
    task: str,
    data: Any,
    cells: str,
    equal: str,
    output: Path,
    backend: str | None,
    json: bool,
    options: dict[str, Any],
) -> None:
    from gatewise.study.compare import compare
    from gatewise.study.picture import draw

    names = [name.strip() for name in cells.split(",")]
    chosen = [cell_of(name) for name in names]
    sizings = [name.strip() for name in equal.split(",")]
    console = Console(stderr=True)
    try:
        with backend_of(backend), console.status(f"comparing {', '.join(names)}") as status:

            def report(what: str, done: int, total: int) -> None:
                line = f"fit {done + 1} of {total}: {what}"
                status.update(line) if console.is_terminal else print(line, file=sys.stderr)

            result = compare(task, data, cells=chosen, equal=sizings, directory=output, report=report, **options)
    except KeyboardInterrupt:
        print(f"gatewise: interrupted; {output} keeps what was fitted, --resume goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    draw(result, output / "compare.png")
    if json:
        print(dumps(result.as_json()), end="")
        return
    _print(result)
    print(f"{output / 'compare.json'}\n{output / 'compare.png'}")


def _print(result: Any) -> None:
    labels = {"size": "equal size", "parameters": "equal parameters", "time": "equal time", "both": "reference"}
    rows = [
        (
            e.cell,
            labels[e.sizing],
            str(e.hidden_size),
            f"{e.parameters:,}",
            f"{e.mean:.3f} ± {e.spread:.3f}",
            f"{1e3 * e.seconds_per_step:.1f}",
            "" if e.inference_seconds is None else f"{1e3 * e.inference_seconds:.2f}",
            f"{e.training_bytes / 2**20:.1f}",
        )
        for e in result.entries
    ]
    rows += [(name, "baseline", "", "", f"{value:.3f}", "", "", "") for name, value in result.baselines.items()]
    better = "higher" if result.higher_is_better else "lower"
    header = ["cell", "sizing", "hidden size", "parameters", f"{result.metric} ({better} is better)", "ms/step"]
    print_table([*header, f"ms/{result.inference}", "MiB in training"], rows)
    print("\n".join(result.sentences()))
