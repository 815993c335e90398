"""What the command line asks a task for, and what is printed of it: a class of options for each verb, which a task may
replace by one of its own."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.tasks.errors import need
from gatewise.tasks.folder import dumps
from gatewise.tasks.options import argument, option
from gatewise.tasks.outcome import Scores, verdict


@dataclass(frozen=True, kw_only=True)
class Verb:
    """The options of a verb; the docstring of a subclass is its help."""


@dataclass(frozen=True, kw_only=True)
class Fit(Verb):
    """Train a model on data that the task makes itself."""

    def chosen(self) -> Any:
        """What ``Task.fit`` takes as its data."""
        return None

    def held(self) -> Any:
        """What ``Task.fit`` takes as its validation data. Options for it have names that begin with ``validation``."""
        return None

    def after(self, task: Any) -> None:
        """Print what is to be said of a fitted model beside its scores."""

    def also(self, task: Any) -> dict[str, Any]:
        """The same for ``--json``: what stands in it beside the scores."""
        return {}


@dataclass(frozen=True, kw_only=True)
class FitData(Fit):
    """Train a model on DATA."""

    data: Path | None = argument(None, "Training data; see the task.", metavar="DATA", shown="the embedded ones")

    def chosen(self) -> Any:
        return self.data


@dataclass(frozen=True, kw_only=True)
class Predict(Verb):
    """Apply a model to DATA."""

    data: str | None = argument(
        None, "What to apply it to; see the task.", metavar="DATA", shown="some of its own data"
    )

    def run(self, task: Any, model: Path, json: bool) -> None:
        """Print what ``Task.predict`` returns: lines of texts, or a table of columns by name."""
        found = task.predict(self.data)
        if isinstance(found, dict):
            found = {name: np.asarray(column).tolist() for name, column in found.items()}
        if json:
            print(dumps({"predictions": found}), end="")
        elif isinstance(found, dict):
            print_table(list(found), [tuple(map(str, row)) for row in zip(*found.values(), strict=True)])
        else:
            print("\n".join(map(str, found)))


@dataclass(frozen=True, kw_only=True)
class Score(Verb):
    """Score a model on what was held out, beside naive baselines."""

    def chosen(self) -> Any:
        """What ``Task.score`` takes."""
        return None

    def run(self, task: Any, model: Path, json: bool) -> None:
        """Print what ``Task.score`` returns."""
        scores = task.score(self.chosen())
        if json:
            print(dumps({"scores": scores}), end="")
        else:
            print_scores(task, scores)


@dataclass(frozen=True, kw_only=True)
class ScoreData(Score):
    """Score a model on DATA, or on what was held out of its own, beside naive baselines."""

    data: str | None = argument(None, "As for fit.", metavar="DATA", shown="what was held out")

    def chosen(self) -> Any:
        return self.data


@dataclass(frozen=True, kw_only=True)
class Trace(Verb):
    """Look inside a model while it reads INPUT: a picture, and a CSV beside it."""

    data: str | None = argument(None, "As for predict.", metavar="INPUT", shown="the model's own data")
    output: str = option("trace.png", "New .png, .svg or .pdf file.", flags=("-o", "--output"))
    row: int = option(0, "Which sequence, where the model reads several.")


def print_scores(task: Any, scores: Scores, title: str | None = None) -> None:
    """Print scores as a table, and a sentence where a naive baseline is better."""
    metrics = list(next(iter(scores.values())))
    rows = [(name, *(f"{values.get(m, float('nan')):.3f}" for m in metrics)) for name, values in scores.items()]
    print_table([title or task.held_out_name, *metrics], rows)
    sentence = verdict(scores, task.metric, task.higher_is_better)
    if sentence:
        print(sentence)


def print_table(header: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table; a column without any entry is left out."""
    need("rich")
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    numeric = [bool(rows) and row.replace(",", "").lstrip("-")[:1].isdigit() for row in (rows[0] if rows else ())]
    filled = [any(column) for column in zip(*rows, strict=True)] if rows else [True] * len(header)
    for name, right in itertools.compress(zip(header, numeric, strict=True), filled):
        table.add_column(Text(name), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(Text(printable(entry)) for entry in itertools.compress(row, filled)))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def printable(text: str) -> str:
    """A text without characters that steer a terminal: a model or a data file may hold any."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
