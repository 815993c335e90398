"""Progress of a training on the terminal: a bar with loss, validation figure and time left; plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from gatewise.tasks.errors import need
from gatewise.tasks.training import History


class Progress:
    """A reporter for ``train`` that writes to standard error; a context manager.

    Args:
        title: what is being trained. total: optimiser steps in all. metric: name of the validation figure.
        unit: what training goes through, as in "tokens per second".
    """

    def __init__(self, title: str, total: int, metric: str, unit: str) -> None:
        need("rich")
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.total, self.metric, self.unit, self.started = total, metric, unit, time.monotonic()
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps")]
        self.bar: Any = Bar(
            *columns, TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=self.console, transient=True
        )
        self.task = self.bar.add_task(title, total=total, figures="")
        self.validation, self.next_line, self.speed = "", 0.1, ""

    def __enter__(self) -> Progress:
        if self.live:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()

    def step(self, step: int, loss: float, per_second: float) -> None:
        self.speed = f"{per_second:,.0f} {self.unit}/s"
        if self.live:
            self.bar.update(self.task, completed=step, figures=f"loss {loss:.4f}  {self.speed}  {self.validation}")

    def epoch(self, history: History, note: str) -> None:
        last, best = history.epochs[-1], history.best
        self.validation = f"validation {self.metric} {last.value:.3f} (best {best.value:.3f}, epoch {best.epoch})"
        share = history.steps / self.total
        shown = note
        if not self.live and share >= self.next_line:
            self.next_line = share + 0.1
            left = (time.monotonic() - self.started) / share * (1 - share)
            line = f"step {history.steps}/{self.total}  loss {last.loss:.4f}  {self.validation}  {self.speed}"
            shown = f"{line}  {left:.0f} s left" + (f"\n{note}" if note else "")
        elif not self.live:
            shown = ""
        if shown:
            self.console.print(shown, soft_wrap=True, highlight=False, markup=False)
