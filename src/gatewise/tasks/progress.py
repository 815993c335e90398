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
    """

    def __init__(self, title: str, total: int, metric: str) -> None:
        need("rich")
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.total, self.metric, self.started = total, metric, time.monotonic()
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps")]
        self.bar: Any = Bar(
            *columns, TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=self.console, transient=True
        )
        self.task = self.bar.add_task(title, total=total, figures="")
        self.validation, self.next_line = "", 0.1

    def __enter__(self) -> Progress:
        if self.live:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()

    def step(self, step: int, loss: float) -> None:
        if self.live:
            self.bar.update(self.task, completed=step, figures=f"loss {loss:.4f}  {self.validation}")

    def epoch(self, history: History) -> None:
        last, best = history.epochs[-1], history.best
        self.validation = f"validation {self.metric} {last.value:.3f} (best {best.value:.3f}, epoch {best.epoch})"
        share = history.steps / self.total
        if not self.live and share >= self.next_line:
            self.next_line = share + 0.1
            left = (time.monotonic() - self.started) / share * (1 - share)
            self.console.print(
                f"step {history.steps}/{self.total}  loss {last.loss:.4f}  {self.validation}  {left:.0f} s left",
                soft_wrap=True,
                highlight=False,
            )
