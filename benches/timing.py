"""Times of several callables in turn, so that a machine that slows down slows all of them.

Samples in which another process took a core from this one (the system counts these switches) are dropped where enough
others remain: on a busy machine they time the scheduler.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

SAMPLE_SECONDS = 1e-3
"""Short calls are repeated for this long, because reading the clock and a cold cache cost about a microsecond each."""


@dataclass(frozen=True)
class Sample:
    """Seconds of one turn, and whether a core was lost in it."""

    seconds: float
    disturbed: bool = False


@dataclass(frozen=True)
class Times:
    """Milliseconds per call over the samples that count: extremes, quartiles, median.

    ``rounds`` is the number of samples that count, ``disturbed`` the share of all samples in which this process lost a
    core.
    """

    min: float
    lower: float
    median: float
    upper: float
    max: float
    rounds: int
    calls_per_round: int
    disturbed: float

    @classmethod
    def of(cls, samples: list[Sample], calls: int, least: int) -> Times:
        quiet = [s for s in samples if not s.disturbed]
        ms = [1e3 * s.seconds / calls for s in (quiet if len(quiet) >= least else samples)]
        quartiles = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
        lower, median, upper = quartiles
        return cls(min(ms), lower, median, upper, max(ms), len(ms), calls, 1 - len(quiet) / len(samples))


def measure(
    columns: Mapping[str, Callable[[], object]], budget: float, *, least: int = 3, most: int = 201
) -> dict[str, Times]:
    """Time every callable once per round until the budget is spent.

    Args:
        columns: what to time, by name; each has been called before, so nothing is compiled here.
        budget: seconds for all of them together. least, most: bounds on the rounds, whatever the budget.
    """
    start = time.perf_counter()
    calls = {name: _calls(function) for name, function in columns.items()}
    samples: dict[str, list[Sample]] = {name: [] for name in columns}
    order = list(columns)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(most):
            if done >= least and time.perf_counter() - start > budget:
                break
            for name in order:
                samples[name].append(sample(columns[name], calls[name]))
            order = order[1:] + order[:1]  # nobody always follows the same neighbour
    finally:
        if collecting:
            gc.enable()
    return {name: Times.of(samples[name], calls[name], least) for name in columns}


def _calls(function: Callable[[], object]) -> int:
    """How many calls make a sample long enough. The first call warms up; an interruption may hit one of the others."""
    once = sample(function, 1).seconds
    if once < 20 * SAMPLE_SECONDS:
        once = min(sample(function, 1).seconds for _ in range(4))
    return max(1, round(SAMPLE_SECONDS / max(once, 1e-7)))


def sample(function: Callable[[], object], calls: int) -> Sample:
    """Time so many calls in a row."""
    if calls > 1:
        function()  # weights and code of a short call were displaced by the columns before it
    repeat, lost = range(calls), _cores_lost()
    start = time.perf_counter()
    for _ in repeat:
        function()
    seconds = time.perf_counter() - start
    return Sample(seconds, _cores_lost() != lost)


def _cores_lost() -> int:
    """How often a thread of this process was made to give up its core; 0 where the system does not say."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0
