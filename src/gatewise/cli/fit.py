"""``gatewise fit``: train a model for a task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gatewise.cli.arguments import by_task, directory, made, parameters, task_named, with_parameters
from gatewise.cli.common import Backend, Json, backend_of
from gatewise.tasks.folder import dumps, state
from gatewise.tasks.machines import is_first
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
        backend: Backend = None,
        json: Json = False,
        **given: Any,
    ) -> None:
        asked = made(verb, given)
        options = {key: value for key, value in given.items() if value is not None}
        task = _fitted(kind, asked, output, resume, backend, options)
        if not is_first():
            return
        best = task.history.best
        epochs = len(task.history.epochs)
        if json:
            summary = {"directory": str(output), "task": name, "cell": task.cell.name, "epochs": epochs}
            print(dumps({**summary, "best_epoch": best.epoch, "scores": task.scores}), end="")
            return
        print_scores(task, task.scores)
        print(f"{output}: {epochs} epochs, best {best.epoch} (validation {task.metric} {best.value:.3f})")
        asked.after(task)

    doc = (kind.__doc__ or "").splitlines()[0] if verb in (Fit, FitData) else verb.__doc__
    return with_parameters(run, [*parameters(verb), *parameters(kind.options_type)], doc)


def _fitted(kind: Any, asked: Any, output: Path, resume: bool, backend: str | None, options: dict[str, Any]) -> Any:
    """The task, fitted or gone on with."""
    from gatewise.tasks.progress import Progress

    data, held = asked.chosen(), asked.held()
    try:
        with backend_of(backend):
            if resume:
                return kind.resume(output, data, validation=held, report=Progress, **options)
            return kind(**options).fit(data, validation=held, directory=output, report=Progress)
    except KeyboardInterrupt:
        print(f"gatewise: interrupted; {state(output)}", file=sys.stderr)
        raise typer.Exit(130) from None


app = typer.Typer(
    cls=by_task(_command), help="Train a model for a task and score it on held-out data.", no_args_is_help=True
)


@app.callback()
def _root() -> None: ...
