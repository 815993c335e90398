"""Numbers of a column: missing values in the usual words, decimal points or commas, thousands in groups."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.stamps import Place, shown

Values = NDArray[np.float64]

MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "?", "-"}
LARGEST = 1e30
MARKS = {".": "point", ",": "comma"}
GROUPED = {
    mark: re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:{re.escape(group)}\d{{3}})+(?:{re.escape(mark)}\d*)?", re.ASCII)
    for mark, group in (".,", ",.")
}
"""Numbers with groups of three digits, by their decimal mark."""
EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
"""What is a thousand or, with a decimal comma, about one."""


def is_missing(text: str) -> bool:
    """Whether a text stands for a missing value."""
    return text.strip().lower() in MISSING


def values_of(texts: Sequence[str], place: Place, decimal: str | None = None) -> Values:
    """The numbers of a column of texts, NaN where missing.

    Args:
        decimal: ``.`` or ``,``, where the column does not say it.

    Raises:
        InputError: for what is no number or may be two.
    """
    mark = decimal or _mark(texts, place)
    if mark == ".":
        try:
            values = np.array([float(text) if text else math.nan for text in texts], np.float64)
            if not any(map(_named, texts)):
                return checked(values, place, texts)
        except ValueError:
            pass  # missing values in words, groups of digits, or no number: one by one
    return checked(np.array([_number(text, mark, place, i) for i, text in enumerate(texts)], np.float64), place, texts)


def _named(text: str) -> bool:
    """Whether Python reads a text as a number that no table means so: 1_000."""
    return "_" in text


def _mark(texts: Sequence[str], place: Place) -> str:
    """The decimal mark of a column."""
    either: int | None = None
    for i, text in enumerate(texts):
        if "," not in text:
            continue
        text = text.strip()
        if EITHER.fullmatch(text):
            either = i if either is None else either
        elif GROUPED["."].fullmatch(text):
            return "."
        else:
            return ","
    if either is None:
        return "."
    raise InputError(
        f"data: {place(either)} has the value {shown(texts[either])}, whose comma may part thousands or decimals; "
        "decimal, '.' or ',', says which"
    )


def _number(text: str, mark: str, place: Place, i: int) -> float:
    text = text.strip()
    if text.lower() in MISSING:
        return math.nan
    plain = text
    group = "," if mark == "." else "."
    if group in plain:
        plain = plain.replace(group, "") if GROUPED[mark].fullmatch(plain) else ""
    try:
        value = float("" if _named(plain) else plain.replace(mark, "."))
    except ValueError:
        other = f" with a decimal {MARKS[mark]}" if group in text and text.replace(group, "").isdigit() else ""
        raise InputError(
            f"data: {place(i)} has the value {shown(text)}; expected a number{other}, or nothing where it is missing"
        ) from None
    return value


def checked(values: Values, place: Place, texts: Sequence[str] | None = None) -> Values:
    """The values, where none is infinite or beyond 1e30 in size.

    Raises:
        InputError: for the first that is.
    """
    with np.errstate(invalid="ignore"):
        large = np.abs(values) > LARGEST
    if large.any():
        i = int(large.argmax())
        text = str(values[i]) if texts is None else texts[i].strip()
        expected = "a number" if math.isinf(float(values[i])) else f"a number from -{LARGEST:g} to {LARGEST:g}"
        raise InputError(
            f"data: {place(i)} has the value {shown(text)}; expected {expected}, or nothing where it is missing"
        )
    return values
