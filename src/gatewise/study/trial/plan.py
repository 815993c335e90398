"""What is trained for the trial: which cells on which exercises, and how large the short and the long version are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from gatewise import cells
from gatewise.compiler import Cell
from gatewise.nn import initialise
from gatewise.study import compare
from gatewise.study.compare import solve
from gatewise.tasks.base import Task
from gatewise.tasks.registry import task_named

MARGINS = {"adding": 0.01, "copy": 5.0, "digits": 3.0, "mackey_glass": 0.01, "forecast": 0.05, "translate": 3.0}
"""Differences of the metric that count as none, fixed before a full trial was run: a mean squared error of 0.01 where
guessing gives 0.17, 5 and 3 points of wrong answers, a hundredth of the series' deviation, a twentieth of the naive
error, 3 points of BLEU."""
CELLS = ("gru", "lstm", "rnn")
LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Learning rates that a grid is extended to where the best one stands at its edge."""
KEEPING, PLAIN = ("torch", "remember", "chrono"), ("torch", "orthogonal")
"""How a cell with a gate that keeps may start (``remember``: bias 1 for that gate), and how one without may."""


@dataclass(frozen=True)
class Goal:
    """What a task asks: the validation figure at which it is solved, and whether a training stops there."""

    solved: float
    stops: bool = False


GOALS = {
    "adding": Goal(0.005, stops=True),
    "copy": Goal(10.0, stops=True),
    "digits": Goal(10.0),
    "mackey_glass": Goal(0.1),
    "forecast": Goal(0.5),
    "translate": Goal(80.0),
}
"""Fixed before a full trial was run, with single trainings of adding and of the series known. Adding: half the margin,
a thirtieth of guessing; digits and copy: a tenth of the answers wrong, where guessing is wrong in 90 and 87.5 %; the
series: a tenth of its deviation, half of the naive forecast's error; translation: 80 BLEU, since the phrases are few
and simple."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is run.

    ``rates``: learning rates that every network tries from every start, with the first seed; ``extensions``: how often
    this grid grows where the best rate stands at its edge. ``check_*`` and ``lag`` are of the checks of the instrument:
    steps and seeds of a training, the span of adding and the lag of copy.
    """

    name: str
    seeds: int
    rates: tuple[float, ...]
    units: int
    spans: tuple[int, ...]
    shares: tuple[float, ...]
    steps: int
    timing_rounds: int
    check_steps: int = 4000
    check_seeds: int = 3
    check_span: int = 100
    lag: int = 50
    extensions: int = 3


SHORT = Scale(
    name="short",
    seeds=4,
    rates=(3e-3, 1e-2, 3e-2),
    units=24,
    spans=(10, 90),
    shares=(0.1, 1.0),
    steps=800,
    timing_rounds=5,
    check_steps=2000,
    extensions=1,
)
LONG = Scale(
    name="full",
    seeds=8,
    rates=(1e-3, 3e-3, 1e-2, 3e-2),
    units=32,
    spans=(10, 30, 100),
    shares=(0.03, 0.1, 0.3, 1.0),
    steps=4000,
    timing_rounds=15,
    check_seeds=5,
    lag=100,
)


@dataclass(frozen=True)
class Setting:
    """What is tuned: the learning rate, and how the layers start."""

    rate: float
    start: str

    def __str__(self) -> str:
        return f"{self.start}, {self.rate:g}"


@dataclass(frozen=True)
class Network:
    """One row of the trial: a cell on a task, before setting and seed are chosen. ``starts`` are those it may try."""

    task: str
    cell: Cell
    options: tuple[tuple[str, Any], ...]
    starts: tuple[str, ...]

    @property
    def key(self) -> str:
        named = [f"{k}{v}" for k, v in self.options if v is not None]
        fixed = self.starts if len(self.starts) == 1 else ()
        return "-".join([self.task, self.cell.name, *named, *fixed])

    @property
    def goal(self) -> Goal:
        return GOALS[self.task]

    @property
    def stops(self) -> bool:
        """Whether its training stops once the task is solved."""
        return dict(self.options).get("target") is not None

    @property
    def cost(self) -> float:
        """About how much work a training is, in steps of a sequence; one that stops early is less."""
        options = dict(self.options)
        length = {"mackey_glass": 100, "forecast": 60, "translate": 150}.get(self.task) or options.get("span", 20)
        return float(options["max_steps"] * (20 + length))

    def fitting(self, setting: Setting, seed: int) -> dict[str, Any]:
        return {**dict(self.options), "learning_rate": setting.rate, "initialise": setting.start, "seed": seed}


def starts_of(cell: Cell) -> tuple[str, ...]:
    """How a cell may start: of one list for all, what it has the gates for."""
    try:
        initialise.check("cell", "remember", cell)
    except ValueError:
        return PLAIN
    return KEEPING


def made(task: str, cell: Cell, options: dict[str, Any], start: str | None = None) -> Network:
    """A network whose training stops once its task is solved, where that is a matter of yes or no."""
    goal = GOALS[task]
    kept = {"target": goal.solved, **options} if goal.stops else options
    return Network(task, cell, tuple(sorted(kept.items())), starts_of(cell) if start is None else (start,))


def network(
    scale: Scale, task: str, cell: Cell | str, factor: int = 1, start: str | None = None, **options: Any
) -> Network:
    """A network with as many parameters as a GRU of the scale's units, times the factor, on the same task."""
    resolved = cells.get(cell) if isinstance(cell, str) else cell
    base = {"max_steps": scale.steps, **options}
    units = _size(task, resolved, factor * scale.units, json.dumps(options))
    return made(task, resolved, {**base, "hidden_size": units}, start)


_sizes: dict[tuple[str, str, int, str], int] = {}


def _size(task: str, cell: Cell, units: int, options: str) -> int:
    """The hidden size with which a cell has as many parameters as a GRU with ``units``."""
    key = (task, cell.body(), units, options)
    if key not in _sizes:
        target = parameters(task, cells.gru, units, json.loads(options))
        count = partial(parameters, task, cell, options=json.loads(options))
        _sizes[key] = solve(count, target, task_named(task).size_multiple)
    return _sizes[key]


def parameters(task: str, cell: Cell, units: int, options: dict[str, Any]) -> int:
    """Weights and biases of the whole network."""
    return compare.parameters(_read(task, json.dumps(options)), cell, units)


@lru_cache
def _read(task: str, options: str) -> Task:
    """A task that has read its default data, once for all sizes."""
    kind: Any = task_named(task)
    one: Task = kind(**json.loads(options))
    one.read(None)
    return one


def adding(scale: Scale, cell: Cell | str, span: int) -> Network:
    return network(scale, "adding", cell, span=span)


def wholly(scale: Scale, cell: Cell | str, span: int) -> Network:
    """Adding to the end of the budget, though it is solved before: for how small an error becomes."""
    return network(scale, "adding", cell, span=span, target=None)


def digits(scale: Scale, cell: Cell | str, share: float = 1.0) -> Network:
    return network(scale, "digits", cell, span=16, share=share)


def sized(scale: Scale, cell: Cell | str) -> Network:
    """Digits with the same number of units for every cell, whatever parameters that makes."""
    resolved = cells.get(cell) if isinstance(cell, str) else cell
    options = {"max_steps": scale.steps, "span": 16, "share": 1.0, "hidden_size": scale.units}
    return made("digits", resolved, options)


def chaos(scale: Scale, cell: Cell | str) -> Network:
    return network(scale, "mackey_glass", cell)


def forecast(scale: Scale, cell: Cell | str) -> Network:
    """The embedded series by one network of the plainest strategy, in half as many steps: by then the validation figure
    stands still."""
    steps = max(1, scale.steps // 2)
    return network(scale, "forecast", cell, strategy="steps", max_steps=steps, epochs=steps)


def translate(scale: Scale, cell: Cell | str) -> Network:
    """The embedded phrases, 64 pairs a step, with twice the units, which both directions of the encoder share."""
    small: dict[str, Any] = {"batch_size": 64, "embedding_size": 2 * scale.units}
    return network(scale, "translate", cell, 2, epochs=scale.steps, **small)


def pinned(scale: Scale) -> dict[str, Cell]:
    """The GRU, and the GRU retrained with a gate fixed: no reset, no keeping."""
    return {"gru": cells.gru, "r = 1": cells.gru.pin(r=1), "z = 0": cells.gru.pin(z=0)}


def several(scale: Scale, cell: Cell | str, span: int) -> list[Network]:
    """A cell on every task: what is to be found on many."""
    made = [adding(scale, cell, span), digits(scale, cell), chaos(scale, cell)]
    return [*made, forecast(scale, cell), translate(scale, cell)]


def label(network: Network, also: Sequence[str] = ("span", "share")) -> str:
    """A network in words: its task and what was varied."""
    options = dict(network.options)
    return ", ".join(
        [network.task.replace("_", "-"), *(f"{name} {options[name]:g}" for name in also if name in options)]
    )
