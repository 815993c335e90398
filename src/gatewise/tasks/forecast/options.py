"""What a forecaster may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gatewise.tasks import checks
from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.frequency import check_alias
from gatewise.tasks.forecast.stamps import ORDERS
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
    freq: str | None = option(
        None, "One value a … : h, D, B, W, MS, QS, YS, 15min; digits for integer time.", check_alias, shown="inferred"
    )
    date_order: str | None = option(
        None, "Of dates such as 01/02/2020: dmy or mdy.", checks.choice(*ORDERS), shown="where only one is possible"
    )
    decimal: str | None = option(
        None,
        "Decimal mark: . or , (the other one may part thousands).",
        checks.choice(".", ","),
        shown="as the data show",
    )
    id_col: str | None = option(None, "Column that names the series.", checks.text, shown="unique_id")
    time_col: str | None = option(None, "Column of times.", checks.text, shown="ds, or the first of two columns")
    target_col: str | None = option(None, "Column of values.", checks.text, shown="y, or the second of two columns")
    wide: bool = option(False, "One column a series beside the column of times.", checks.flag)
    epochs: int | None = again(TaskOptions, "epochs", None, "16 of 25 steps, or what max_steps makes")

    def check(self) -> None:
        super().check()
        if self.wide and (self.id_col or self.target_col):
            name = "id_col" if self.id_col else "target_col"
            raise InputError(f"wide: every column but the times is a series, expected no {name}")
        if self.cell.inputs and self.num_layers > 1:
            raise InputError(
                f"num_layers must be 1 for {self.cell.name}, whose {self.cell.inputs[0][0]} is of the data's width, "
                f"got {self.num_layers}"
            )
