"""What all verbs share: the root of the command line, arguments, ways to print."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

from gatewise.tasks.base import Scores
from gatewise.tasks.errors import InputError

app = typer.Typer(
    help="Gated recurrent networks: train, predict, score, compare.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# `Optional` and not `| None`: typer evaluates these at run time.
DataArgument = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(help="CSV with unique_id, ds, y or two columns: time, value.", show_default="weekly CO₂, embedded"),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a fitted model.")]
Horizon = Annotated[Optional[int], typer.Option(help="Steps to forecast.", show_default="one season")]  # noqa: UP045
Season = Annotated[Optional[int], typer.Option(help="Steps in a season.", show_default="from the frequency")]  # noqa: UP045


def directory(text: Any) -> Path:
    """A directory from the command line, whose name must not be empty: Path would take it for the current one."""
    if not str(text):
        raise typer.BadParameter("expected the name of a directory, got ''")
    return Path(text)


Integer = Optional[int]  # noqa: UP045
Text = Optional[str]  # noqa: UP045
Real = Optional[float]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Precision = Annotated[Text, typer.Option(help="Of training: 32-true or bf16-mixed.", show_default="32-true")]
Backend = Annotated[Text, typer.Option(help="auto, cpu or eager.", show_default="auto")]


def given(arguments: dict[str, Any], without: set[str]) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in arguments.items() if value is not None and name not in without}


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


def print_scores(scores: Scores, title: str = "held-out horizon") -> None:
    metrics = list(next(iter(scores.values())))
    rows = [(name, *(f"{values[m]:.3f}" for m in metrics)) for name, values in scores.items()]
    print_table([title, *metrics], rows)


def print_table(header: list[str], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False)
    numeric = [bool(rows) and row.replace(",", "").lstrip("-")[:1].isdigit() for row in rows[0]]
    filled = [any(column) for column in zip(*rows, strict=True)]  # a column without any entry is left out
    for name, right in itertools.compress(zip(header, numeric, strict=True), filled):
        table.add_column(name, justify="right" if right else "left")
    for row in rows:
        table.add_row(*itertools.compress(row, filled))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
