"""Further columns of a table: numbers, or codes of words; which of them is a matter of the whole column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewise.tasks.errors import need
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.stamps import Place
from gatewise.tasks.forecast.values import Values, checked, is_missing, values_of

NUMBER = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
"""What is meant as a number, if perhaps not a good one."""
TRUTHS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


@dataclass(frozen=True)
class Extra:
    """A column: numbers, or with ``words`` the positions of its entries among them; NaN where missing."""

    name: str
    values: Values
    words: tuple[str, ...] | None = None


def of_texts(
    name: str, texts: Sequence[str], place: Place, reading: Reading, dotted: bool = False, other: str | None = None
) -> Extra:
    """A column of a file.

    Args:
        dotted, other: as for ``values_of``.

    Raises:
        InputError: for numbers that cannot be read, or may be two.
    """

    def where(i: int) -> str:
        return f"{place(i)}, column {name!r},"

    if name in reading.words:
        return coded(name, texts)
    found = {text.strip().lower() for text in texts if not is_missing(text)}
    if found and found <= TRUTHS.keys():
        values = [np.nan if is_missing(text) else TRUTHS[text.strip().lower()] for text in texts]
        return Extra(name, np.array(values, np.float64))
    if not reading.settled and not all(map(NUMBER.fullmatch, found)):
        return coded(name, texts)
    return Extra(name, values_of(texts, where, reading.decimal, dotted, other))


def of_frame(
    name: str,
    column: Any,
    texts: Sequence[str] | None,
    place: Place,
    reading: Reading,
    dotted: bool = False,
    other: str | None = None,
) -> Extra | None:
    """A column of a data frame; None for one that is neither numbers nor words.

    Args:
        texts: its entries as texts, where it is no column of numbers. dotted, other: as for ``values_of``.
    """
    narwhals = need("narwhals")
    named = name in reading.words
    if column.dtype.is_temporal() and not named:
        return None
    if column.dtype.is_numeric() or column.dtype == narwhals.Boolean:
        values = np.asarray(column.cast(narwhals.Float64).fill_null(np.nan).to_numpy(), np.float64)
        if not named:
            return Extra(name, checked(values, lambda i: f"{place(i)}, column {name!r},"))
        texts = ["" if np.isnan(v) else str(int(v)) if v == np.rint(v) else str(v) for v in values.tolist()]
    assert texts is not None
    if column.dtype in (narwhals.Categorical, narwhals.Enum) and not reading.settled:
        return coded(name, texts)
    return of_texts(name, texts, place, reading, dotted, other)


def coded(name: str, texts: Sequence[str]) -> Extra:
    """A column of words, each with the number of its first appearance."""
    index: dict[str, int] = {}
    codes: dict[str, float] = {}
    values = np.empty(len(texts))
    for i, text in enumerate(texts):
        code = codes.get(text)
        if code is None:
            word = " ".join(text.split())
            code = codes[text] = np.nan if is_missing(word) else float(index.setdefault(word, len(index)))
        values[i] = code
    return Extra(name, values, tuple(index))
