"""``gatewise gradients``, ``trial`` and ``report``: inside a model, and the claims of the literature."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console

from gatewise.cli.arguments import directory
from gatewise.cli.common import Integer, Json, ModelArgument, Text
from gatewise.cli.trace import new_pair
from gatewise.tasks.base import Task
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps, write_json
from gatewise.tasks.registry import load
from gatewise.tasks.verbs import print_table

InputArgument = Annotated[
    Text, typer.Argument(metavar="INPUT", help="As for predict.", show_default="the model's own data")
]
Picture = Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="New .png, .svg or .pdf file.")]
Row = Annotated[int, typer.Option(help="Which sequence, where the model reads several.", min=0)]


def gradients(
    target: Annotated[str, typer.Argument(metavar="CELL|DIR", help="A cell, or the directory of a fitted model.")],
    data: InputArgument = None,
    output: Picture = "gradients.png",
    of: Annotated[
        Integer, typer.Option("--of", help="Output whose saliency is drawn.", show_default="the largest")
    ] = None,
    row: Row = 0,
    steps: Annotated[int, typer.Option(help="Of a cell: length of the sequence.")] = 100,
    input_size: Annotated[int, typer.Option(help="Of a cell.")] = 8,
    hidden_size: Annotated[int, typer.Option(help="Of a cell.")] = 32,
    seeds: Annotated[int, typer.Option(help="Of a cell.")] = 5,
    json: Json = False,
) -> None:
    """How far gradients reach: ‖∂h_T/∂s_t‖ over distance, of a fresh cell or of a model; saliency of its input."""
    from gatewise.study.gradients import BothWaysError, of_cell, of_model, saliency
    from gatewise.study.plots import gradient_picture

    task = _model(target)
    cell = None if task is not None else cell_of(target)
    picture, figures = new_pair(output, ".json")
    if task is None:
        if data is not None or of is not None:
            raise InputError(f"INPUT and --of belong to a model, but {target} is a cell")
        assert cell is not None
        flows = of_cell(cell, input_size=input_size, hidden_size=hidden_size, steps=steps, seeds=seeds)
        salient, title = None, f"{cell.name} as it starts: {hidden_size} units, {seeds} seeds, normal inputs"
    else:
        salient = saliency(task, data, of, row)
        try:
            flows = [of_model(task, data, row)[0]]
        except BothWaysError as error:
            flows = []
            print(f"{error}: its saliency alone is drawn", file=sys.stderr)
        title = f"{task.cell.name} of {target}"
    gradient_picture(title, flows, picture, salient)
    record: dict[str, Any] = {"title": title, "flows": [flow.as_json() for flow in flows]}
    record |= {} if salient is None else {"saliency": vars(salient)}
    write_json(figures, record)
    if json:
        print(dumps(record), end="")
        return
    if flows:
        far = len(flows[0].mean) - 1
        rows = [(f.label, f"{f.mean[1]:.3g}", f"{f.mean[far]:.3g}", f"{f.factor:.4f}") for f in flows]
        print_table(["initialisation", "after 1 step", f"after {far} steps", "factor per step"], rows)
    print(f"{picture}\n{figures}")


def trial(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", parser=directory, help="Where page, figures and fits go.")
    ] = Path("trial"),
    full: Annotated[
        bool, typer.Option("--full", help="More seeds, longer sweeps: up to two hours on two cores.")
    ] = False,
    only: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Claims to judge, such as C9,C6; checks for those of the instrument.", show_default="all"),
    ] = None,
    music: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE", help="What benches.chung2014 measured, for the check on music.", show_default="not run"
        ),
    ] = None,
    processes: Annotated[Integer, typer.Option(help="Trainings at a time.", min=1, show_default="the cores")] = None,
    json: Json = False,
) -> None:
    """What the literature claims of the GRU, put on trial: a page with a verdict for each claim; the same
    command goes on after Ctrl-C."""
    from gatewise.study.trial import trial
    from gatewise.study.trial.run import PAGE, RESULTS

    console = Console(stderr=True)
    try:
        with console.status("training") as status:

            def report(what: str, done: int, total: int, left: float) -> None:
                line = f"fit {done} of {total}, at most about {math.ceil(left / 60)} minutes left: {what}"
                if console.is_terminal:
                    status.update(line)
                elif done % 10 == 0 or done == total:
                    print(line, file=sys.stderr)

            names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
            results = trial(output, full=full, only=names, music=music, report=report, processes=processes)
    except KeyboardInterrupt:
        print(f"gatewise: interrupted; {output} keeps what was fitted, the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    if json:
        print(dumps(results), end="")
        return
    if results["checks"]:
        found = [(c["id"], c["known"], c["outcome"]) for c in results["checks"]]
        print_table(["check", "what is known", "outcome"], found)
    rows = [(c["id"], c["claim"], c["verdict"], c["agreement"]) for c in results["claims"]]
    print_table(["claim", "what is said", "verdict", "beside the full trial"], rows)
    print(f"{output / PAGE}\n{output / RESULTS}")


def report(
    model: ModelArgument,
    data: InputArgument = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "-o", "--output", metavar="DIR", parser=directory, help="For the page.", show_default="the model's"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """One page about a model: equations, diagram, training, scores, gates with hover, gradients; its figures beside."""
    from gatewise.study.report import FIGURES, PAGE, report

    found = report(model, output, data)
    folder = model if output is None else output
    if json:
        print(dumps(found), end="")
    else:
        print(f"{folder / PAGE}\n{folder / FIGURES}")


def _model(target: str) -> Task | None:
    """The model in a directory; None for what is no directory, and so must be a cell."""
    if Path(target).is_dir() or (("/" in target or "\\" in target) and ":" not in target):
        return load(target)
    return None
