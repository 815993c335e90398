"""Comparison of cells on a task, at equal hidden size and at equal parameters: a loop over fit and score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.compiler import Cell
from gatewise.tasks.base import Task, cell_of, task_named
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import CONFIG, nothing_on_error, writable, write_json

LARGEST = 1 << 14


@dataclass(frozen=True)
class Entry:
    """One network of the comparison. ``scores`` has a value per seed; ``seconds_per_step`` is the median."""

    cell: str
    sizing: str
    """``size`` where the hidden size is the reference's, ``parameters`` where the parameter count is; ``both``."""
    hidden_size: int
    parameters: int
    scores: list[float]
    seconds_per_step: float

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for one seed."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """The entries of a comparison; ``baselines`` are the scores of naive methods on the same data."""

    task: str
    metric: str
    seeds: int
    entries: list[Entry]
    baselines: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        entries = [{**asdict(e), "mean": e.mean, "spread": e.spread} for e in self.entries]
        return {**asdict(self), "entries": entries}


def compare(
    task: str,
    data: Any = None,
    *,
    cells: Sequence[str | Cell] = ("gru", "lstm", "rnn"),
    hidden_size: int = 64,
    seeds: int = 3,
    directory: str | Path | None = None,
    report: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> Comparison:
    """Train each cell at the same hidden size and at the parameter count of the first, once per seed.

    Args:
        task: name of a task, e.g. ``forecast``. data: as for its ``fit``. cells: names or cells, the reference first.
        hidden_size: of the reference. seeds: number of seeds, from 0. options: further arguments of the task.
        directory: where ``compare.json`` is written, over an earlier one.
        report: called with a description, the number of fits done and of all.

    Raises:
        InputError: for a wrong argument, before anything is trained.
    """
    kind = task_named(task)
    if seeds < 1:
        raise InputError(f"seeds must be at least 1, got {seeds}")
    resolved = [cell_of(cell) for cell in cells]
    names = [cell.name for cell in resolved]
    if len(resolved) < 2 or len(set(names)) < len(names):
        raise InputError(f"cells must name at least two different cells, got {', '.join(names) or 'none'}")
    if directory is not None and (Path(directory) / CONFIG).exists():
        raise InputError(f"output directory {directory} holds the run of a fit; choose another directory")
    plan = _plan(kind, data, resolved, hidden_size, options)
    probe = _task(kind, resolved[0], hidden_size, options)
    probe.read(data)
    if not probe.measurable():
        raise InputError(f"data: {kind.metric} is undefined for them, so that there is nothing to compare")
    with nothing_on_error(directory):
        folder = None if directory is None else writable(directory)
        result = _run(kind, data, plan, seeds, options, report)
        if folder is not None:
            write_json(folder / "compare.json", result.as_json())
    return result


Planned = tuple[Cell, str, int, int]


def _run(
    kind: type[Task],
    data: Any,
    plan: list[Planned],
    seeds: int,
    options: dict[str, Any],
    report: Callable[[str, int, int], None] | None,
) -> Comparison:
    """Fit every network of the plan once per seed."""
    names = {cell.name for cell, *_ in plan}
    fitted: list[list[Task]] = [[] for _ in plan]
    done = 0
    for seed in range(seeds):  # seeds outermost: a busy spell of the machine meets all cells alike
        for index, (cell, _, size, _) in enumerate(plan):
            if report is not None:
                report(f"{cell.name} {size}, seed {seed}", done, seeds * len(plan))
            one = _task(kind, cell, size, {**options, "seed": seed}).fit(data)
            if math.isnan(one.scores[cell.name][kind.metric]):
                raise InputError(f"data: {kind.metric} is undefined for them, so that there is nothing to compare")
            fitted[index].append(one)
            done += 1
    entries = [
        Entry(
            cell.name,
            sizing,
            size,
            count,
            [one.scores[cell.name][kind.metric] for one in runs],
            float(np.median([one.history.seconds_per_step for one in runs])),
        )
        for (cell, sizing, size, count), runs in zip(plan, fitted, strict=True)
    ]
    baselines = {name: s[kind.metric] for name, s in fitted[0][0].scores.items() if name not in names}
    return Comparison(kind.name, kind.metric, seeds, entries, baselines)


def _plan(kind: type[Task], data: Any, cells: list[Cell], hidden_size: int, options: dict[str, Any]) -> list[Planned]:
    """(cell, sizing, hidden size, parameters) of every network: the equal sizes first, then the solved ones."""

    def count(cell: Cell, size: int) -> int:
        task = _task(kind, cell, size, options)
        task.read(data)
        return sum(p.numel() for p in task.build().parameters())

    target = count(cells[0], hidden_size)
    equal, solved = [(cells[0], "both", hidden_size, target)], []
    for cell in cells[1:]:
        size = solve(lambda n, cell=cell: count(cell, n), target)  # type: ignore[misc]
        if size == hidden_size:
            equal.append((cell, "both", size, count(cell, size)))
        else:
            equal.append((cell, "size", hidden_size, count(cell, hidden_size)))
            solved.append((cell, "parameters", size, count(cell, size)))
    return equal + solved


def _task(kind: type[Task], cell: Cell, size: int, options: dict[str, Any]) -> Task:
    make: Callable[..., Task] = kind
    return make(cell=cell, hidden_size=size, **options)


def solve(count: Callable[[int], int], target: int) -> int:
    """The size from 1 on whose count, increasing in the size, is nearest to the target."""
    low, high = 1, 2
    while count(high) < target and high < LARGEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < target else (low, middle)
    return min((low, high), key=lambda size: abs(count(size) - target))
