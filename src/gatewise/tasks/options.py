"""What a task may be asked for. Each option stands once, as a field with its help, check and default: the constructor,
``config.json``, the command line and the tables of the documentation come from it."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gatewise.compiler import Cell
from gatewise.nn import initialise
from gatewise.tasks import checks
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.errors import InputError
from gatewise.tasks.machines import ACCELERATORS, MOST_DEVICES, MOST_NODES, PRECISIONS

if TYPE_CHECKING:
    from typing_extensions import Self


def option(
    default: Any,
    help: str,
    check: checks.Check | None = None,
    *,
    shown: str | None = None,
    flags: tuple[str, ...] = (),
    may_be_none: bool = False,
    kept: bool = True,
    several: bool = False,
    listed: str | None = None,
) -> Any:
    """A field that is an option.

    Args:
        default: its value where none is given; with None the value may be None. help: one line about it.
        check: called with its name and value, raises InputError. shown: the default in words, where the value says
            less. flags: its names on the command line, where they are not ``--its-name``.
        may_be_none: whether None may be given though it is not the default.
        kept: whether it is part of what a run is: written into ``config.json``, and the same when it is resumed.
        several: whether the command line takes it more than once; its value is then a tuple.
        listed: what a text with commas lists, NUMBERS or NAMES. The command line takes such an option more than once
            too, and several numbers behind it: ``--level 80 95``.
    """
    described = {"help": help, "check": check, "shown": shown, "flags": flags, "kept": kept, "argument": False}
    described.update(several=several, listed=listed)
    return field(default=default, metadata={**described, "may_be_none": may_be_none or default is None})


def argument(default: Any, help: str, *, metavar: str, shown: str, several: bool = False) -> Any:
    """A field that the command line takes by its place and not by a name; several of them as a tuple."""
    described = {"help": help, "check": None, "shown": shown, "flags": (), "kept": False, "argument": True}
    described["several"] = several
    return field(default=default, metadata={**described, "metavar": metavar, "may_be_none": True})


def again(kind: type, name: str, default: Any, shown: str | None = None) -> Any:
    """The option of this name of another class of options, with another default."""
    inherited = next(f for f in dataclasses.fields(kind) if f.name == name)
    metadata = {**inherited.metadata, "shown": shown}
    metadata["may_be_none"] = metadata["may_be_none"] or default is None
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What every task may be asked for."""

    inputs: ClassVar[tuple[str, ...]] = ()
    """What the task's data provide at every step beside x, for cells that take it by name."""
    default_epochs: ClassVar[int] = 16
    """Where neither ``epochs`` nor ``max_steps`` says how long to train."""

    cell: Cell = option(
        "gru", "Cell of the recurrent layers: a name (see `gatewise cells`), `module:cell` or `file.py:cell`."
    )
    hidden_size: int = option(64, "Units of a recurrent layer.", checks.integer(1, checks.MOST_UNITS))
    num_layers: int = option(1, "Recurrent layers.", checks.integer(1, checks.MOST_LAYERS))
    dropout: float = option(0.0, "Share of units dropped in training, between layers.", checks.share)
    initialise: str = option(
        "torch",
        f"How recurrent layers start: {', '.join(initialise.NAMED)}, or biases by gate, such as f=1.",
        checks.text,
    )
    epochs: int | None = option(
        None, "Epochs of training at most.", checks.integer(1, checks.MOST), shown="16, or what max_steps makes"
    )
    max_steps: int | None = option(
        None, "Steps of the optimiser in all.", checks.integer(1, checks.MOST), shown="no limit"
    )
    learning_rate: float = option(3e-3, "Learning rate at its peak.", checks.number_above_zero(1))
    patience: int | None = option(8, "Epochs without improvement before it stops.", checks.integer(1, checks.MOST))
    seed: int = option(0, "Same seed, same result.", checks.integer(0, checks.MOST_SEED))
    precision: str = option("32-true", f"Of training: {' or '.join(PRECISIONS)}.", checks.choice(*PRECISIONS))
    accelerator: str = option(
        "cpu", f"Where training runs: {', '.join(ACCELERATORS)}.", checks.choice(*ACCELERATORS), kept=False
    )
    devices: int = option(1, "Processes of a host that share every batch.", checks.integer(1, MOST_DEVICES), kept=False)
    num_nodes: int = option(1, "Hosts that share every batch.", checks.integer(1, MOST_NODES), kept=False)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value, check = getattr(self, f.name), f.metadata["check"]
            if isinstance(value, np.generic):  # of an integer array, say: config.json has Python's own
                value = value.item()
                object.__setattr__(self, f.name, value)
            if check is not None and not (value is None and f.metadata["may_be_none"]):
                check(f.name, value)
        object.__setattr__(self, "cell", cell_of(self.cell))
        self.check()

    def check(self) -> None:
        """Checks of several options together; a class with more of them calls this one too.

        Raises:
            InputError: for values that do not go together.
        """
        checks.check_size(self.hidden_size or 1, self.num_layers)
        try:
            initialise.check("options", self.initialise, self.cell)
        except ValueError as error:
            raise InputError(str(error).removeprefix("options: ")) from None
        unknown = [name for name, *_ in self.cell.inputs if name not in self.inputs]
        if unknown:
            known = f"the data provide {', '.join(self.inputs)}" if self.inputs else "expected a cell of x alone"
            raise InputError(f"cell: {self.cell.name} takes {unknown[0]} at every step, {known}")

    def epochs_of(self, steps: int) -> int:
        """How many epochs of so many steps to train for, at most."""
        if self.epochs is not None:
            return self.epochs
        return self.default_epochs if self.max_steps is None else -(-self.max_steps // steps)

    def as_json(self) -> dict[str, Any]:
        """The options that are part of what a run is, without the cell."""
        return {name: getattr(self, name) for name in kept(type(self))}

    def filled(self, defaults: Mapping[str, Any]) -> Self:
        """With these values where none was asked for."""
        unset = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **unset)

    @classmethod
    def of(cls, given: Mapping[str, Any], place: str) -> Self:
        """From values by name.

        Raises:
            InputError: for a name that is none of an option, or a bad value; ``place`` says whose it is.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for name in given:
            if name not in names:
                raise InputError(f"{place} has no option {name!r}; its options are {', '.join(names)}")
        return cls(**given)


@lru_cache
def types_of(kind: type) -> dict[str, Any]:
    """Type of each option of a class: int, float, str, bool, Path or Cell; without the None that it may be, and of
    several the type of each."""
    hints = typing.get_type_hints(kind)
    found = {}
    for f in dataclasses.fields(kind):
        parts = [part for part in typing.get_args(hints[f.name]) if part is not type(None)]
        held = parts[0] if parts else hints[f.name]
        found[f.name] = typing.get_args(held)[0] if f.metadata["several"] else held
    return found


def kept(kind: type) -> list[str]:
    """The names of the options that are part of what a run is, without the cell."""
    return [f.name for f in dataclasses.fields(kind) if f.metadata["kept"] and f.name != "cell"]


def ordered(kind: type) -> list[dataclasses.Field[Any]]:
    """The options of a class, those that not every task has first."""
    common = {f.name for f in dataclasses.fields(TaskOptions)}
    return sorted(dataclasses.fields(kind), key=lambda f: f.name in common)


def default_of(f: dataclasses.Field[Any]) -> str:
    """The default of an option in words."""
    if f.metadata["shown"] is not None:
        return str(f.metadata["shown"])
    return f"{f.default:g}" if isinstance(f.default, float) else str(f.default)


def describe(kind: type) -> str:
    """The part ``Args`` of a docstring."""
    lines = [f"        {f.name}: {f.metadata['help']} Default: {default_of(f)}." for f in ordered(kind)]
    return "\n".join(["    Args:", *lines])


def table(kind: type) -> str:
    """The options as a table in Markdown."""
    rows = [f"| `{f.name}` | {f.metadata['help']} | {default_of(f)} |" for f in ordered(kind)]
    return "\n".join(["| option | | default |", "|---|---|---|", *rows])


def signature(kind: type) -> inspect.Signature:
    """The signature of a constructor that takes these options by name."""
    parameters = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in ordered(kind)
    ]
    return inspect.Signature(parameters)
