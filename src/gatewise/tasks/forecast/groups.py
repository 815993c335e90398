"""The targets of a series beside each other: on one stretch of time, and whole where some have no values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gatewise.tasks.forecast.columns import joined
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.panel import Places


def aligned(series: Sequence[Series], together: bool) -> list[Series]:
    """Series whose targets end at the same time, with missing values behind those that ended before.

    Args:
        together: they begin at the same time too, and have the same covariates.
    """
    groups: dict[str, list[Series]] = {}
    for one in series:
        groups.setdefault(one.unique_id, []).append(one)
    return [one for group in groups.values() for one in _aligned(group, together)]


def _aligned(group: list[Series], together: bool) -> list[Series]:
    first = min(group, key=lambda one: one.start)
    starts = first.frequency.positions(np.array([first.start, *(one.start for one in group)]))[1:]
    end, found = max(int(at) + len(one.values) for at, one in zip(starts, group, strict=True)), []
    for at, one in zip(starts, group, strict=True):
        values = np.full(end, np.nan)
        values[at : at + len(one.values)] = one.values
        if together:
            found.append(replace(one, start=first.start, values=values, extras=first.extras))
        else:
            found.append(replace(one, values=values[at:]))
    return found


def completed(series: Sequence[Series], targets: Sequence[str]) -> tuple[list[Series], Places]:
    """All targets of each series in this order, those that are not there with missing values alone; and the place of
    each of the given ones among them. Those of one series must be aligned."""
    known: dict[str, dict[str, Series]] = {}
    for one in series:
        known.setdefault(one.unique_id, {})[one.target] = one
    found = [_of(group, unique_id, target) for unique_id, group in known.items() for target in targets]
    place = {one.name: i for i, one in enumerate(found)}
    return found, np.array([place[one.name] for one in series], np.int64)


def _of(group: dict[str, Series], unique_id: str, target: str) -> Series:
    if target in group:
        return group[target]
    other = next(iter(group.values()))
    nothing = np.full(len(other.values), np.nan)
    return replace(other, name=joined(unique_id, target), target=target, values=nothing)
