"""Reports of a training for machines: events as JSON lines, TensorBoard, and several reporters at once."""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gatewise.tasks.errors import need
from gatewise.tasks.history import History, MakeReporter, Reporter
from gatewise.tasks.progress import Clock

TENSORBOARD = "tensorboard"
"""The folder in a run's that TensorBoard reads."""


class Events:
    """A reporter for ``train`` that writes a JSON object a line to standard error; a context manager.

    Each has ``event``: ``start`` (title, total, metric, unit), ``step`` (step, loss, per_second, seconds_left; at most
    every second), ``epoch`` (the figures of the epoch, best_epoch and note), ``end`` (steps, and ``error``: the name of
    what ended it early, else null). A figure that is not finite is null.
    """

    def __init__(self, title: str, total: int, metric: str, unit: str, pause: float = 1.0) -> None:
        self.clock, self.pause, self.next = Clock(total), pause, 0.0
        self.start = {"title": title, "total": total, "metric": metric, "unit": unit}

    def __enter__(self) -> Events:
        self._write("start", **self.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("end", steps=self.clock.done, error=None if kind is None else kind.__name__)

    def step(self, step: int, loss: float, per_second: float) -> None:
        self.clock.step(step)
        now = time.monotonic()
        if now >= self.next:
            self.next = now + self.pause
            self._write("step", step=step, loss=loss, per_second=per_second, seconds_left=self.clock.left())

    def epoch(self, history: History, note: str) -> None:
        figures = asdict(history.epochs[-1])
        self._write("epoch", **figures, best_epoch=history.best.epoch, note=note)

    def _write(self, event: str, **values: Any) -> None:
        known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        print(json.dumps({"event": event, **known}, ensure_ascii=False), file=sys.stderr, flush=True)


class TensorBoard:
    """A reporter for ``train`` that writes what TensorBoard shows; a context manager.

    Args:
        folder: of the run; the files lie in ``tensorboard`` in it. Made by ``functools.partial(TensorBoard,
            folder=...)``, it is a ``MakeReporter``.

    Raises:
        InputError: when TensorBoard is not installed.
    """

    def __init__(self, title: str, total: int, metric: str, unit: str, *, folder: str | Path) -> None:
        need("tensorboard", "tensorboard")
        self.metric, self.unit, self.place = metric, unit, Path(folder) / TENSORBOARD
        self.writer: Any = None

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.close()

    def step(self, step: int, loss: float, per_second: float) -> None:
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Of a run that is resumed, steps after its last checkpoint were written already: they are taken back.
            self.writer = SummaryWriter(str(self.place), purge_step=step)
        self.writer.add_scalar("training/loss", loss, step)

    def epoch(self, history: History, note: str) -> None:
        last = history.epochs[-1]
        scalars = {"training/mean loss": last.loss, f"validation/{self.metric}": last.value}
        scalars[f"speed/{self.unit} per second"] = last.size / last.seconds
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, history.steps)
        if note:
            self.writer.add_text("validation/note", note, history.steps)
        self.writer.flush()


@dataclass(frozen=True)
class Several:
    """Makes several reporters at once, which are told in this order: ``Several((Progress, Events))``."""

    makers: tuple[MakeReporter, ...]

    def __call__(self, title: str, total: int, metric: str, unit: str) -> _All:
        return _All([make(title, total, metric, unit) for make in self.makers])


class _All:
    def __init__(self, made: list[Any]) -> None:
        self.made, self.stack = made, ExitStack()
        self.reporters: list[Reporter] = []

    def __enter__(self) -> _All:
        with ExitStack() as entered:
            self.reporters = [entered.enter_context(one) for one in self.made]
            self.stack = entered.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.__exit__(kind, value, trace)

    def step(self, step: int, loss: float, per_second: float) -> None:
        for reporter in self.reporters:
            reporter.step(step, loss, per_second)

    def epoch(self, history: History, note: str) -> None:
        for reporter in self.reporters:
            reporter.epoch(history, note)
