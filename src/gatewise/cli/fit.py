"""``gatewise fit``: train a model for a task."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gatewise.cli.arguments import by_task, directory, made, parameters, summary, with_parameters
from gatewise.cli.common import Backend, Text, backend_of
from gatewise.tasks.errors import InputError, need
from gatewise.tasks.folder import dumps, state, typed
from gatewise.tasks.logs import TENSORBOARD, Events, Several, TensorBoard
from gatewise.tasks.progress import Progress
from gatewise.tasks.registry import task_named
from gatewise.tasks.verbs import Fit, FitData, print_scores


def _command(name: str) -> Any:
    """The command for a task; its options are the task's and its verb's."""
    kind = task_named(name)
    verb = kind.verb("fit")

    def run(
        *,
        output: Annotated[
            Path,
            typer.Option("-o", "--output", metavar="DIR", parser=directory, help="Directory of the run; must be new."),
        ],
        resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
        log: Annotated[Text, typer.Option(help="tensorboard: also for TensorBoard.", show_default="none")] = None,
        backend: Backend = None,
        json: Annotated[bool, typer.Option("--json", help="Print JSON; events on standard error.")] = False,
        **given: Any,
    ) -> None:
        asked = made(verb, given)
        options = {key: value for key, value in given.items() if value is not None}
        with backend_of(backend):
            task = _fitted(kind, asked, output, resume, _reporters(json, log, output), options)
        if not task.scores:  # another process of the training has them
            return
        best, kept = task.history.best, task.history.kept
        epochs = len(task.history.epochs)
        if json:
            summary = {"directory": str(output), "task": name, "cell": task.cell.name, "epochs": epochs}
            summary |= {"best_epoch": best.epoch, "kept_epoch": kept.epoch}
            print(dumps({**summary, "scores": task.scores, **asked.also(task)}), end="")
            return
        print_scores(task, task.scores)
        last = f", weights of the last ({kept.value:.3f})" if task.history.kept_last else ""
        print(f"{output}: {epochs} epochs, best {best.epoch} (validation {task.metric} {best.value:.3f}){last}")
        asked.after(task)

    doc = summary(kind) if verb in (Fit, FitData) else verb.__doc__
    return with_parameters(run, [*parameters(verb), *parameters(kind.options_type)], doc)


def _reporters(json: bool, log: str | None, output: Path) -> Any:
    """Who is told how the training goes."""
    first: Any = Events if json else Progress
    if log is None:
        return first
    if log != TENSORBOARD:
        raise InputError(f"log must be {TENSORBOARD}, got {log!r}")
    need(TENSORBOARD, TENSORBOARD)
    return Several((first, partial(TensorBoard, folder=output)))


def _fitted(kind: Any, asked: Any, output: Path, resume: bool, report: Any, options: dict[str, Any]) -> Any:
    """The task, fitted or gone on with."""
    data, held = asked.chosen(), asked.held()
    try:
        if resume:
            return kind.resume(output, data, validation=held, report=report, **options)
        return kind(**options).fit(data, validation=held, directory=output, report=report)
    except KeyboardInterrupt:
        print(f"gatewise: interrupted; {state(output)}{typed(output)}", file=sys.stderr)
        raise typer.Exit(130) from None


app = typer.Typer(
    cls=by_task(_command), help="Train a model for a task and score it on held-out data.", no_args_is_help=True
)


@app.callback()
def _root() -> None: ...
