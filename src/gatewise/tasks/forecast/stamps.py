"""Times of a column, the same on every Python: dates with and without a time of day, months, years, or integers.

What a text means depends on its column: ``01/02/2020`` on whether some other row says that days come first, and digits
on whether all of them are dates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError

Place = Callable[[int], str]
"""Where a row stands, for the errors: ``sales.csv line 3``."""
Times = NDArray[Any]
"""Of dtype datetime64[s], or int64 where time is counted in integers."""

FORM = re.compile(
    r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(?P<fraction>\.\d+)?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)
PLAIN = re.compile(r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)((?<=:\d\d)(?:Z|[+-]\d\d:\d\d))?", re.ASCII)
PARTED = re.compile(
    r"(\d{1,4})([-/.])(\d\d?)\2(\d{1,4})(?:[T ]+(\d\d?):(\d\d)(?::(\d\d))?(?: ?([ap])m)?)?", re.ASCII | re.IGNORECASE
)
FIRST_TIME, LAST_TIME = np.datetime64("0001-01-01T00:00:00", "s"), np.datetime64("9999-12-31T23:59:59", "s")
QUARTER = re.compile(r"(\d{4})-?Q([1-4])", re.ASCII)
INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
DIGITS = {8: "%Y%m%d", 6: "%Y%m", 4: "%Y"}
LONGEST = 60
ORDERS = {"dmy": (2, 1, 0), "mdy": (2, 0, 1), "ymd": (0, 1, 2)}
"""Where year, month and day stand among the parts of a date."""


class Stamp(NamedTuple):
    """A time to the second, in UTC where its text names a zone; ``exact`` unless a fraction of a second was cut."""

    time: np.datetime64
    zoned: bool
    exact: bool


class Clock(NamedTuple):
    """The time zone that a data frame's times come in, UTC for texts that name one, empty for none; ``local`` where the
    times are those of its clocks, and not UTC."""

    zone: str = ""
    local: bool = False


def shown(text: str) -> str:
    """A text in quotes for an error, cut where it is long."""
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def stamp_of(text: str) -> Stamp | None:
    """The time of a text in ISO 8601 with dashes, or of a quarter such as 2020Q1; None when it is none."""
    quarter = QUARTER.fullmatch(text)
    if quarter is not None:
        text = f"{quarter[1]}-{3 * int(quarter[2]) - 2:02}"
    found = FORM.fullmatch(text)
    if found is None:
        return None
    fraction = found["fraction"] or ""
    whole = text.replace(fraction, "", 1) if fraction else text
    try:
        if len(whole) in (4, 7):  # a year, or a year and a month
            return Stamp(
                np.datetime64(datetime.strptime(whole, "%Y-%m" if len(whole) == 7 else "%Y"), "s"), False, True
            )
        stamp = datetime.fromisoformat(whole.replace("Z", "+00:00"))
        if stamp.tzinfo is not None:
            stamp = stamp.astimezone(timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return Stamp(np.datetime64(stamp, "s"), found["zone"] is not None, not fraction.strip(".0"))


def is_time(text: str) -> bool:
    """Whether a text by itself looks like a time."""
    return any(form.fullmatch(text) for form in (INTEGER, FORM, PARTED, QUARTER))


def times_of(
    texts: Sequence[str], place: Place, order: str | None = None, numbered: bool = False
) -> tuple[Times, bool]:
    """The times of a column of texts, and whether they name a time zone.

    Args:
        order: ``dmy``, ``mdy`` or ``ymd``, where the column does not say it. numbered: whether digits alone are
            integers and never dates.

    Raises:
        InputError: for a text that is no time or may be two, and for a column in which some name a zone.
    """
    index: dict[str, int] = {}
    codes = np.array([index.setdefault(text, len(index)) for text in texts], np.intp)
    distinct = list(index)

    def where(i: int) -> str:
        return place(int(np.argmax(codes == i)))

    times, zoned = _distinct([text.strip() for text in distinct], where, order, numbered)
    return times[codes], zoned


def _distinct(texts: list[str], where: Place, order: str | None, numbered: bool) -> tuple[Times, bool]:
    if texts and all(map(INTEGER.fullmatch, texts)):
        return _digits(texts, numbered), False
    plain = _plain(texts)
    if plain is not None:
        return plain
    order = _order(texts, where, order)
    stamps = [_stamp(text, where, i, order) for i, text in enumerate(texts)]
    for i, stamp in enumerate(stamps):
        if stamp.zoned != stamps[0].zoned:
            here, there = ("a", "none") if stamp.zoned else ("no", "one")
            raise InputError(
                f"data: {where(i)} has {here} time zone in {shown(texts[i])}, but the rows before have {there}; "
                "expected one in every row or in none"
            )
    return np.array([stamp.time for stamp in stamps], "datetime64[s]"), any(stamp.zoned for stamp in stamps)


def _plain(texts: list[str]) -> tuple[Times, bool] | None:
    """The quick way for texts in the usual form; None where one of them is not, or is no date."""
    found = [match.groups() for match in map(PLAIN.fullmatch, texts) if match]
    zones = {zone for _, zone in found}
    if len(found) < len(texts) or (None in zones and len(zones) > 1):
        return None
    try:
        offsets = {zone: _offset(zone) for zone in zones}
        times = np.array([time for time, _ in found], "datetime64[s]")
    except ValueError:
        return None
    if None not in zones:
        times = times - np.array([offsets[zone] for _, zone in found], "timedelta64[s]")
    return (times, None not in zones) if times.min() >= FIRST_TIME and times.max() <= LAST_TIME else None


def _offset(zone: str | None) -> int:
    """Seconds from UTC."""
    if zone is None or zone == "Z":
        return 0
    offset = datetime.strptime(zone, "%z").utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _digits(texts: list[str], numbered: bool) -> Times:
    """Dates of eight digits, months of six or years of four where all of them are; integers elsewhere."""
    length = len(texts[0])
    if not numbered and length in DIGITS and all(len(text) == length and text[0] in "12" for text in texts):
        try:
            return np.array([datetime.strptime(text, DIGITS[length]) for text in texts], "datetime64[s]")
        except ValueError:
            pass  # integers, then
    return np.array(texts, np.int64)


def _order(texts: list[str], where: Place, order: str | None) -> str:
    """In which order dates that end with their year have day and month."""
    if order is not None:
        return order
    open_: int | None = None
    found: dict[str, int] = {}
    for i, text in enumerate(texts):
        parts = PARTED.fullmatch(text)
        if parts is None or len(parts[1]) == 4:
            continue
        if int(parts[1]) > 12:
            found.setdefault("dmy", i)
        elif int(parts[3]) > 12:
            found.setdefault("mdy", i)
        elif parts[1] != parts[3] and open_ is None:
            open_ = i
    if len(found) == 2:
        first, later = sorted(found.values())
        raise InputError(
            f"data: {where(later)} has the time {shown(texts[later])}, whose day and month stand the other way "
            f"round than in {shown(texts[first])}; expected one order"
        )
    if not found and open_ is not None:
        raise InputError(
            f"data: {where(open_)} has the time {shown(texts[open_])}, which may begin with the day or the month; "
            "date_order, dmy or mdy, says which"
        )
    return next(iter(found), "dmy")


def order_of(texts: Sequence[str]) -> str | None:
    """The order of day and month that some date of a column shows, of those that end with their year."""
    for text in dict.fromkeys(texts):
        parts = None if text[:4].isdigit() else PARTED.fullmatch(text.strip())
        if parts is not None and len(parts[1]) < 4 and max(int(parts[1]), int(parts[3])) > 12:
            return "dmy" if int(parts[1]) > 12 else "mdy"
    return None


def is_dotted(text: str) -> bool:
    """Whether a text is a date with points, such as 31.12.2020."""
    parts = PARTED.fullmatch(text.strip())
    return parts is not None and parts[2] == "."


def _stamp(text: str, where: Place, i: int, order: str) -> Stamp:
    stamp = stamp_of(text) or _parted(text, order)
    if stamp is None:
        raise InputError(f"data: {where(i)} has {_no_time(text, order)}")
    if not stamp.exact:
        raise InputError(f"data: {where(i)} has the time {shown(text)}; expected whole seconds")
    return stamp


def _no_time(text: str, order: str) -> str:
    if not text:
        return "no time; expected a date such as 2001-12-29"
    parts = PARTED.fullmatch(text)
    if parts is not None and 4 not in (len(parts[1]), len(parts[4])):
        return f"the time {shown(text)}; expected a year of four digits"
    if _beyond(text, order):
        return f"the time {shown(text)}, and there is no such day; expected a date such as 2001-12-29"
    if parts is not None:
        return f"the time {shown(text)}; expected a date such as 2001-12-29, or of the order {order}"
    return f"the time {shown(text)}; expected a date such as 2001-12-29, or integers in every row"


def _beyond(text: str, order: str) -> bool:
    """Whether a text is a date but for a day that its month does not have, such as 2020-02-30."""
    found = PARTED.match(text)
    if found is None:
        return False
    parts = found[1], found[3], found[4]
    year, month, day = (parts[i] for i in ORDERS["ymd" if len(found[1]) == 4 else order])
    return len(year) == 4 and 1 <= int(month) <= 12 and 28 < int(day) <= 31 and _parted(found[0], order) is None


def _parted(text: str, order: str) -> Stamp | None:
    """A date such as 31/12/2020 or 2020/12/31, perhaps with a time of day."""
    found = PARTED.fullmatch(text)
    if found is None:
        return None
    parts = found[1], found[3], found[4]
    year, month, day = (parts[i] for i in ORDERS["ymd" if len(found[1]) == 4 else order])
    if len(year) != 4:
        return None
    hour, half = int(found[5] or 0), found[8]
    if half is not None:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half in "pP" else 0)
    try:
        stamp = datetime(int(year), int(month), int(day), hour, int(found[6] or 0), int(found[7] or 0))
    except ValueError:
        return None
    return Stamp(np.datetime64(stamp, "s"), False, True)


def whole_seconds(times: NDArray[Any], place: Place) -> Times:
    """Times of NumPy, of any unit, to the second.

    Raises:
        InputError: for one that is missing or has a fraction of a second.
    """
    seconds = times.astype("datetime64[s]")
    for bad, sentence in ((np.isnat(times), "no time"), (seconds != times, "the time {}; expected whole seconds")):
        if bad.any():
            i = int(bad.argmax())
            raise InputError(f"data: {place(i)} has {sentence.format(times[i])}")
    return seconds
