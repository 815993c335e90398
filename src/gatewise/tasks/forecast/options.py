"""What a forecaster may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gatewise.tasks import checks
from gatewise.tasks.errors import InputError
from gatewise.tasks.options import TaskOptions, again, option

MOST_STEPS = 10**6


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(TaskOptions):
    """What a forecaster may be asked for."""

    inputs: ClassVar[tuple[str, ...]] = ("mask", "gap", "last")

    horizon: int | None = option(None, "Steps to forecast.", checks.integer(1, MOST_STEPS), shown="one season")
    season: int | None = option(
        None, "Steps in a season.", checks.integer(1, MOST_STEPS), shown="from the frequency of the data"
    )
    label: str | None = option(
        None, "What the values are, with their unit, for the picture.", checks.text, shown="the name of the column"
    )
    epochs: int | None = again(TaskOptions, "epochs", None, "16 of 25 steps, or what max_steps makes")

    def check(self) -> None:
        super().check()
        if self.cell.inputs and self.num_layers > 1:
            raise InputError(
                f"num_layers must be 1 for {self.cell.name}, whose {self.cell.inputs[0][0]} is of the data's width, "
                f"got {self.num_layers}"
            )
