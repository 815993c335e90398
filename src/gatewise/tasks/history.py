"""The history of a training, and who is told of it while it grows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass
class Epoch:
    """One line of the training history: mean loss, validation figure, seconds and steps of an epoch, what it saw."""

    epoch: int
    steps: int
    loss: float
    value: float
    seconds: float
    size: int = 0


@dataclass
class History:
    """Where a training stands: its finished epochs, which was the best, and whether the last was kept instead."""

    epochs: list[Epoch] = field(default_factory=list)
    finished: bool = False
    higher_is_better: bool = False
    kept_last: bool = False

    @classmethod
    def read(cls, text: str, higher_is_better: bool, finished: bool = False) -> History:
        """From what ``text`` gave."""
        return cls([Epoch(**e) for e in json.loads(text)], finished, higher_is_better)

    def text(self) -> str:
        """The epochs as JSON."""
        return json.dumps([asdict(e) for e in self.epochs])

    def entries(self) -> dict[str, Any]:
        """For ``metrics.json``: the epochs, and the number of the one that was kept where it is not the best."""
        kept = {"kept_epoch": len(self.epochs)} if self.kept_last else {}
        return {"history": [asdict(e) for e in self.epochs], **kept}

    def table(self, rate: Callable[[int], float]) -> str:
        """The epochs as CSV, with the learning rate of each one's last step, which ``rate`` gives for steps from 0."""
        lines, steps = ["epoch,steps,loss,value,seconds,size,learning_rate"], 0
        for e in self.epochs:
            steps += e.steps
            lines.append(f"{e.epoch},{e.steps},{e.loss!r},{e.value!r},{e.seconds!r},{e.size},{rate(steps - 1)!r}")
        return "\n".join(lines) + "\n"

    @property
    def steps(self) -> int:
        return sum(e.steps for e in self.epochs)

    @property
    def best(self) -> Epoch:
        return min(self.epochs, key=lambda e: -e.value if self.higher_is_better else e.value)

    @property
    def kept(self) -> Epoch:
        """That whose weights the model has."""
        return self.epochs[-1] if self.kept_last else self.best

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return len(self.epochs) - self.best.epoch if self.epochs else 0

    def reached(self, target: float | None) -> bool:
        """Whether some epoch was as good as a target; no target is never reached."""
        if target is None or not self.epochs:
            return False
        return self.best.value >= target if self.higher_is_better else self.best.value <= target

    @property
    def seconds_per_step(self) -> float:
        """Median over the epochs; validation is not counted."""
        return float(np.median([e.seconds / e.steps for e in self.epochs])) if self.epochs else math.nan

    @property
    def size_per_second(self) -> float:
        """What training went through in a second, in the objective's unit; median over the epochs."""
        return float(np.median([e.size / e.seconds for e in self.epochs])) if self.epochs else math.nan


class Reporter(Protocol):
    """Who is told how training goes."""

    def step(self, step: int, loss: float, per_second: float) -> None:
        """A step is done: its number from 1, its loss, and what an epoch goes through in a second so far."""

    def epoch(self, history: History, note: str) -> None:
        """An epoch is done and kept; the last of the history."""


class MakeReporter(Protocol):
    """Makes the reporter of a training, a context manager."""

    def __call__(self, title: str, total: int, metric: str, unit: str) -> Any: ...
