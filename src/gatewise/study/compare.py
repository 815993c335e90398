"""Comparison of cells on a task: at equal hidden size, equal parameters or equal training time; a loop over fits."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.compiler import Cell
from gatewise.study.measure import inference_seconds, training_bytes
from gatewise.study.statistics import Paired, paired
from gatewise.tasks.base import Task
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.errors import InputError, need
from gatewise.tasks.folder import CONFIG, whole, write_json
from gatewise.tasks.registry import task_named

LARGEST = 1 << 14
SIZINGS = ("size", "parameters", "time")
FITS = "fits"
PROBE_STEPS = 30


@dataclass(frozen=True)
class Entry:
    """One network of the comparison. ``scores`` has a value per seed; ``seconds_per_step`` is the median.

    ``seconds`` and ``curves`` have a list per seed: training time up to each validation, and the validation figure.
    """

    cell: str
    sizing: str
    """``size``, ``parameters`` or ``time``: what is equal to the reference's; ``both``: size and parameters."""
    hidden_size: int
    parameters: int
    scores: list[float]
    seconds_per_step: float
    inference_seconds: float | None
    training_bytes: int
    seconds: list[list[float]]
    curves: list[list[float]]
    against: Paired | None
    """Beside the reference, seed by seed; None for the reference itself."""

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
    higher_is_better: bool
    seeds: int
    margin: float
    """Difference of the metric that counts as none, as given: a share of the reference's mean."""
    inference: str
    """What ``inference_seconds`` are of: the network's ``forward``, or what the task says."""
    entries: list[Entry]
    baselines: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        entries = [{**asdict(e), "mean": e.mean, "spread": e.spread} for e in self.entries]
        return {**asdict(self), "entries": entries, "sentences": self.sentences()}

    def at_a_baseline(self, entry: Entry) -> str:
        """Words for a network that, like the reference, is not better than a naive method by the margin: networks that
        have not learnt say nothing about their cells. Empty where one of both is."""
        reference, pair, sign = self.entries[0], entry.against, 1 if self.higher_is_better else -1
        if not self.baselines or pair is None:
            return ""
        name, value = max(self.baselines.items(), key=lambda item: sign * item[1])
        if any(sign * (one.mean - value) >= pair.margin for one in (entry, reference)):
            return ""
        return f"neither {entry.cell} nor {reference.cell} is better than {name} ({value:.4g}), so that nothing follows"

    def sentences(self) -> list[str]:
        """What follows, in words: one sentence for each network beside the reference."""
        return [_sentence(self, entry) for entry in self.entries if entry.against is not None]


def _sentence(whole: Comparison, entry: Entry) -> str:
    reference, pair = whole.entries[0], entry.against
    assert pair is not None
    equal = {"size": "equal size", "parameters": "equal parameters", "time": "equal training time"}[entry.sizing]
    better, worse = ("higher", "lower") if whole.higher_is_better else ("lower", "higher")
    seeds = f"{whole.seeds} seed{'s' if whole.seeds > 1 else ''}"
    outcome = (
        whole.at_a_baseline(entry)
        or {
            better: f"{entry.cell} is better than {reference.cell}",
            worse: f"{entry.cell} is worse than {reference.cell}",
            "equal": f"{entry.cell} and {reference.cell} are equal within ± {pair.margin:.3g}",
            "undecided": f"the comparison of {entry.cell} with {reference.cell} is inconclusive",
        }[pair.relation]
    )
    figures = f"{whole.metric} {entry.mean:.4g} beside {reference.mean:.4g}"
    interval = f"difference {pair.difference}, {seeds}" if whole.seeds > 1 else seeds
    return f"At {equal} {outcome}: {figures} ({interval})."


@dataclass(frozen=True)
class Planned:
    """A network to be fitted."""

    cell: Cell
    sizing: str
    hidden_size: int
    parameters: int
    options: dict[str, Any]

    def folder(self, seed: int) -> str:
        return f"{self.cell.name}-{self.sizing}-{self.hidden_size}-seed{seed}"


def compare(
    task: str,
    data: Any = None,
    *,
    cells: Sequence[str | Cell] = ("gru", "lstm", "rnn"),
    hidden_size: int = 64,
    seeds: int = 3,
    equal: Sequence[str] = ("size", "parameters"),
    margin: float = 0.05,
    directory: str | Path | None = None,
    resume: bool = False,
    report: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> Comparison:
    """Train each cell beside the first, once per seed, on the same data.

    Args:
        task: name of a task, e.g. ``forecast``. data: as for its ``fit``. cells: names or cells, the reference first.
        hidden_size: of the reference. seeds: number of seeds, from 0. options: further arguments of the task.
        equal: what is held equal to the reference: ``size``, ``parameters`` (the hidden size is solved for), ``time``
            (the training steps are, from a probe of 30 steps; needs ``max_steps``).
        margin: difference that counts as none, as a share of the reference's mean: what is equal is judged by it.
        directory: gets ``compare.json`` and the fitted models in ``fits/``, over an earlier comparison.
        resume: keep the finished fits of an interrupted comparison in the directory, and go on.
        report: called with a description, the number of fits done and of all.

    Raises:
        InputError: for a wrong argument, before anything is trained.
    """
    need("scipy")
    kind = task_named(task)
    resolved = _checked(seeds, equal, margin, cells, options)
    if directory is not None and (Path(directory) / CONFIG).exists():
        raise InputError(f"output directory {directory} holds the run of a fit; choose another directory")
    if resume and (directory is None or not (Path(directory) / FITS).is_dir()):
        raise InputError(f"resume: {directory} holds no interrupted comparison")
    probe = _task(kind, resolved[0], hidden_size, options)
    probe.read(data)
    if not probe.measurable():
        raise InputError(f"data: {probe.metric} is undefined for them, so that there is nothing to compare")
    plan = _plan(probe, data, resolved, hidden_size, equal, options)
    folder = None if directory is None else Path(directory)
    with whole(directory):
        if folder is not None and not resume:
            shutil.rmtree(folder / FITS, ignore_errors=True)
        fitted = _run(kind, data, plan, seeds, folder, report)
        result = _judged(kind, plan, fitted, seeds, margin)
        if folder is not None:
            write_json(folder / "compare.json", result.as_json())
    return result


def _checked(
    seeds: int, equal: Sequence[str], margin: float, cells: Sequence[str | Cell], options: dict[str, Any]
) -> list[Cell]:
    if seeds < 1:
        raise InputError(f"seeds must be at least 1, got {seeds}")
    if not equal or not set(equal) <= set(SIZINGS):
        raise InputError(f"equal must name some of {', '.join(SIZINGS)}, got {', '.join(equal) or 'none'}")
    if not 0 < margin < 1:
        raise InputError(f"margin must be a share of the reference's mean, above 0 and below 1, got {margin!r}")
    if "time" in equal and options.get("max_steps") is None:
        raise InputError("equal: time needs max_steps, the training steps of the reference")
    resolved = [cell_of(cell) for cell in cells]
    names = [cell.name for cell in resolved]
    if len(resolved) < 2 or len(set(names)) < len(names):
        raise InputError(f"cells must name at least two different cells, got {', '.join(names) or 'none'}")
    return resolved


def _run(
    kind: type[Task],
    data: Any,
    plan: list[Planned],
    seeds: int,
    folder: Path | None,
    report: Callable[[str, int, int], None] | None,
) -> list[list[Task]]:
    """Fit every network of the plan once per seed."""
    fitted: list[list[Task]] = [[] for _ in plan]
    for seed in range(seeds):  # seeds outermost: a busy spell of the machine meets all cells alike
        for index, one in enumerate(plan):
            if report is not None:
                report(f"{one.cell.name} {one.hidden_size}, seed {seed}", seed * len(plan) + index, seeds * len(plan))
            task = _fit(kind, data, one, seed, folder)
            if math.isnan(task.scores[one.cell.name][task.metric]):
                raise InputError(f"data: {task.metric} is undefined for them, so that there is nothing to compare")
            fitted[index].append(task)
    return fitted


def _fit(kind: type[Task], data: Any, one: Planned, seed: int, folder: Path | None) -> Task:
    options = {**one.options, "seed": seed}
    if folder is None:
        return _task(kind, one.cell, one.hidden_size, options).fit(data)
    place = folder / FITS / one.folder(seed)
    if (place / CONFIG).exists():
        return kind.resume(place, data, cell=one.cell, hidden_size=one.hidden_size, **options)
    return _task(kind, one.cell, one.hidden_size, options).fit(data, directory=place)


def _judged(kind: type[Task], plan: list[Planned], fitted: list[list[Task]], seeds: int, share: float) -> Comparison:
    """The entries, each beside the first."""
    names = {one.cell.name for one in plan}
    scores = [[t.scores[one.cell.name][t.metric] for t in runs] for one, runs in zip(plan, fitted, strict=True)]
    margin = share * abs(float(np.mean(scores[0]))) or share
    entries = []
    for k, (one, runs) in enumerate(zip(plan, fitted, strict=True)):
        epochs = [task.history.epochs for task in runs]
        entries.append(
            Entry(
                one.cell.name,
                one.sizing,
                one.hidden_size,
                one.parameters,
                scores[k],
                float(np.median([task.history.seconds_per_step for task in runs])),
                inference_seconds(runs[0]),
                training_bytes(runs[0]),
                [np.cumsum([e.seconds for e in each]).tolist() for each in epochs],
                [[e.value for e in each] for each in epochs],
                None if k == 0 else paired(scores[k], scores[0], margin),
            )
        )
    first = fitted[0][0]
    baselines = {name: s[first.metric] for name, s in first.scores.items() if name not in names}
    metric, passed = (first.metric, kind.higher_is_better), kind.pass_name
    return Comparison(kind.name, *metric, seeds, share, passed, entries, baselines)


def parameters(read: Task, cell: Cell, size: int) -> int:
    """Weights and biases of the network that a task would build, with another cell and size, for the data it read."""
    return sum(p.numel() for p in read.resized(cell, size).build().parameters())


def _plan(
    read: Task, data: Any, cells: list[Cell], hidden_size: int, equal: Sequence[str], options: dict[str, Any]
) -> list[Planned]:
    """Every network: the equal sizes first, then the solved ones, then those with as much time."""
    kind, count = type(read), partial(parameters, read)
    target = count(cells[0], hidden_size)
    plan = [Planned(cells[0], "both", hidden_size, target, options)]
    sizes = {}
    if "parameters" in equal:
        sizes = {cell: solve(partial(count, cell), target, kind.size_multiple) for cell in cells[1:]}
    if "size" in equal:
        plan += [Planned(c, "size", hidden_size, count(c, hidden_size), options) for c in cells[1:]]
    for cell, size in sizes.items():
        if size != hidden_size or "size" not in equal:
            plan.append(Planned(cell, "parameters", size, count(cell, size), options))
    if "time" in equal:
        taken = {cell: _probe(kind, data, cell, hidden_size, options) for cell in cells}
        for cell in cells[1:]:
            steps = max(1, round(options["max_steps"] * taken[cells[0]] / taken[cell]))
            timed = {**options, "max_steps": steps}
            if "epochs" in options:
                timed["epochs"] = max(options["epochs"], steps)
            plan.append(Planned(cell, "time", hidden_size, count(cell, hidden_size), timed))
    return plan


def _probe(kind: type[Task], data: Any, cell: Cell, size: int, options: dict[str, Any]) -> float:
    """Seconds of a training step, behind the first ones, which compile."""
    short = {**options, "max_steps": PROBE_STEPS}
    _task(kind, cell, size, {**options, "max_steps": 2}).fit(data)
    return _task(kind, cell, size, short).fit(data).history.seconds_per_step


def _task(kind: type[Task], cell: Cell, size: int, options: dict[str, Any]) -> Task:
    make: Callable[..., Task] = kind
    return make(cell=cell, hidden_size=size, **options)


def solve(count: Callable[[int], int], target: int, multiple: int = 1) -> int:
    """The multiple whose count, increasing in the size, is nearest to the target."""
    low, high = 1, 2
    while count(multiple * high) < target and multiple * high < LARGEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(multiple * middle) < target else (low, middle)
    return multiple * min((low, high), key=lambda size: abs(count(multiple * size) - target))
