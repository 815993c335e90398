"""What the gates of a trained model did over a sequence: values, rate of change, half-lives."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.nn import Recurrent
from gatewise.nn.initialise import keepers
from gatewise.study.observe import Reading, reading
from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError

MOST_STEPS = 400
"""Steps that a picture can show; of a longer sequence every k-th is drawn, and the picture says so."""
Values = NDArray[np.float64]


def nth(number: int) -> str:
    """2nd, 3rd, 4th …"""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


@dataclass(frozen=True)
class Traced:
    """Gates over a sequence, units ordered from the longest half-life to the shortest.

    ``gates`` are (T, units) by name; ``change`` (T,) is ‖h_t − h_{t−1}‖ / ‖h_{t−1}‖, NaN where the state was zero;
    ``half_life`` (units,) is in steps, NaN for a cell without a gate that keeps; ``units`` their places in the layer.
    """

    cell: str
    keeper: str | None
    labels: list[str]
    series: NDArray[Any] | None
    gates: dict[str, Values]
    output: Values
    change: Values
    half_life: Values
    units: NDArray[np.int64]

    def csv(self) -> str:
        """One row for each step and unit: the step, its label, the unit, its half-life, its output, every gate."""
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow(["step", "label", "unit", "half_life_steps", "output", *self.gates])
        for t, label in enumerate(self.labels):
            for k, unit in enumerate(self.units):
                gates = [f"{values[t, k]:.6g}" for values in self.gates.values()]
                out.writerow([t, label, unit, f"{self.half_life[k]:.6g}", f"{self.output[t, k]:.6g}", *gates])
        return text.getvalue()


def traced(task: Task, data: Any = None, row: int = 0) -> Traced:
    """Trace the first recurrent layer of a model (its first stack and direction) on what it reads.

    Args:
        task: a fitted or loaded model. data: as for its ``predict``. row: which sequence of the batch.

    Raises:
        InputError: for data that do not fit, or a model without a recurrent layer.
    """
    return of_reading(reading(task, data, row))


def of_reading(read: Reading) -> Traced:
    """The same for what was read."""
    layer = read.layer
    try:
        states = None if read.states is None else read.states if len(read.states) > 1 else read.states[0]
        found = layer.trace(read.x, states, **read.inputs)
    except ValueError as error:
        raise InputError(str(error)) from None
    gates = {name: value[0].double().numpy() for name, value in found.gates.items()}
    output = found.output.double().numpy()[:, : layer.hidden_size]
    keeper, kept = _kept(layer, gates)
    half = half_lives(kept) if kept is not None else np.full(layer.hidden_size, math.nan)
    order = np.argsort(-np.nan_to_num(half, nan=0.0), kind="stable") if kept is not None else _by_change(output)
    ordered = {name: value[:, order] for name, value in gates.items()}
    labels = read.labels
    return Traced(
        layer.cell.name,
        keeper,
        labels,
        read.series,
        ordered,
        output[:, order],
        rate_of_change(output),
        half[order],
        order,
    )


def _kept(layer: Recurrent, gates: dict[str, Values]) -> tuple[str | None, Values | None]:
    """The gate that keeps the state, and how much of it each unit keeps at each step, in [0, 1]."""
    signs = keepers(layer.cell)
    if not signs:
        return None, None
    gate, sign = next(iter(signs.items()))
    return gate, gates[gate] if sign > 0 else 1.0 - gates[gate]


def half_lives(kept: Values) -> Values:
    """Steps until half of a unit's state is gone: −ln 2 / mean of ln(kept) over the steps; (T, units) → (units,)."""
    decay = -np.log(np.clip(kept, 1e-12, 1.0 - 1e-12)).mean(0)
    return np.asarray(math.log(2.0) / decay)


def rate_of_change(states: Values) -> Values:
    """‖s_t − s_{t−1}‖ / ‖s_{t−1}‖ over the units, (T, units) → (T,); NaN at the first step and behind a zero state."""
    size = np.linalg.norm(states[:-1], axis=1)
    moved = np.linalg.norm(np.diff(states, axis=0), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(size > 0, moved / size, math.nan)
    return np.concatenate([[math.nan], rate])


def _by_change(output: Values) -> NDArray[np.int64]:
    """Units by how slowly they move, for cells without a keeping gate."""
    moved = np.abs(np.diff(output, axis=0)).mean(0) if len(output) > 1 else output[0]
    return np.argsort(moved, kind="stable")
