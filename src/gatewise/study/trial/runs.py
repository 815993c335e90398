"""Fitting the networks of the trial, several at a time, every finished fit kept: a second call goes on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.study.trial.plan import Network, Scale
from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import METRICS, read_json
from gatewise.tasks.registry import load, task_named

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Fit:
    """One training: the figure on held-out data (NaN never: a training that breaks down has the worst baseline's)."""

    rate: float
    seed: int
    validation: float
    score: float
    baseline: float
    seconds: list[float]
    values: list[float]
    broke: bool


@dataclass(frozen=True)
class Job:
    network: Network
    rate: float
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.network.key}-lr{self.rate:g}-seed{self.seed}"


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

    def tuned(self, networks: list[Network]) -> None:
        """Fit every network: each learning rate with the first seed, then the best one with the others."""
        first = [Job(n, rate, 0) for n in networks for rate in self.scale.rates]
        total = len(first) + len(networks) * (self.scale.seeds - 1)
        self._run(first, total)
        rest = [Job(n, self.rate(n), seed) for seed in range(1, self.scale.seeds) for n in networks]
        self._run(rest, total)

    def rate(self, network: Network) -> float:
        """The learning rate with the best validation figure of the first seed."""
        sign = -1 if task_named(network.task).higher_is_better else 1
        return min(self.scale.rates, key=lambda rate: sign * self.fits[Job(network, rate, 0)].validation)

    def of(self, network: Network) -> list[Fit]:
        """The fits of a network at its chosen rate, one for each seed."""
        return [self.fits[Job(network, self.rate(network), seed)] for seed in range(self.scale.seeds)]

    def scores(self, network: Network) -> list[float]:
        return [fit.score for fit in self.of(network)]

    def model(self, network: Network, seed: int = 0) -> Task | None:
        """The trained model, None where its training broke down."""
        job = Job(network, self.rate(network), seed)
        return None if self.fits[job].broke else load(self.directory / job.folder)

    def _run(self, jobs: Iterable[Job], total: int) -> None:
        missing = []
        for job in jobs:
            if (self.directory / job.folder / METRICS).is_file():
                self.fits[job] = _outcome(self.directory / job.folder, job)
            elif job not in self.fits:
                missing.append(job)
        if not missing:
            return
        if self.processes == 1:
            for job in missing:
                self._done(job, _fit(self.directory, job), total)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(self.processes, len(missing)), context, _one_thread) as pool:
            waiting: dict[Future[Fit], Job] = {pool.submit(_fit, self.directory, job): job for job in missing}
            try:
                while waiting:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        self._done(waiting.pop(future), future.result(), total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _done(self, job: Job, fit: Fit, total: int) -> None:
        self.fits[job] = fit
        if self.report is not None:
            self.report(job.folder, len(self.fits), total)


def _one_thread() -> None:
    """Small networks train fastest on a thread each."""
    import torch

    torch.set_num_threads(1)


def _fit(directory: Path, job: Job) -> Fit:
    """Train in a process of its own."""
    kind: Any = task_named(job.network.task)
    task = kind(cell=job.network.cell, **job.network.fitting(job.rate, job.seed))
    folder = directory / job.folder
    try:
        task.fit()
    except InputError as error:
        if "training" not in str(error):
            raise
        worst = _worst(task)
        return Fit(job.rate, job.seed, worst, worst, worst, [], [], broke=True)
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier process left that was killed while it saved
    task.save(folder)
    return _outcome(folder, job)


def _worst(task: Any) -> float:
    """The naive answer's figure: what a training that broke down is worth."""
    task.read(None)
    task.module = task.build().eval()  # untrained: only the scores beside its own count
    naive: list[float] = [figures[task.metric] for name, figures in task.score().items() if name != task.cell.name]
    return min(naive) if task.higher_is_better else max(naive)


def _outcome(folder: Path, job: Job) -> Fit:
    metrics = read_json(folder / METRICS)
    kind = task_named(job.network.task)
    score, *naive = [figures[kind.metric] for figures in metrics["scores"].values()]
    best, worst = (max, min) if kind.higher_is_better else (min, max)
    history = metrics["history"]
    values = [epoch["value"] for epoch in history]
    seconds = [epoch["seconds"] for epoch in history]
    return Fit(job.rate, job.seed, best(values), score, worst(naive), seconds, values, broke=False)
