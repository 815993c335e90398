"""What is trained for the trial: which cells on which exercises, and how large the short and the long version are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from gatewise import cells
from gatewise.compiler import Cell
from gatewise.study import compare
from gatewise.study.compare import solve
from gatewise.tasks.base import Task
from gatewise.tasks.registry import task_named

MARGINS = {"adding": 0.01, "copy": 5.0, "digits": 3.0, "mackey_glass": 0.01, "forecast": 0.05, "translate": 3.0}
"""Differences of the metric that count as none, fixed before anything was run: a mean squared error of 0.01 where
guessing gives 0.17, 5 and 3 points of wrong answers, a hundredth of the series' deviation, a twentieth of the naive
error, 3 points of BLEU."""
CELLS = ("gru", "lstm", "rnn")


@dataclass(frozen=True)
class Scale:
    """How much is run: seeds, learning rates tried by every network with the first seed, spans, shares, steps."""

    name: str
    seeds: int
    rates: tuple[float, ...]
    units: int
    spans: tuple[int, ...]
    shares: tuple[float, ...]
    steps: int
    timing_rounds: int


SHORT = Scale("short", 5, (3e-3, 1e-2, 3e-2), 24, (10, 30, 90), (0.01, 0.1, 1.0), 800, 5)
LONG = Scale("full", 10, (1e-3, 3e-3, 1e-2, 3e-2), 48, (10, 30, 100, 200), (0.01, 0.03, 0.1, 0.3, 1.0), 3000, 15)


@dataclass(frozen=True)
class Network:
    """One row of the trial: a cell on a task, before learning rate and seed are chosen."""

    task: str
    cell: Cell
    options: tuple[tuple[str, Any], ...]

    @property
    def key(self) -> str:
        return "-".join([self.task, self.cell.name, *(f"{k}{v}" for k, v in self.options)])

    def fitting(self, rate: float, seed: int) -> dict[str, Any]:
        return {**dict(self.options), "learning_rate": rate, "seed": seed}


def network(scale: Scale, task: str, cell: Cell | str, factor: int = 1, **options: Any) -> Network:
    """A network with as many parameters as a GRU of the scale's units, times the factor, on the same task."""
    resolved = cells.get(cell) if isinstance(cell, str) else cell
    base = {"max_steps": scale.steps, **options}
    units = _size(task, resolved, factor * scale.units, json.dumps(options))
    return Network(task, resolved, tuple(sorted({**base, "hidden_size": units}.items())))


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


def digits(scale: Scale, cell: Cell | str, share: float = 1.0) -> Network:
    return network(scale, "digits", cell, span=16, share=share)


def sized(scale: Scale, cell: Cell | str) -> Network:
    """Digits with the same number of units for every cell, whatever parameters that makes."""
    resolved = cells.get(cell) if isinstance(cell, str) else cell
    options = {"max_steps": scale.steps, "span": 16, "share": 1.0, "hidden_size": scale.units}
    return Network("digits", resolved, tuple(sorted(options.items())))


def chaos(scale: Scale, cell: Cell | str) -> Network:
    return network(scale, "mackey_glass", cell)


def forecast(scale: Scale, cell: Cell | str) -> Network:
    """The embedded series by one network of the plainest strategy, in half as many steps: by then the validation figure
    stands still."""
    steps = max(1, scale.steps // 2)
    return network(scale, "forecast", cell, strategy="steps", max_steps=steps, epochs=steps)


def translate(scale: Scale, cell: Cell | str) -> Network:
    """The embedded phrases, 64 pairs a step, with twice the units, which both directions of the encoder share."""
    small = {"batch_size": 64, "embedding_size": 2 * scale.units}
    return network(scale, "translate", cell, 2, epochs=scale.steps, **small)


def pinned(scale: Scale) -> dict[str, Cell]:
    """The GRU, and the GRU retrained with a gate fixed: no reset, no keeping."""
    return {"gru": cells.gru, "r = 1": cells.gru.pin(r=1), "z = 0": cells.gru.pin(z=0)}


def several(scale: Scale, cell: Cell | str, span: int) -> list[Network]:
    """A cell on every task: what is to be found on many."""
    made = [adding(scale, cell, span), digits(scale, cell), chaos(scale, cell)]
    return [*made, forecast(scale, cell), translate(scale, cell)]


def everything(scale: Scale) -> list[Network]:
    """Every network that some claim needs, each once."""
    networks: list[Network] = []
    for name in CELLS:
        networks += [adding(scale, name, span) for span in scale.spans]
        networks += [digits(scale, name, share) for share in scale.shares if name != "rnn" or share == 1.0]
        networks += [chaos(scale, name), sized(scale, name)]
        networks += [forecast(scale, name), translate(scale, name)] if name != "rnn" else []
    for cell in list(pinned(scale).values())[1:]:
        networks += [adding(scale, cell, scale.spans[0]), adding(scale, cell, scale.spans[-1]), digits(scale, cell)]
    return list(dict.fromkeys(networks))


def label(network: Network, also: Sequence[str] = ("span", "share")) -> str:
    """A network in words: its task and what was varied."""
    options = dict(network.options)
    return ", ".join(
        [network.task.replace("_", "-"), *(f"{name} {options[name]:g}" for name in also if name in options)]
    )
