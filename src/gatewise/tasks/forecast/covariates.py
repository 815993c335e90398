"""Which further columns of a table are covariates, and of what kind: static, of the past alone, or known ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.extras import Extra
from gatewise.tasks.forecast.stamps import is_time
from gatewise.tasks.forecast.values import Values

Rows = Mapping[str, NDArray[np.intp]]
"""The rows of each series by time."""
MOST_WORDS = 1000
"""A column of more words, or in which most rows have a word of their own, is text and no covariate, unless it is named;
nor is one of times, or of longer words."""
MOST_NAMED = 100_000
LONGEST_WORD = 200
ROW_NUMBERS = ("index", "level_0", "unnamed: 0")
"""What pandas calls its numbers of rows where they become a column."""


@dataclass(frozen=True)
class Covariate:
    """A column: static (one value a series), past (known up to now) or future (known ahead); words: None for numbers,
    else what its values are positions of."""

    name: str
    role: str
    words: tuple[str, ...] | None = None

    @property
    def kind(self) -> str:
        """In words."""
        return "numbers" if self.words is None else f"{len(self.words)} words"


def chosen(
    extras: Sequence[Extra], reading: Reading, rows: Rows, target: Values
) -> tuple[tuple[Covariate, ...], NDArray[np.float64], list[str]]:
    """The covariates, their values (rows, columns), and the names of columns that are none.

    Args:
        rows: of each series. target: the values that are forecast, NaN where missing.

    Raises:
        InputError: for a column that is named as what it cannot be.
    """
    found, left = list[tuple[Extra, str]](), list[str]()
    for extra in extras:
        role = reading.covariates.get(extra.name)
        if role is None:
            role = _inferred(extra, rows, target)
        else:
            _check_named(extra, role, rows)
        if role is None:
            left.append(extra.name)
        else:
            found.append((extra, role))
    values = np.stack([extra.values for extra, _ in found], 1) if found else np.empty((len(target), 0))
    return tuple(Covariate(extra.name, role, extra.words) for extra, role in found), values, left


def _inferred(extra: Extra, rows: Rows, target: Values) -> str | None:
    """What a column is: constant in each series, there behind the last value of each (``grid.short_of`` then looks how
    far), or of the past; None for one that says nothing."""
    known = ~np.isnan(extra.values)
    count = int(known.sum())
    if not count or (extra.values[known] == extra.values[known][0]).all():
        return None
    if extra.name.lower() in ROW_NUMBERS and np.array_equal(extra.values, np.arange(count)):
        return None
    if extra.words is not None and (max(map(len, extra.words)) > LONGEST_WORD or all(map(_is_date, extra.words))):
        return None
    if _varying(extra, rows) is None:
        return "static"
    if extra.words is not None and (len(extra.words) > MOST_WORDS or (count > 20 and 2 * len(extra.words) > count)):
        return None
    return "future" if all(_is_ahead(known[mine], target[mine]) for mine in rows.values()) else "past"


def _is_date(word: str) -> bool:
    return is_time(word) and not word.lstrip("-").isdigit()


def _is_ahead(known: NDArray[np.bool_], target: Values) -> bool:
    """Whether a column of a series goes on behind its last value."""
    there = np.flatnonzero(~np.isnan(target))
    return bool(known[there[-1] + 1 :].any()) if len(there) else True


def _varying(extra: Extra, rows: Rows) -> str | None:
    """The first series in which a column has more than one value."""
    for name, mine in rows.items():
        values = extra.values[mine]
        values = values[~np.isnan(values)]
        if len(values) and (values != values[0]).any():
            return name
    return None


def _check_named(extra: Extra, role: str, rows: Rows) -> None:
    if extra.words is not None and len(extra.words) > MOST_NAMED:
        raise InputError(f"{role}_cols: {extra.name!r} has {len(extra.words)} words, expected at most {MOST_NAMED}")
    varying = _varying(extra, rows) if role == "static" else None
    if varying is not None:
        series = f"series {varying!r}" if varying else "the series"
        raise InputError(
            f"static_cols: {extra.name!r} has several values in {series}, expected one; past_cols takes several"
        )


def text_of(covariate: Covariate, value: float) -> str:
    """An entry of a column as it is written into a file."""
    if np.isnan(value):
        return ""
    return repr(value) if covariate.words is None else covariate.words[int(value)]


def recoded(extras: Values, columns: Sequence[Covariate], to: Sequence[Covariate]) -> tuple[Values, list[Covariate]]:
    """Values of columns (rows, C) as those of other columns of the same names, and these with words that they lack."""
    found, longer = np.full((len(extras), len(to)), np.nan), list(to)
    place = {column.name: i for i, column in enumerate(columns)}
    for k, column in enumerate(to):
        values = extras[:, place[column.name]]
        own = columns[place[column.name]].words
        if own is not None and column.words is not None:
            index = {word: i for i, word in enumerate(column.words)}
            codes = np.array([index.setdefault(word, len(index)) for word in own], np.float64)
            there = ~np.isnan(values)
            values = np.where(there, codes[np.where(there, values, 0).astype(np.intp)] if len(codes) else 0.0, np.nan)
            longer[k] = Covariate(column.name, column.role, tuple(index))
        found[:, k] = values
    return found, longer
