"""Which column of a table is what: the series' names, the times, the values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewise.tasks.errors import InputError

COLUMNS = ("unique_id", "ds", "y")
ROLES = {"static": "static_cols", "past": "past_cols", "future": "future_cols"}
"""What a covariate may be, and the option that names such columns."""
SAME = ("date_order", "decimal", "id_col", "time_col", "target_col", "wide")
MOST_NAMES, MOST_LETTERS = 8, 40
BETWEEN = "  "
"""Parts unique_id and target in the name of a series. Names of columns have single spaces, so it is found again."""


@dataclass(frozen=True)
class Reading:
    """How data are to be read, where they do not say it themselves; see the options of the same names.

    covariates: columns and what they are; words: those whose entries are words, be they digits. numbered: time is
    counted in integers, so that 2020 is no year and 20200101 no date. infer: further columns are covariates where none
    is named. settled: what is a number and what a word is known from the fit. ahead: the table holds covariates of the
    future, and no target. local: whether times with a zone are read as its clocks show them, None for what they show.
    """

    date_order: str | None = None
    decimal: str | None = None
    id_col: str | None = None
    time_col: str | None = None
    target_col: str | None = None
    wide: bool = False
    covariates: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    numbered: bool = False
    infer: bool = False
    settled: bool = False
    ahead: bool = False
    local: bool | None = None

    @classmethod
    def of(cls, options: Any, numbered: bool = False) -> Reading:
        """From options that have more."""
        given = {name: getattr(options, name) for name in SAME}
        covariates = {name: role for role, option in ROLES.items() for name in split(getattr(options, option))}
        return cls(
            **given,
            covariates=covariates,
            words=tuple(split(options.cat_cols)),
            numbered=numbered or str(options.freq).isdigit(),
            infer=options.covariates == "infer" and options.strategy != "steps",
        )


@dataclass(frozen=True)
class Roles:
    """Positions of the columns: of unique_id, if there is one, of ds, and of y, or of every series of a wide table."""

    identifier: int | None
    time: int
    targets: tuple[int, ...]
    label: str
    ignored: tuple[str, ...] = ()
    extras: tuple[int, ...] = ()


def split(names: str | None) -> list[str]:
    """The names in a text with commas."""
    return [part.strip() for part in names.split(",")] if names else []


def joined(unique_id: str, target: str) -> str:
    """The name of one of several targets of a series: inside, each is a series of its own."""
    return f"{unique_id}{BETWEEN}{target}" if unique_id else target


def parted(name: str) -> tuple[str, str]:
    """The unique_id and the target of such a name."""
    unique_id, _, target = name.rpartition(BETWEEN)
    return unique_id, target


def check_names(names: Sequence[str], source: str) -> None:
    """Raises InputError for a name that two columns have."""
    again = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if again is not None:
        raise InputError(f"data: {source} has two columns {again!r}; expected each name once")


def roles(names: Sequence[str], reading: Reading, source: str) -> Roles:
    """What the columns of these names are.

    Raises:
        InputError: where the names do not say it.
    """
    check_names(names, source)
    if reading.wide:
        if len(names) < 2:
            raise InputError(f"data: {source} has the column {names[0]} alone; wide takes times and a column a series")
        time = _position(names, reading.time_col, "time_col", source)
        time = _known(names, "ds") if time is None else time
        first = 0 if time is None else time
        return Roles(None, first, tuple(i for i in range(len(names)) if i != first), "y")
    asked = {option: getattr(reading, option) for option in ("id_col", "time_col", "target_col")}
    several = () if reading.ahead else _several(names, reading, source)
    if reading.ahead or several:
        asked["target_col"] = None if reading.ahead else names[several[0]]
    given = {option: _position(names, name, option, source) for option, name in asked.items()}
    found = [
        _known(names, standard) if at is None else at for at, standard in zip(given.values(), COLUMNS, strict=True)
    ]
    identifier, time, target = found
    if reading.ahead:
        return _ahead(names, identifier, time, reading, source)
    if len(names) == 2 and not reading.covariates and None in (time, target):
        time = time if time is not None else 0 if target is None else 1 - target
        target, identifier = 1 - time, None
    if time is None or target is None:
        raise InputError(f"data: {source} has the columns {_listed(names)}; {_expected(names, reading)}")
    targets = several or (target,)
    used = [i for i in (identifier, time, *targets) if i is not None]
    if len(set(used)) < len(used):
        raise InputError(f"data: {source}: id_col, time_col and target_col must be different columns")
    label = ", ".join(names[i] if names[i].lower() != "y" else "y" for i in targets)
    extras = _extras(names, used, reading, source)
    ignored = tuple(n or f"{i + 1} without a name" for i, n in enumerate(names) if i not in (*used, *extras))
    return Roles(identifier, time, targets, label, ignored, extras)


def _several(names: Sequence[str], reading: Reading, source: str) -> tuple[int, ...]:
    """The positions of several targets; none where there is one, whose name may have commas."""
    asked = split(reading.target_col)
    if len(asked) < 2 or reading.target_col in names:
        return ()
    twice = next((name for name in asked if asked.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"target_col: expected each column once, got {twice!r} again")
    found = [_position(names, name, "target_col", source) for name in asked]
    return tuple(at for at in found if at is not None)


def _extras(names: Sequence[str], used: Sequence[int], reading: Reading, source: str) -> tuple[int, ...]:
    """The columns of covariates: those that are named, or all that could be one."""
    found = []
    for name in () if reading.ahead or reading.settled else reading.words:
        _position(names, name, "cat_cols", source)
    for name, role in reading.covariates.items():
        at = _position(names, name, ROLES[role], source)
        assert at is not None
        if at in used or name.lower() in COLUMNS:
            beside = "the targets" if len(used) > len(COLUMNS) else "y"
            raise InputError(
                f"{ROLES[role]}: {name!r} is no covariate, expected a column beside unique_id, ds and {beside}"
            )
        found.append(at)
    if reading.covariates or not reading.infer:
        return tuple(found)
    return tuple(i for i, name in enumerate(names) if i not in used and name and name.lower() not in COLUMNS)


def _ahead(names: Sequence[str], identifier: int | None, time: int | None, reading: Reading, source: str) -> Roles:
    """Of a table of covariates of the future."""
    if time is None:
        raise InputError(f"future: {source} has the columns {_listed(names)}; expected ds, or time_col, which names it")
    used = [i for i in (identifier, time) if i is not None]
    extras = _extras(names, used, reading, source)
    ignored = tuple(n for i, n in enumerate(names) if n and n.lower() not in COLUMNS and i not in (*used, *extras))
    return Roles(identifier, time, (), "y", ignored, extras)


def _known(names: Sequence[str], name: str) -> int | None:
    """The position of a column in any case; in just this case where there are several."""
    found = [i for i, other in enumerate(names) if other.lower() == name]
    exact = [i for i in found if names[i] == name]
    return next(iter(exact or found), None)


def _position(names: Sequence[str], name: str | None, option: str, source: str) -> int | None:
    if name is None:
        return None
    if name not in names:
        raise InputError(f"{option}: {source} has no column {name!r}; its columns are {_listed(names)}")
    return names.index(name)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(name[:MOST_LETTERS] for name in names[:MOST_NAMES]) + more


def _expected(names: Sequence[str], reading: Reading) -> str:
    expected = "expected unique_id, ds, y or two columns"
    lacking = [o for o in ("time_col", "target_col") if getattr(reading, o) is None]
    if len(lacking) == 1:
        return f"{expected}; {lacking[0]} names the other one"
    named = "id_col, time_col and target_col name them"
    wide = len(names) > 2 and not any(name.lower() in ("unique_id", "y") for name in names)
    return f"{expected}; {named}" + (", and wide reads a table of one column a series" if wide else "")
