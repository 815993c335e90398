"""Which tasks there are: the built-in ones, and those that installed packages offer as entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
from functools import lru_cache
from pathlib import Path

from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import CONFIG, read_json

GROUP = "gatewise.tasks"
"""The entry points of a package that brings tasks: ``name = "module:Class"``."""
TASKS = {
    "forecast": "gatewise.tasks.forecast.forecaster:Forecaster",
    "translate": "gatewise.tasks.translate.translator:Translator",
    "language": "gatewise.tasks.language.language_model:LanguageModel",
    "transcribe": "gatewise.tasks.transcribe.transcriber:Transcriber",
    "adding": "gatewise.tasks.exercises:Adding",
    "copy": "gatewise.tasks.exercises:Copy",
    "digits": "gatewise.tasks.exercises:Digits",
    "mackey_glass": "gatewise.tasks.exercises:MackeyGlass",
}


@lru_cache(maxsize=1)
def names() -> dict[str, str]:
    """Name of every task and the place of its class, the built-in ones first.

    Raises:
        InputError: when two packages offer a task of one name.
    """
    found = dict(TASKS)
    for point in importlib.metadata.entry_points(group=GROUP):
        if found.setdefault(point.name, point.value) != point.value:
            raise InputError(f"two packages offer a task {point.name!r}: {found[point.name]} and {point.value}")
    return found


def task_named(name: str) -> type[Task]:
    """The class of a task by its name on the command line.

    Raises:
        InputError: for a name that is none, or a task of another package that cannot be imported.
    """
    places = names()
    if name not in places:
        raise InputError(f"task must be one of {', '.join(places)}, got {name!r}")
    module, _, attribute = places[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        if name in TASKS:
            raise
        raise InputError(f"task {name!r}: {places[name]} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Task) and found.name == name):
        raise InputError(f"task {name!r}: {places[name]} must be a gatewise.tasks.Task whose name is {name!r}")
    return found


def load(directory: str | Path) -> Task:
    """Load a saved model of whatever task.

    Raises:
        InputError: for a directory that holds none, or a missing, truncated or foreign file.
    """
    return kind_of(directory).load(directory)


def kind_of(directory: str | Path) -> type[Task]:
    """The class of the task that a saved model is of.

    Raises:
        InputError: for a directory that holds none.
    """
    return task_named(str(read_json(Path(directory) / CONFIG).get("task")))
