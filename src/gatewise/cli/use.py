"""``gatewise predict``, ``score``, ``trace`` and ``export``: what a fitted model is for. Their options are its
task's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from gatewise.cli.arguments import by_model, made, parameters, with_parameters
from gatewise.cli.common import Json
from gatewise.cli.trace import TraceGates
from gatewise.tasks.errors import InputError

HELP = {
    "predict": "Apply a model: forecast, translate, write.",
    "score": "Score a model on held-out or other data, beside naive baselines.",
    "export": "Write a model in another format, such as ONNX, once it was run there and compared.",
    "trace": "The gates of a model over an input, as a picture and a CSV.",
}


def _app(name: str, words: str) -> typer.Typer:
    """The verb of this name."""

    def command(kind: Any, model: Path) -> Any:
        verb = kind.verb(name) or (TraceGates if name == "trace" else None)
        if verb is None:
            raise InputError(f"{name}: the task {kind.name} of the model in {model} has no such verb; see score")

        def run(*, json: Json = False, **given: Any) -> None:
            made(verb, given).run(kind.load(model), model, json)

        return with_parameters(run, parameters(verb), verb.__doc__)

    app = typer.Typer(
        cls=by_model(command),
        help=f"{words} What can be given depends on the model: see `gatewise {name} DIR --help`.",
        subcommand_metavar="DIR [ARGS]...",
        no_args_is_help=True,
    )

    @app.callback()
    def _root() -> None: ...

    return app


apps = {name: _app(name, words) for name, words in HELP.items()}
