"""What a forecaster may be asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gatewise.tasks import checks
from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast.columns import ROLES, split
from gatewise.tasks.forecast.distributions import DISTRIBUTIONS
from gatewise.tasks.forecast.frequency import check_alias
from gatewise.tasks.forecast.stamps import ORDERS
from gatewise.tasks.options import TaskOptions, again, option

MOST_STEPS = 10**6
MOST_MODELS = 64
MOST_LEVELS = 16
MOST_SAMPLES = 100_000
DIRECT_EPOCHS = 32
POINTS = ("median", "mean")
RECURSIVE = ("distribution", "n_samples")
"""Options of that strategy alone."""
STRATEGIES = ("direct", "recursive", "steps")
CHANNELS = ("independent", "mixed")
SCALINGS = ("auto", "window", "series")
COVARIATES = (*ROLES.values(), "cat_cols")


def _order(name: str, value: Any) -> None:
    """Raises InputError for no order of dates."""
    if value not in ORDERS:
        raise InputError(f"{name} must be dmy or mdy, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(TaskOptions):
    """What a forecaster may be asked for. Where it says *by the data*, None stands for what ``defaults.py`` decides."""

    inputs: ClassVar[tuple[str, ...]] = ("mask", "gap", "last")

    horizon: int | None = option(None, "Steps to forecast.", checks.integer(1, MOST_STEPS), shown="one season")
    season: int | None = option(
        None, "Steps in a season.", checks.integer(1, MOST_STEPS), shown="from the frequency of the data"
    )
    level: str | None = option(
        None, "Prediction intervals in per cent, such as 80,95; in Python also a list.", shown="none", listed="NUMBERS"
    )
    strategy: str = option(
        "direct",
        "direct: segments of a window in, all of the horizon out; recursive: a distribution of the next value, and "
        "paths of such values; steps: a forecast at every step of a window.",
        checks.choice(*STRATEGIES),
    )
    window: int | None = option(
        None, "Values that a forecast is made from.", checks.integer(2, MOST_STEPS), shown="by the data"
    )
    segment: int | None = option(
        None, "Values in a step of the recurrent layer.", checks.integer(1, MOST_STEPS), shown="by the season"
    )
    lags: str | None = option(
        None,
        "The network corrects the mean of naive forecasts that repeat so many last values; -12: with the drift of 12. "
        "recursive: it reads the values so many steps back.",
        shown="by the data",
        listed="NUMBERS",
    )
    scaling: str = option(
        "auto",
        "direct: a network reads and says values in units of the window, or of all that is known of its series before "
        "the forecast; auto: of the window.",
        checks.choice(*SCALINGS),
    )
    n_models: int | None = option(
        None, "Networks whose mean is the forecast.", checks.integer(1, MOST_MODELS), shown="by the data"
    )
    batch_size: int | None = option(
        None,
        "Windows in a step of training, of each network (direct, recursive).",
        checks.integer(1, MOST_STEPS),
        shown="by the data",
    )
    distribution: str | None = option(
        None,
        "recursive: of the next value: student_t, gaussian or negative_binomial.",
        checks.choice(*DISTRIBUTIONS),
        shown="negative_binomial for small counts, else student_t",
    )
    n_samples: int | None = option(
        None, "recursive: sample paths of a forecast.", checks.integer(1, MOST_SAMPLES), shown="100"
    )
    point: str | None = option(
        None,
        "Forecast the median or the mean: of the paths (recursive), or by the squared error (direct).",
        checks.choice(*POINTS),
        shown="median",
    )
    validation_size: int | None = option(
        None,
        "Steps before the held-out horizon that tell when to stop.",
        checks.integer(1, MOST_STEPS),
        shown="a tenth, at least two horizons",
    )
    test_size: int | None = option(
        None,
        "Steps at the end of each series that a fit does not see.",
        checks.integer(1, MOST_STEPS),
        shown="one horizon",
    )
    label: str | None = option(
        None, "What the values are, with their unit, for the picture.", checks.text, shown="the name of the column"
    )
    freq: str | None = option(
        None, "One value a … : h, D, B, W, MS, QS, YS, 15min; digits for integer time.", check_alias, shown="inferred"
    )
    date_order: str | None = option(
        None, "Of dates such as 01/02/2020: dmy or mdy.", _order, shown="where only one is possible"
    )
    decimal: str | None = option(
        None,
        "Decimal mark: . or , (the other one may part thousands).",
        checks.choice(".", ","),
        shown="as the data show",
    )
    id_col: str | None = option(None, "Column that names the series.", checks.text, shown="unique_id")
    time_col: str | None = option(None, "Column of times.", checks.text, shown="ds, or the first of two columns")
    target_col: str | None = option(
        None,
        "Column of values; several, such as HUFL,OT, are forecast together (direct); in Python also a list.",
        checks.text,
        shown="y, or the second of two columns",
        listed="NAMES",
    )
    channels: str = option(
        "independent",
        "Several targets: independent reads each by itself, mixed all of a series together.",
        checks.choice(*CHANNELS),
    )
    wide: bool = option(False, "One column a series beside the column of times.", checks.flag)
    static_cols: str | None = option(
        None, "Covariates with one value a series: names of columns.", checks.text, shown="inferred", listed="NAMES"
    )
    past_cols: str | None = option(
        None, "Covariates that are known up to the forecast.", checks.text, shown="inferred", listed="NAMES"
    )
    future_cols: str | None = option(
        None, "Covariates that are known for the horizon too.", checks.text, shown="inferred", listed="NAMES"
    )
    cat_cols: str | None = option(
        None,
        "Covariates whose digits are names, such as 17 for a shop.",
        checks.text,
        shown="those of words",
        listed="NAMES",
    )
    covariates: str = option(
        "infer",
        "Further columns, where none is named: infer takes them as what they show, none does not read them.",
        checks.choice("infer", "none"),
    )
    calendar: bool = option(False, "Tell the network hour, weekday and season of every time.", checks.flag)
    hidden_size: int | None = again(TaskOptions, "hidden_size", None, "by the data")  # type: ignore[assignment]
    learning_rate: float | None = again(  # type: ignore[assignment]
        TaskOptions, "learning_rate", None, "0.003 (recursive: by the data)"
    )
    epochs: int | None = again(TaskOptions, "epochs", None, "32 (steps: 16) of 25 steps, or what max_steps makes")
    patience: int | None = again(TaskOptions, "patience", 12)

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", _listed("level", self.level, 0.0, 100.0))
        low = next((one for one in self.levels if one < 1), None)
        if low is not None:
            raise InputError(f"level must be at least 1 per cent, got {low:g}; was {100 * low:g} meant?")
        object.__setattr__(self, "freq", _alias(self.freq))
        object.__setattr__(self, "lags", _listed("lags", self.lags, -MOST_STEPS, MOST_STEPS, whole=True))
        for name in COVARIATES:
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if not isinstance(self.target_col, str):
            object.__setattr__(self, "target_col", _names("target_col", self.target_col))
        super().__post_init__()

    def epochs_of(self, steps: int) -> int:
        """How many epochs of so many steps to train for, at most."""
        unset = self.epochs is None and self.max_steps is None
        return DIRECT_EPOCHS if unset and self.strategy != "steps" else super().epochs_of(steps)

    @property
    def levels(self) -> list[float]:
        """The levels of intervals in per cent, ascending."""
        return [float(part) for part in self.level.split(",")] if self.level else []

    @property
    def repeats(self) -> list[int]:
        """The lags as numbers, ascending."""
        return [int(part) for part in self.lags.split(",")] if self.lags else []

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
        if self.test_size is not None and self.horizon is not None and self.test_size < self.horizon:
            raise InputError(f"test_size must be at least the horizon of {self.horizon}, got {self.test_size}")
        named = [name for option in ROLES.values() for name in split(getattr(self, option))]
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{', '.join(ROLES.values())}: expected each column once, got {twice!r} again")
        if self.wide and (named or self.cat_cols):
            raise InputError("wide: every column but the times is a series, expected no covariates")
        both = (
            "level",
            "window",
            "lags",
            "n_models",
            "batch_size",
            "point",
            "validation_size",
            "test_size",
            *COVARIATES,
        )
        for names, strategies in (
            (both, STRATEGIES[:2]),
            (("segment", "past_cols"), ("direct",)),
            (RECURSIVE, ("recursive",)),
        ):
            given = next((name for name in names if getattr(self, name) is not None), None)
            if given is not None and self.strategy not in strategies:
                raise InputError(f"{given} needs strategy {strategies[0]!r}, got {self.strategy!r}")
        if self.calendar and self.strategy != "direct":
            raise InputError(f"calendar needs strategy 'direct', got {self.strategy!r}")
        if self.scaling != "auto" and self.strategy != "direct":
            raise InputError(f"scaling of {self.scaling!r} needs strategy 'direct', got {self.strategy!r}")
        if self.channels == "mixed" and (self.wide or self.strategy != "direct"):
            other = "wide" if self.wide else f"strategy {self.strategy!r}"
            raise InputError(
                f"channels: 'mixed' goes with several target_col and strategy 'direct', got it with {other}"
            )
        if self.strategy == "recursive":
            self._check_recursive()

    def _check_recursive(self) -> None:
        if self.n_samples is not None and self.n_models is not None and self.n_samples < self.n_models:
            raise InputError(f"n_samples must be at least n_models, {self.n_models}, got {self.n_samples}")
        if self.cell.inputs:
            raise InputError(
                f"cell: {self.cell.name} is told where values are missing, and strategy 'recursive' puts its own "
                "forecasts there; expected a cell of x alone, such as gru, or strategy 'direct'"
            )
        if any(lag < 1 for lag in self.repeats):
            raise InputError(f"lags of strategy 'recursive' must be above 0, got {self.lags}")


def _names(name: str, value: Any) -> Any:
    """Names of columns in a list as a text with commas; a text as it is.

    Raises:
        InputError: for a list of anything else.
    """
    if value is None or isinstance(value, str):
        return value or None
    if not isinstance(value, Iterable) or not all(isinstance(part, str) and part and "," not in part for part in value):
        raise InputError(f"{name} must be names of columns, such as price,holiday, got {value!r}")
    return ",".join(value) or None


def _alias(freq: Any) -> Any:
    """A step of integer time, or an offset of pandas, as the text that names it; anything else as it is."""
    if isinstance(freq, (int, np.integer)) and not isinstance(freq, bool):
        return str(int(freq))
    return getattr(freq, "freqstr", freq)


def _listed(name: str, value: Any, above: float, below: float, whole: bool = False) -> str | None:
    """Numbers in a text with commas, or in a list, as such a text: ascending, each once.

    Raises:
        InputError: for anything else, and numbers that are not between the bounds.
    """
    if value is None:
        return None
    kind = "whole numbers" if whole else "numbers"
    wrong = InputError(f"{name} must be {kind} between {above:g} and {below:g}, such as 80,95, got {value!r}")
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    try:
        found = sorted({float(part) for part in parts if not isinstance(part, bool)})
    except (TypeError, ValueError):
        raise wrong from None
    if not 0 < len(found) <= MOST_LEVELS or not all(
        above < n < below and n != 0 and (not whole or n == int(n)) for n in found
    ):
        raise wrong
    return ",".join(f"{n:g}" if n < 1e5 else str(int(n)) for n in found)
