"""Time stamps as text, the same on every Python: ISO 8601 dates with dashes, to the second."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np

FORM = re.compile(
    r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(?P<fraction>\.\d+)?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)


class Stamp(NamedTuple):
    """A time to the second, in UTC where its text names a zone; ``exact`` unless a fraction of a second was cut."""

    time: np.datetime64
    zoned: bool
    exact: bool


def stamp_of(raw: Any) -> Stamp | None:
    """The time stamp of a text, a date or a date with a time; None when it is none."""
    if isinstance(raw, np.datetime64):
        time = raw.astype("datetime64[s]")
        return None if np.isnat(raw) else Stamp(time, zoned=False, exact=bool(time == raw))
    text = raw.isoformat() if hasattr(raw, "isoformat") else str(raw).strip()
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
