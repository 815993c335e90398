"""Options of dataclasses on the command line, and the verbs whose options depend on a task or a model."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperCommand, TyperGroup

from gatewise.tasks.errors import InputError
from gatewise.tasks.options import default_of, ordered, types_of
from gatewise.tasks.registry import kind_of, names

NUMBERS, _ = LISTED = "NUMBERS", "NAMES"
"""What the values of an option are that takes several."""
Command = Callable[..., None]
"""What a verb does."""


def directory(text: Any) -> Path:
    """A directory from the command line."""
    return _path(text, "directory")


def file(text: Any) -> Path:
    """A file from the command line."""
    return _path(text, "file")


def _path(text: Any, what: str) -> Path:
    """A name must not be empty: Path would take it for the working directory."""
    if not str(text):
        raise typer.BadParameter(f"expected the name of a {what}, got ''")
    return Path(text)


def summary(kind: type) -> str:
    """The first sentence of a class's docstring."""
    return " ".join((kind.__doc__ or kind.__name__).split("\n\n")[0].split()).split(". ")[0].rstrip(".") + "."


def parameters(kind: type, without: Iterable[str] = ()) -> list[inspect.Parameter]:
    """The fields of a class of options as parameters that typer understands. Those that are not given are None, so that
    they can be told from those that are."""
    return [_parameter(kind, f) for f in ordered(kind) if f.name not in without]


def _parameter(kind: type, f: dataclasses.Field[Any]) -> inspect.Parameter:
    held: Any = types_of(kind)[f.name]
    held = held if held in (int, float, bool, Path) else str
    shown = default_of(f)
    if f.metadata["argument"]:
        parser = file if held is Path and not f.metadata["several"] else None
        how: Any = typer.Argument(
            metavar=f.metadata["metavar"], parser=parser, help=f.metadata["help"], show_default=shown
        )
    else:
        flags = f.metadata["flags"] or (f"--{f.name.replace('_', '-')}",)
        if held is Path and "--output" in flags:
            how = typer.Option(*flags, metavar="DIR", parser=directory, help=f.metadata["help"], show_default=shown)
        elif held is Path:
            how = typer.Option(
                *flags, metavar="FILE", parser=file, help=f.metadata["help"], show_default=shown or False
            )
        elif f.metadata["listed"]:
            how = typer.Option(
                *flags,
                metavar=f.metadata["listed"],
                help=f.metadata["help"],
                show_default=shown or False,
            )
        else:
            how = typer.Option(*flags, help=f.metadata["help"], show_default=shown or False)
    held = list[held] if f.metadata["several"] else held
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD if f.metadata["argument"] else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(f.name, place, default=None, annotation=Annotated[Optional[held], how])  # noqa: UP045


class Listing(TyperCommand):
    """A command that takes options of several values more than once, and several numbers behind one of numbers:
    ``--level 80 95``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = {flag: p.metavar for p in self.params if p.metavar in LISTED for flag in p.opts}
        return super().parse_args(ctx, _gathered(args, flags))


def _gathered(words: list[str], flags: Mapping[str, str]) -> list[str]:
    """The words of a command with each of these flags once, and all of its values behind it with commas."""
    found: dict[str, list[str]] = {}
    left, flag, waiting = [], "", False
    for word in words:
        name, equals, value = word.partition("=")
        if name in flags and not waiting:
            flag, waiting = name, not equals
            found.setdefault(flag, []).extend([value] if equals else [])
        elif waiting or (flags.get(flag) == NUMBERS and _is_numbers(word)):
            found[flag].append(word)
            waiting = False
        else:
            left.append(word)
            flag = ""
    given = [f"{name}={_joined(values)}" for name, values in found.items() if values]
    return [*given, *left, *([flag] if waiting else [])]


def _joined(values: list[str]) -> str:
    return values[0] if len(values) == 1 else ",".join(value.strip(",") for value in values)


def _is_numbers(word: str) -> bool:
    """Whether a word is a number, or several with commas, and not the name of a file."""
    try:
        [float(part) for part in word.strip(",").split(",")]
    except ValueError:
        return False
    return not Path(word).exists()


def with_parameters(run: Command, added: list[inspect.Parameter], doc: str | None) -> Command:
    """A function with the named parameters of ``run`` and more, which it gets as keywords."""

    def command(**values: Any) -> None:
        run(**values)

    own = [p for p in inspect.signature(run, eval_str=True).parameters.values() if p.kind is p.KEYWORD_ONLY]
    every = sorted([*added, *own], key=lambda p: p.kind)
    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    command.__doc__ = doc
    return command


def made(kind: type, values: dict[str, Any]) -> Any:
    """An object of a class of options from what the command line gave; what is its is taken out of ``values``."""
    taken = {f.name: values.pop(f.name) for f in dataclasses.fields(kind) if f.name in values}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in taken.items()}
    return kind(**{name: value for name, value in given.items() if value not in (None, ())})


def as_command(function: Command, name: str) -> Any:
    """A command of typer's."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, cls=Listing)(function)
    command = typer.main.get_command(app)
    command.name = name
    return command


def by_task(make: Callable[[str], Command]) -> type[TyperGroup]:
    """A group with a command for each task, made when it is asked for."""

    class ByTask(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(names())

        def get_command(self, ctx: Any, name: str) -> Any:
            if name not in names():
                ctx.fail(f"there is no task {name!r}; there are {', '.join(names())}")
            try:
                return as_command(make(name), name)
            except InputError as error:
                return _broken(name, str(error))

    return ByTask


def _broken(name: str, sentence: str) -> Any:
    """The command for a task of another package that cannot be used: the others can."""

    def command() -> None:
        raise InputError(sentence)

    command.__doc__ = sentence
    found = as_command(command, name)
    found.ignore_unknown_options = found.allow_extra_args = True
    return found


def by_model(make: Callable[[type, Path], Command]) -> type[TyperGroup]:
    """A group whose commands are the directories of models: what can be given depends on the model's task."""

    class ByModel(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return []

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
                ctx.fail(f"the directory of the model comes first, got {args[0]!r}")
            return super().parse_args(ctx, args)

        def get_command(self, ctx: Any, name: str) -> Any:
            model = directory(name)
            return as_command(make(kind_of(model), model), name)

    return ByModel
