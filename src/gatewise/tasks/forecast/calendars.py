"""Calendar features: where a time stands in its day, week and year, as waves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.frequency import DAY, WEEK, Frequency
from gatewise.tasks.forecast.stamps import Times

WAVES = {"day": 2, "week": 3, "year": 2}
"""Sines and cosines of each cycle; three tell seven weekdays apart."""


def cycles(frequency: Frequency) -> tuple[str, ...]:
    """The cycles that are longer than a step of a frequency and that times on its grid go through.

    Raises:
        InputError: where there is none.
    """
    if frequency.units or frequency.months >= 12:
        raise InputError(f"calendar: one value a {frequency.name} has none, expected times within a year")
    if frequency.months or frequency.seconds >= WEEK:
        return ("year",)
    return ("week", "year") if frequency.business or frequency.seconds % DAY == 0 else ("day", "week", "year")


def width(names: tuple[str, ...]) -> int:
    """How many numbers they are."""
    return sum(2 * WAVES[name] for name in names)


def features(times: Times, names: tuple[str, ...]) -> NDArray[np.float32]:
    """The waves (…, width) of times (…), between -1 and 1; 0 for a time that is none."""
    day = times.astype("datetime64[D]")
    share = {
        "day": (times - day) / np.timedelta64(DAY, "s"),
        "week": (times - np.datetime64("1970-01-05", "s")) / np.timedelta64(WEEK, "s"),
        "year": (times - times.astype("datetime64[Y]")) / np.timedelta64(31_557_600, "s"),
    }
    angles = [2 * np.pi * k * share[name] for name in names for k in range(1, WAVES[name] + 1)]
    waves = np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], -1)
    return np.asarray(np.nan_to_num(waves), np.float32)
