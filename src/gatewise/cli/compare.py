"""``gatewise compare``: cells against each other on a task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gatewise.cli.arguments import by_task, directory, made, parameters, summary, with_parameters
from gatewise.cli.common import Backend, Json, backend_of
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.folder import dumps
from gatewise.tasks.registry import task_named
from gatewise.tasks.verbs import print_table

SET_BY_THE_STUDY = ("cell", "seed", "hidden_size", "max_steps", "devices", "num_nodes", "accelerator")


def _command(name: str) -> Any:
    """The command for a task; its options are the study's, and the task's that the study does not set."""
    kind = task_named(name)
    verb = kind.verb("fit")

    def run(
        *,
        cells: Annotated[
            str, typer.Option(help="Names, the reference first; one's own as module:cell or file.py:cell.")
        ] = "gru,lstm,rnn",
        hidden_size: Annotated[int, typer.Option(help="Of the reference.")] = 64,
        seeds: Annotated[int, typer.Option(help="Fits of each network.")] = 3,
        max_steps: Annotated[int, typer.Option(help="Training steps of a fit.")] = 400,
        equal: Annotated[str, typer.Option(help="What is equal: size, parameters, time.")] = "size,parameters",
        margin: Annotated[
            float, typer.Option(help="Difference that counts as none, as a share of the reference's figure.")
        ] = 0.05,
        output: Annotated[
            Path,
            typer.Option(
                "-o", "--output", metavar="DIR", parser=directory, help="Where compare.json, compare.png and fits go."
            ),
        ] = Path("runs/compare"),
        resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted comparison.")] = False,
        backend: Backend = None,
        json: Json = False,
        **given: Any,
    ) -> None:
        data = made(verb, given).chosen()
        options = {key: value for key, value in given.items() if value is not None}
        study = {"hidden_size": hidden_size, "seeds": seeds, "margin": margin, "resume": resume, "max_steps": max_steps}
        _compare(name, data, cells, equal, output, backend, json, study | options)

    held = [p.name for p in parameters(verb) if p.name.startswith("validation")]
    added = [*parameters(verb, held), *parameters(kind.options_type, SET_BY_THE_STUDY)]
    return with_parameters(run, added, f"Compare cells on this task: {summary(kind)}")


app = typer.Typer(
    cls=by_task(_command),
    help="Compare cells on a task: at equal size, parameters or training time.",
    no_args_is_help=True,
)


@app.callback()
def _root() -> None: ...


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
