"""``gatewise trace``, ``gradients`` and ``trial``: inside a model, and the claims of the literature."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console

from gatewise.cli import translate
from gatewise.cli.common import Integer, Json, ModelArgument, Text, directory, print_table
from gatewise.tasks.base import Task, cell_of, load
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps, new_file, write_bytes, write_json
from gatewise.tasks.translate import Translator

InputArgument = Annotated[
    Text, typer.Argument(metavar="INPUT", help="As for predict.", show_default="the model's own data")
]
Picture = Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="New .png, .svg or .pdf file.")]
Row = Annotated[int, typer.Option(help="Which sequence, where the model reads several.", min=0)]


def _new_pair(output: str, suffix: str) -> tuple[Path, Path]:
    """A new picture and the new file with its data beside it."""
    from gatewise.study.plots import SUFFIXES

    picture = new_file(output, SUFFIXES)
    return picture, new_file(picture.with_suffix(suffix), (suffix,))


def trace(
    model: ModelArgument, data: InputArgument = None, output: Picture = "trace.png", row: Row = 0, json: Json = False
) -> None:
    """The gates of a model over an input: heat maps, rate of change, half-lives, of a translator the attention; a CSV
    beside the picture."""
    from gatewise.study.plots import trace_picture
    from gatewise.study.tracing import MOST_STEPS, nth, traced

    task = load(model)
    if isinstance(task, Translator):
        translate.trace(task, data, output, json)
        return
    picture, table = _new_pair(output, ".csv")
    found = traced(task, data, row)
    trace_picture(found, picture)
    write_bytes(table, found.csv().encode())
    steps = len(found.labels)
    if json:
        lives = dict(zip(found.units.tolist(), found.half_life.tolist(), strict=True))
        summary = {"cell": found.cell, "steps": steps, "keeper": found.keeper, "half_life_steps": lives}
        print(dumps({**summary, "picture": str(picture), "table": str(table)}), end="")
        return
    if found.keeper is not None:
        chosen = [("longest", 0), ("median", len(found.units) // 2), ("shortest", -1)]
        rows = [(name, str(found.units[k]), f"{found.half_life[k]:.2f}") for name, k in chosen]
        print_table([f"half-life by {found.keeper}", "unit", "steps"], rows)
    if steps > MOST_STEPS:
        drawn = nth(-(-steps // MOST_STEPS))
        print(f"{steps} steps are more than a picture shows: every {drawn} is drawn, all in the CSV")
    print(f"{picture}\n{table}")


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
    picture, figures = _new_pair(output, ".json")
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
    full: Annotated[bool, typer.Option("--full", help="More seeds, longer sweeps: hours.")] = False,
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

            def report(what: str, done: int, total: int) -> None:
                line = f"fit {done} of {total}: {what}"
                if console.is_terminal:
                    status.update(line)
                elif done % 10 == 0 or done == total:
                    print(line, file=sys.stderr)

            results = trial(output, full=full, report=report, processes=processes)
    except KeyboardInterrupt:
        print(f"gatewise: interrupted; {output} keeps what was fitted, the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    if json:
        print(dumps(results), end="")
        return
    print_table(["claim", "what is said", "verdict"], [(c["id"], c["claim"], c["verdict"]) for c in results["claims"]])
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
