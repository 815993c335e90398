"""What of the data is not used, said once in Python and listed on the command line: nothing is left out in silence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from gatewise.tasks.forecast.frequency import DAY, few_weekends
from gatewise.tasks.forecast.scheme import Scheme
from gatewise.tasks.forecast.table import Unusable
from gatewise.tasks.outcome import Scores, verdict
from gatewise.tasks.verbs import print_table

LOG = logging.getLogger("gatewise")
"""Python prints its warnings on standard error where nobody has set up logging."""
MOST_LISTED = 10
SAID = {"static": "static, one value a series", "past": "known up to the forecast", "future": "known ahead"}


def sentence_of(scheme: Scheme) -> str:
    """What was taken as what."""
    said = [f"{f.name} ({f.role}, {'words' if f.words is not None else 'numbers'})" for f in scheme.features]
    return f"data: taken as covariates: {', '.join(said)}"


def said_short(names: Sequence[str], horizon: int) -> str:
    """Why covariates are not taken as known ahead."""
    steps = "the next step" if horizon == 1 else f"all {horizon} steps of the horizon"
    return (
        f"data: not every series has a value of {', '.join(names)} for {steps} after its last y, so that is taken as "
        "known up to the forecast; future_cols names what is known ahead"
    )


def remarks(task: Any, scores: Scores, steps: int) -> list[str]:
    """What is to be said of scores: that the naive forecast is better, and that the fit has seen some of the values.

    Args:
        steps: how many at the end of each series of the fit are scored; 0 for other data.
    """
    found = [verdict(scores, task.metric, task.higher_is_better), said_seen(task, steps)]
    return [sentence for sentence in found if sentence]


def said_seen(task: Any, steps: int) -> str:
    """That the fit has seen some of so many steps at the end of its series; empty where it has not."""
    unseen = task.options.test_size or task.horizon
    if steps <= unseen:
        return ""
    return (
        f"The fit has seen all but the last {unseen} steps: forecasts from origins before them are no test of it "
        f"(fit with a test_size of {steps})."
    )


def print_scheme(scheme: Scheme) -> None:
    """Print what was taken as what: a row for each covariate."""
    if scheme.features:
        rows = [(entry["column"], entry["taken as"], entry["holds"], entry["missing"]) for entry in listed(scheme)]
        print_table(["column", "taken as", "holds", "missing"], rows)


def listed(scheme: Scheme) -> list[dict[str, str]]:
    """A row for each covariate."""
    return [
        {
            "column": f.name,
            "taken as": SAID[f.role],
            "holds": "numbers" if f.words is None else f"{len(f.words)} words",
            "missing": "some" if f.gaps else "",
        }
        for f in scheme.features
    ]


def sentences(ignored: Sequence[str], unusable: Sequence[Unusable]) -> list[str]:
    """One sentence for columns that are not read, one for series that cannot be used."""
    found = [f"data: not read: the column{'s' * (len(ignored) > 1)} {', '.join(ignored)}"] if ignored else []
    if unusable:
        found.append(f"data: {len(unusable)} series cannot be used; {unusable[0].sentence}")
    return found


def log(ignored: Sequence[str], unusable: Sequence[Unusable]) -> None:
    """Warn of them."""
    for sentence in sentences(ignored, unusable):
        LOG.warning(sentence)


def log_fit(task: Any, named: bool) -> None:
    """Warn of what of the data of a fit is not used, and say what the rest was taken as.

    Args:
        named: whether its covariates were.
    """
    log(task.table.ignored, task.unusable)
    for sentence in (
        _left(task),
        _weekends(task),
        task.strategy.doubt(),
        "" if named or not task.scheme.features else sentence_of(task.scheme),
    ):
        if sentence:
            LOG.warning(sentence)


def _left(task: Any) -> str:
    """Why a strategy does not read some covariates."""
    left = task.strategy.left
    if not left:
        return ""
    return (
        f"data: not read: the column{'s' * (len(left) > 1)} {', '.join(left)}, known up to the forecast; strategy "
        f"{task.options.strategy!r} reads what is known for the horizon too"
    )


def _weekends(task: Any) -> str:
    """That a few days at a weekend make days of business days."""
    if task.options.freq is not None or task.series[0].frequency.seconds != DAY:
        return ""
    day = few_weekends([times for times, _ in task.table.series.values()])
    return day and (
        f"data: few times are at a weekend, the first of them {day}; so there is one value every day, and those of the "
        "other weekends are missing; without these rows the data are business days"
    )


def print_unusable(unusable: Sequence[Unusable]) -> None:
    """Print the first ten by name and reason."""
    if unusable:
        print_table(["cannot be used", "because it"], [tuple(one) for one in unusable[:MOST_LISTED]])
    if len(unusable) > MOST_LISTED:
        print(f"… and {len(unusable) - MOST_LISTED} more series")
