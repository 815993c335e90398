"""Numbers of a column: missing values in the usual words, decimal points or commas, thousands in groups."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

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
DOTTED = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}", re.ASCII)
"""What is about one or, with points between thousands, a thousand."""


class Mark(NamedTuple):
    """The decimal mark that a column shows, if any; else the first of its numbers that may be two, if any."""

    mark: str | None = None
    doubt: int | None = None


def is_missing(text: str) -> bool:
    """Whether a text stands for a missing value."""
    return text.strip().lower() in MISSING


def values_of(
    texts: Sequence[str], place: Place, decimal: str | None = None, dotted: bool = False, other: str | None = None
) -> Values:
    """The numbers of a column of texts, NaN where missing.

    Args:
        decimal: ``.`` or ``,``, where the column does not say it. dotted: whether points may well part thousands.
        other: the mark that other columns show, for numbers that may be two.

    Raises:
        InputError: for what is no number or may be two.
    """
    found = Mark(decimal) if decimal else mark_of(texts, dotted)
    if found.doubt is not None and other is None:
        text = texts[found.doubt]
        raise InputError(
            f"data: {place(found.doubt)} has the value {shown(text)}, whose {MARKS[',' if ',' in text else '.']} may "
            "part thousands or decimals; decimal, '.' or ',', says which"
        )
    mark = found.mark or (other if found.doubt is not None else None) or "."
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


def mark_of(texts: Sequence[str], dotted: bool = False) -> Mark:
    """The decimal mark of a column.

    Args:
        dotted: whether points may well part thousands, as in a file with semicolons or dates with points.
    """
    doubt: int | None = None
    for i, text in enumerate(texts):
        if "," not in text:
            continue
        text = text.strip()
        if EITHER.fullmatch(text):
            doubt = i if doubt is None else doubt
        elif GROUPED["."].fullmatch(text):
            return Mark(".")
        else:
            return Mark(",")
    return _by_points(texts, dotted) if doubt is None else Mark(None, doubt)


def _by_points(texts: Sequence[str], dotted: bool) -> Mark:
    """The same of a column without commas."""
    points = [i for i, text in enumerate(texts) if "." in text]
    if not points:
        return Mark()
    if any(texts[i].count(".") > 1 and GROUPED[","].fullmatch(texts[i].strip()) for i in points):
        return Mark(",")
    if dotted and all(DOTTED.fullmatch(texts[i].strip()) for i in points):
        return Mark(None, points[0])
    return Mark(".")


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
