"""Progress of a training for people: a bar with loss, validation figure and time left; in a log, lines."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

from gatewise.tasks.errors import need
from gatewise.tasks.history import History

SILENCE = 30.0
"""Seconds after which a log gets a line, whatever the training does."""
PARTS = 10
"""Of the steps, after each of which it gets one at the end of an epoch."""


class Progress:
    """A reporter for ``train`` that writes to standard error; a context manager.

    Where that is no terminal there is a line when another tenth of the steps is done, and one after 30 seconds of
    silence, also within an epoch and while a validation goes on.

    Args:
        title: what is being trained. total: optimiser steps in all. metric: name of the validation figure.
        unit: what training goes through, as in "tokens per second". silence: seconds without a line.
    """

    def __init__(self, title: str, total: int, metric: str, unit: str, silence: float = SILENCE) -> None:
        need("rich")
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.metric, self.unit, self.silence = metric, unit, silence
        self.clock = Clock(total)
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps")]
        self.bar: Any = Bar(
            *columns, TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=self.console, transient=True
        )
        self.task = self.bar.add_task(title, total=total, figures="")
        self.loss, self.speed, self.validation, self.part = "", "", "", 0
        self.ended = threading.Event()
        self.printed = time.monotonic()
        self.lines = threading.Thread(target=self._break_silence, daemon=True, name="progress")

    def __enter__(self) -> Progress:
        if self.live:
            self.bar.start()
        else:
            self.lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        if self.live:
            self.bar.stop()
        else:
            self.lines.join()

    def step(self, step: int, loss: float, per_second: float) -> None:
        self.clock.step(step)
        self.loss, self.speed = f"loss {loss:.4f}", f"{per_second:,.0f} {self.unit}/s"
        if self.live:
            self.bar.update(self.task, completed=step, figures=f"{self.loss}  {self.speed}  {self.validation}")

    def epoch(self, history: History, note: str) -> None:
        last, best = history.epochs[-1], history.best
        self.loss = f"loss {last.loss:.4f}"
        self.validation = f"validation {self.metric} {last.value:.3f} (best {best.value:.3f}, epoch {best.epoch})"
        part = PARTS * history.steps // self.clock.total
        if not self.live and part <= self.part:
            return
        self.part = part
        lines = [] if self.live else [self._line()]
        if shown := "\n".join([*lines, *([note] if note else [])]):
            self._print(shown)

    def _break_silence(self) -> None:
        """Of a log, in a thread: a step or a validation may take longer than the silence."""
        while not self.ended.wait(max(0.01, self.printed + self.silence - time.monotonic())):
            if time.monotonic() - self.printed >= self.silence:
                self._print(self._line())

    def _line(self) -> str:
        idle, left = self.clock.idle(), self.clock.left()
        parts = [f"step {self.clock.done}/{self.clock.total}", self.loss, self.validation, self.speed]
        parts += [duration(left) + " left"] if left is not None else []
        parts += [f"no step for {idle:.0f} s (a validation, or a long step)"] if idle >= self.silence / 2 else []
        return "  ".join(part for part in parts if part)

    def _print(self, text: str) -> None:
        self.printed = time.monotonic()
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)


class Clock:
    """How far a training is and how long it still takes, by the steps that this process has seen."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.first: int | None = None
        self.started = self.latest = time.monotonic()

    def step(self, step: int) -> None:
        if self.first is None:
            self.first = step - 1  # a training that is resumed starts late
        self.done, self.latest = step, time.monotonic()

    def idle(self) -> float:
        """Seconds since the last step."""
        return time.monotonic() - self.latest

    def left(self) -> float | None:
        """Seconds, at the mean speed so far with validations; None before the first step."""
        if self.first is None or self.done == self.first:
            return None
        return (time.monotonic() - self.started) / (self.done - self.first) * (self.total - self.done)


def duration(seconds: float) -> str:
    """In the unit that a reader would take."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
