"""What all verbs share: the root of the command line, arguments, ways to print."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Optional

import typer

from gatewise.tasks.errors import InputError

app = typer.Typer(
    help="Gated recurrent networks: train, predict, score, compare.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# `Optional` and not `| None`: typer evaluates these at run time.
ModelArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a fitted model.")]


Integer = Optional[int]  # noqa: UP045
Text = Optional[str]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Backend = Annotated[Text, typer.Option(help="auto, cpu, cuda or eager.", show_default="auto")]


def _version(asked: bool) -> None:
    if asked:
        print(importlib.metadata.version("gatewise"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None: ...


@contextlib.contextmanager
def backend_of(name: str | None) -> Iterator[None]:
    """Force a backend where one was asked for."""
    from gatewise import backends

    if name is None:
        yield
        return
    if name not in backends.NAMES:
        raise InputError(f"backend must be one of {', '.join(backends.NAMES)}, got {name!r}")
    with backends.backend(name):
        yield
