"""The step from one value of a series to the next: seconds, days, business days, calendar months, or integers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.stamps import Times

MINUTE, HOUR, DAY = 60, 3600, 86400
WEEK = 7 * DAY
NICE_SECONDS = [1, 5, 10, 15, 30, *(n * MINUTE for n in (1, 2, 5, 10, 15, 20, 30))]
NICE_SECONDS += [*(n * HOUR for n in (1, 2, 3, 6, 12)), DAY, WEEK, 2 * WEEK]
NAMES = {(HOUR, 0): "hour", (DAY, 0): "day", (WEEK, 0): "week", (MINUTE, 0): "minute", (1, 0): "second"}
NAMES |= {(0, 1): "month", (0, 3): "quarter", (0, 12): "year"}
SEASONS = {WEEK: 52, 2 * WEEK: 26, DAY: 7, MINUTE: 60, 1: 60}
LONGEST_SEASON = 300
MOST_VOTERS = 200
MOST_VOTES = 100
UNDECIDED = 1e-3
DAYS = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


@dataclass(frozen=True)
class Frequency:
    """The step of a grid: so many seconds, or so many calendar months (then ``month_end`` may hold), or a business day
    (Monday to Friday), or so many ``units`` of integer time. anchor: the weekday or month that times are to show. day:
    of the month, 29 or 30, where shorter months have their last day instead."""

    seconds: int = 0
    months: int = 0
    month_end: bool = False
    business: bool = False
    units: int = 0
    anchor: str = ""
    day: int = 0

    @property
    def name(self) -> str:
        """One step in words: week, month, 3 hours …"""
        if self.business:
            return "business day"
        if self.units:
            return "step" if self.units == 1 else f"{self.units} steps"
        name = NAMES.get((self.seconds, self.months))
        if name:
            return name
        if self.months:
            return f"{self.months} months"
        for size, unit in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
            if self.seconds % size == 0:
                return f"{self.seconds // size} {unit}"
        return f"{self.seconds} seconds"

    @property
    def daily(self) -> bool:
        """Whether a step is a day or longer."""
        return self.business or self.months > 0 or self.seconds >= DAY

    @property
    def season(self) -> int:
        """Steps in the season one would expect: a year of weeks or months, a week of days, a day of hours."""
        if self.business:
            return 5
        if self.units:
            return 1
        if self.months:
            return 12 // self.months if 12 % self.months == 0 else 1
        known = SEASONS.get(self.seconds)
        if known:
            return known
        per_day = DAY // self.seconds if DAY % self.seconds == 0 else 1
        return per_day if per_day <= LONGEST_SEASON else 1

    def times_as_long(self, factor: int) -> Frequency:
        """Of so many steps."""
        if self.business:
            return Frequency(seconds=WEEK * (factor // 5)) if factor % 5 == 0 else Frequency(seconds=DAY * factor)
        parts = {name: getattr(self, name) * factor for name in ("seconds", "months", "units")}
        return replace(self, **parts)

    def positions(self, times: Times) -> NDArray[np.int64]:
        """The grid point nearest to each time, counted from the first."""
        if self.units:
            return np.asarray((times - times[0]) // self.units)
        if self.business:
            days = times.astype("datetime64[D]")
            return np.asarray(np.busday_count(days[0], days))
        if self.months:
            months = times.astype("datetime64[M]").astype(np.int64)
            return np.asarray((months - months[0]) // self.months)
        seconds = times.astype(np.int64)
        return np.asarray(np.rint((seconds - seconds[0]) / self.seconds), np.int64)

    def times(self, start: Any, positions: NDArray[np.int64]) -> Times:
        """The times of grid points counted from ``start``."""
        if self.units:
            return np.asarray(start + positions * self.units)
        if not (self.months or self.business):
            return np.asarray(start + (positions * self.seconds).astype("timedelta64[s]"))
        day = start.astype("datetime64[D]")
        if self.business:
            days = np.busday_offset(day, positions)
        else:
            first = start.astype("datetime64[M]")
            months = first + (positions * self.months).astype("timedelta64[M]")
            ends, after = _month_ends(months), np.timedelta64(self.day - 1, "D") if self.day else day - first
            days = ends if self.month_end else np.minimum(months.astype("datetime64[D]") + after, ends)
        clock = start - day.astype("datetime64[s]")
        return np.asarray(days.astype("datetime64[s]") + clock)

    def off_grid(self, times: Times) -> str | None:
        """Why times do not lie on such a grid, where they do not."""
        if (times.dtype.kind == "M") == bool(self.units):
            return "has integers for times, expected dates" if self.units == 0 else "has dates, expected integer time"
        if self.units:
            apart = (times - times[0]) % self.units != 0
            return _first(times, apart, f"is not whole steps of {self.units} from {times[0]}")
        days = times.astype("datetime64[D]")
        if self.business:
            weekday = _weekday(days)
            if (weekday > 4).any():
                i = int((weekday > 4).argmax())
                return f"has a value for {days[i]}, a {WEEKDAYS[weekday[i]]}, expected business days"
        if self.months:
            months = days.astype("datetime64[M]")
            apart = (months - months[0]).astype(np.int64) % self.months != 0
            return (
                _first(times, apart, f"is not a whole {self.name} from {days[0]}")
                or (_first(times, days != _month_ends(months), "is not the end of a month") if self.month_end else None)
                or self._unanchored(times)
            )
        return self._unanchored(times)

    def _unanchored(self, times: Times) -> str | None:
        """Why times do not show the weekday or month that an alias named."""
        if self.anchor in DAYS:
            wrong = _weekday(times.astype("datetime64[D]")) != DAYS.index(self.anchor)
            return _first(times, wrong, f"is no {WEEKDAYS[DAYS.index(self.anchor)]}")
        if self.anchor in MONTHS:
            months = times.astype("datetime64[M]").astype(np.int64) % 12
            wrong = (months - MONTHS.index(self.anchor)) % (3 if self.months % 12 else 12) != 0
            return _first(times, wrong, f"is in no month that a {self.name} of {self.anchor} begins or ends in")
        return None


def _first(times: Times, wrong: NDArray[np.bool_], sentence: str) -> str | None:
    return f"has the time {times[int(wrong.argmax())]}, which {sentence}" if wrong.any() else None


def _month_ends(months: NDArray[np.datetime64]) -> Any:
    return (months + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")


def _weekday(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """0 for a Monday; 1970 began with a Thursday."""
    return np.asarray((days.astype(np.int64) + 3) % 7)


def infer_frequency(times: Times) -> Frequency:
    """The regular step that two or more ascending times follow, gaps and jitter allowed."""
    if times.dtype.kind != "M":
        return Frequency(units=int(np.gcd.reduce(np.diff(times))))
    days = times.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    steps = np.diff(months.astype(np.int64))
    day_of_month = (days - months.astype("datetime64[D]")).astype(np.int64)
    ends = _month_ends(months)
    length = (ends - months.astype("datetime64[D]")).astype(np.int64)
    same_day = bool((day_of_month == np.minimum(day_of_month.max(), length)).all())
    month_end = bool((days == ends).all())
    if (same_day or month_end) and bool((steps > 0).all()):
        cut = not month_end and bool((day_of_month != day_of_month[0]).any())
        day = int(day_of_month.max()) + 1 if cut else 0
        return Frequency(months=int(np.gcd.reduce(steps)), month_end=month_end, day=day)
    differences = np.diff(times.astype(np.int64))
    found, counts = np.unique(differences, return_counts=True)
    if counts.max() * 2 >= len(differences):
        seconds = int(found[counts.argmax()])
        return Frequency(business=True) if seconds == DAY and has_business_days(times) else Frequency(seconds=seconds)
    middle = float(np.median(differences))
    nearest = min(NICE_SECONDS, key=lambda nice: abs(nice - middle) / nice)
    return Frequency(seconds=nearest if abs(nearest - middle) <= 0.1 * nearest else max(1, round(middle)))


def few_weekends(series: Sequence[Times]) -> str:
    """The first day at a weekend, where series of days have few of them, if any; else empty."""
    days = np.concatenate([times.astype("datetime64[D]") for times in series])
    at = _weekday(days) > 4
    return str(days[at][0]) if 0 < 20 * int(at.sum()) <= len(days) else ""


def has_business_days(times: Times) -> bool:
    """Whether days go over a weekend and never lie in one."""
    days = times.astype("datetime64[D]")
    return _over_a_weekend(days) and not bool((_weekday(days) > 4).any())


def _over_a_weekend(days: NDArray[np.datetime64]) -> bool:
    weeks = (days[[0, -1]].astype(np.int64) + 3) // 7
    return bool(weeks[1] > weeks[0])


def common_frequency(series: Sequence[Times]) -> Frequency:
    """The frequency of most of the series of a table, the longer ones counting more.

    Raises:
        InputError: when each has one time only.
    """
    long = [times for times in series if len(times) > 1]
    if not long:
        raise InputError("data: every series has one time stamp only; expected at least two to see the frequency")
    votes: dict[Frequency, float] = {}
    longest = max(range(len(long)), key=lambda i: len(long[i]))
    for times in (long[i] for i in {longest, *range(0, len(long), -(-len(long) // MOST_VOTERS))}):
        found = infer_frequency(times)
        undecided = found.seconds == DAY and not _over_a_weekend(times.astype("datetime64[D]"))
        weight = min(len(times), MOST_VOTES) * (UNDECIDED if undecided else 1)
        votes[found] = votes.get(found, 0) + weight
    return max(votes, key=lambda frequency: votes[frequency])


ALIASES = {"s": Frequency(1), "min": Frequency(MINUTE), "h": Frequency(HOUR), "D": Frequency(DAY)}
ALIASES |= {"W": Frequency(WEEK), "B": Frequency(business=True)}
ALIASES |= {"MS": Frequency(months=1), "QS": Frequency(months=3), "YS": Frequency(months=12)}
ALIASES |= {name[0] + "E": replace(step, month_end=True) for name, step in ALIASES.items() if name[1:] == "S"}
OTHER_NAMES = {
    "S": "s",
    "T": "min",
    "H": "h",
    "d": "D",
    "w": "W",
    "M": "ME",
    "Q": "QE",
    "Y": "YE",
    "A": "YE",
    "AS": "YS",
}
ALIAS = re.compile(r"(\d{0,6})([A-Za-z]*)(?:-([A-Z]{3}))?", re.ASCII)
ANCHORED = {"W": DAYS} | dict.fromkeys(("QS", "QE", "YS", "YE"), MONTHS)


def named(name: str, alias: Any) -> Frequency:
    """The frequency of an alias as in pandas: h, D, B, W-SUN, MS, QE-DEC, 15min …; digits alone are steps of integer
    time.

    Raises:
        InputError: for anything else; ``name`` is the option's.
    """
    found = ALIAS.fullmatch(alias) if isinstance(alias, str) else None
    if found is not None and found[0]:
        count, step = int(found[1] or 1), OTHER_NAMES.get(found[2], found[2])
        anchor = found[3] or ""
        if anchor:
            if anchor in ANCHORED.get(step, ()) and count:
                return replace(ALIASES[step].times_as_long(count), anchor=anchor)
        elif step == "" and count:
            return Frequency(units=count)
        elif step in ALIASES and count and not (step == "B" and count > 1):
            return ALIASES[step].times_as_long(count) if step != "B" else ALIASES["B"]
    raise InputError(
        f"{name} must be one of {', '.join(ALIASES)}, 15min, W-SUN, QE-DEC and the like, or a number, got {alias!r}"
    )


def check_alias(name: str, value: Any) -> None:
    """Raises InputError for what names no frequency."""
    named(name, value)
