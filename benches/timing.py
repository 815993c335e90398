"""Times of several callables in turn, so that a machine that slows down slows all of them.

Samples in which threads of this process waited for a core (Linux says how long) are dropped where enough others remain:
on a busy machine they time the scheduler. Before each turn the threads of the one before are left to come to rest:
pools of other libraries spin for milliseconds after a call, on cores that the next one needs.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 1e-3
"""Short calls are repeated for this long, because reading the clock and a cold cache cost about a microsecond each."""

WAITING_SHARE = 0.02
"""A sample in which threads waited longer than this for a core is disturbed; waking a thread alone takes less."""
WARM_SECONDS = 20e-3
"""A call shorter than this is preceded by another that is not counted: pools sleep by then, and caches are cold."""
REST_SECONDS = 5e-4
RESTLESS = 0.1
"""The process is at rest when its threads took less than this share of a core for so long; it is awaited 100 times."""
_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Sample:
    """Seconds of one turn, whether other processes had a part in them, and how many cores it kept busy."""

    seconds: float
    disturbed: bool = False
    cores: float = 1.0


@dataclass(frozen=True)
class Times:
    """Milliseconds per call over the samples that count: extremes, quartiles, median.

    ``rounds`` is the number of samples that count, ``disturbed`` the share of all samples in which other
    processes took a core. ``cores`` is the median of processor time by time: what a peer told to use one thread used.
    """

    min: float
    lower: float
    median: float
    upper: float
    max: float
    rounds: int
    calls_per_round: int
    disturbed: float
    cores: float = 1.0

    @classmethod
    def of(cls, samples: list[Sample], calls: int, least: int) -> Times:
        quiet = [s for s in samples if not s.disturbed]
        used = quiet if len(quiet) >= least else samples
        ms = [1e3 * s.seconds / calls for s in used]
        quartiles = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
        lower, median, upper = quartiles
        disturbed, cores = 1 - len(quiet) / len(samples), statistics.median(s.cores for s in used)
        return cls(min(ms), lower, median, upper, max(ms), len(ms), calls, disturbed, cores)


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
                _rest()
                samples[name].append(sample(columns[name], *calls[name]))
            order = order[1:] + order[:1]  # nobody always follows the same neighbour
    finally:
        if collecting:
            gc.enable()
    return {name: Times.of(samples[name], calls[name][0], least) for name in columns}


def _rest() -> None:
    for _ in range(100):
        start, busy = time.perf_counter(), time.process_time()
        time.sleep(REST_SECONDS)
        if time.process_time() - busy < RESTLESS * (time.perf_counter() - start):
            return


def _calls(function: Callable[[], object]) -> tuple[int, bool]:
    """How many calls make a sample long enough, and whether one precedes them.

    The first call warms up; an interruption may hit one of the others.
    """
    once = sample(function, 1).seconds
    if once < 20 * SAMPLE_SECONDS:
        once = min(sample(function, 1).seconds for _ in range(4))
    return max(1, round(SAMPLE_SECONDS / max(once, 1e-7))), once < WARM_SECONDS


def sample(function: Callable[[], object], calls: int, warm: bool = False) -> Sample:
    """Time so many calls in a row, after one that is not counted where ``warm`` is set."""
    if warm:
        function()
    repeat, waited, busy = range(calls), _waited(), time.process_time()
    start = time.perf_counter()
    for _ in repeat:
        function()
    seconds = time.perf_counter() - start
    busy = time.process_time() - busy
    return Sample(seconds, _waited() - waited > WAITING_SHARE * seconds, busy / seconds)


def _waited() -> float:
    """Seconds that the threads of this process have stood ready without a core; 0 where the system does not say."""
    total = 0
    for path in _TASKS.glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # the thread has ended
            total += int(path.read_text().split()[1])
    return 1e-9 * total
