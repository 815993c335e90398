"""Fitting the networks of the trial, several at a time, every finished fit kept: a second call goes on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.study.trial.plan import Network, Scale, Setting
from gatewise.study.trial.tuning import at_edge, best, grid
from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import METRICS, read_json, write_json
from gatewise.tasks.registry import load, task_named

Report = Callable[[str, int, int, float], None]
"""Told of a finished fit: its name, how many are done, of how many, and about how many seconds are left at most."""
BROKE, PART = "broke.json", ".part"


@dataclass(frozen=True)
class Fit:
    """One training: the figures on held-out data (NaN never: a training that breaks down has the worst baseline's).

    ``guessing`` is the best naive answer's figure, ``steps`` how many training steps were taken.
    """

    validation: float
    score: float
    guessing: float
    steps: int
    seconds: list[float]
    values: list[float]
    broke: bool


@dataclass(frozen=True)
class Job:
    network: Network
    setting: Setting
    seed: int

    @property
    def folder(self) -> str:
        start = f"-{self.setting.start}" if len(self.network.starts) > 1 else ""
        return f"{self.network.key}{start}-lr{self.setting.rate:g}-seed{self.seed}"


class Runs:
    """All fits of a trial under one directory.

    Args:
        directory: holds ``fits/``. scale: of the trial. report: told of progress. processes: trained side by side.
    """

    def __init__(
        self, directory: Path, scale: Scale, report: Report | None = None, processes: int | None = None
    ) -> None:
        self.directory, self.scale, self.report = directory / "fits", scale, report
        self.processes = processes or max(1, min(8, os.cpu_count() or 1))
        self.fits: dict[Job, Fit] = {}
        self.seeds: dict[Network, int] = {}
        self._spent, self._worked = 0.0, 0.0  # seconds of fitting in this call, and the work done in them

    def plan(self, networks: list[Network], seeds: int | None = None) -> None:
        """Say what will be fitted in this call, so that the time that is left can be estimated."""
        self.seeds |= dict.fromkeys(networks, self.scale.seeds if seeds is None else seeds)

    def tuned(self, networks: list[Network], seeds: int | None = None) -> None:
        """Fit every network: each setting of the grid with the first seed, further rates where the best one stands at
        the edge, then the best setting with the other seeds."""
        self.plan(networks, seeds)
        self._run(Job(n, s, 0) for n in networks for s in grid(self.scale, n))
        for _ in range(self.scale.extensions):
            self._run([Job(n, s, 0) for n in networks for s in self.beyond(n)])
        self._run(Job(n, self.setting(n), seed) for n in networks for seed in range(1, self.seeds[n]))

    def tried(self, network: Network) -> dict[Setting, tuple[float, int]]:
        """Every setting that a network tried: validation figure and steps of the first seed."""
        return {
            job.setting: (fit.validation, fit.steps)
            for job, fit in self.fits.items()
            if job.network == network and job.seed == 0
        }

    def setting(self, network: Network) -> Setting:
        """The best setting by the validation of the first seed."""
        return best(network, self.tried(network))

    def beyond(self, network: Network) -> list[Setting]:
        """What is still to be tried, since the best rate stands at the edge of its grid; none where it does not."""
        return at_edge(self.setting(network), self.tried(network))

    def of(self, network: Network) -> list[Fit]:
        """The fits of a network at its chosen setting, one for each seed."""
        return [self.fits[Job(network, self.setting(network), seed)] for seed in range(self.seeds[network])]

    def scores(self, network: Network) -> list[float]:
        return [fit.score for fit in self.of(network)]

    def model(self, network: Network, seed: int = 0) -> Task | None:
        """The trained model, None where its training broke down."""
        job = Job(network, self.setting(network), seed)
        return None if self.fits[job].broke else load(self.directory / job.folder)

    def _run(self, jobs: Iterable[Job]) -> None:
        """Fit what is not there yet, the longest first."""
        missing: list[Job] = []
        for job in dict.fromkeys(jobs):
            kept = self.fits.get(job) or _kept(self.directory / job.folder, job)
            if kept is None:
                missing.append(job)
            else:
                self.fits[job] = kept
        missing.sort(key=lambda job: -job.network.cost)
        further = Counter(job.network for job in missing)
        started = time.perf_counter()
        for job, fit in _fitted(self.directory, missing, self.processes):
            self.fits[job] = fit
            further[job.network] -= 1
            self._worked += job.network.cost
            if self.report is not None:
                open_fits, cost = self._open(further)
                seconds = (self._spent + time.perf_counter() - started) / self._worked * cost
                self.report(job.folder, len(self.fits), len(self.fits) + open_fits, seconds)
        self._spent += time.perf_counter() - started

    def _open(self, further: Counter[Network]) -> tuple[int, float]:
        """How many fits are still to come, and their work: the grid of every network and its seeds, or what is being
        fitted where grids have grown."""
        done, count, cost = Counter(job.network for job in self.fits), 0, 0.0
        for network, seeds in self.seeds.items():
            expected = len(grid(self.scale, network)) + seeds - 1 - done[network]
            left = max(expected, further[network])
            count, cost = count + left, cost + left * network.cost
        return count, cost


def _fitted(directory: Path, jobs: list[Job], processes: int) -> Iterable[tuple[Job, Fit]]:
    """The fits as they become finished."""
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, _fit(directory, job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _one_thread) as pool:
        waiting: dict[Future[Fit], Job] = {pool.submit(_fit, directory, job): job for job in jobs}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    """Small networks train fastest on a thread each."""
    import torch

    torch.set_num_threads(1)


def _fit(directory: Path, job: Job) -> Fit:
    """Train in a process of its own. The fit is written beside and gets its name when it is whole."""
    kind: Any = task_named(job.network.task)
    task = kind(cell=job.network.cell, **job.network.fitting(job.setting, job.seed))
    folder = directory / job.folder
    beside = folder.with_name(folder.name + PART)
    for left in (beside, folder):  # by a process that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    try:
        task.fit()
    except InputError as error:
        if "training" not in str(error):
            raise
        beside.mkdir(parents=True)
        write_json(beside / BROKE, {"scores": list(_naive(task).values()), "why": str(error)})
    else:
        task.save(beside)
    os.replace(beside, folder)
    found = _kept(folder, job)
    assert found is not None
    return found


def _naive(task: Any) -> dict[str, float]:
    """The naive answers' figures beside a training that broke down."""
    task.read(None)
    task.module = task.build().eval()  # untrained: only the scores beside its own count
    return {name: figures[task.metric] for name, figures in task.score().items() if name != task.cell.name}


def _kept(folder: Path, job: Job) -> Fit | None:
    """The fit that a folder holds; None where it holds none."""
    kind = task_named(job.network.task)
    top, bottom = (max, min) if kind.higher_is_better else (min, max)
    if (folder / BROKE).is_file():
        naive = read_json(folder / BROKE)["scores"]
        worst = bottom(naive)
        return Fit(worst, worst, top(naive), dict(job.network.options)["max_steps"], [], [], broke=True)
    if not (folder / METRICS).is_file():
        return None
    metrics = read_json(folder / METRICS)
    score, *naive = [figures[kind.metric] for figures in metrics["scores"].values()]
    history = metrics["history"]
    values, steps = [epoch["value"] for epoch in history], sum(epoch["steps"] for epoch in history)
    return Fit(top(values), score, top(naive), steps, [epoch["seconds"] for epoch in history], values, broke=False)
