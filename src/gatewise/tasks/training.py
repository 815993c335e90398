"""Training of every task: seeds, early stopping, best checkpoint, interruption and resuming, in one process or several.

An epoch is what lies between two validations. Its random numbers depend on the seed and its number alone, so that a
run resumed from the checkpoint of its last finished epoch gives the bits that an uninterrupted run gives.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from gatewise.tasks.claim import Claim, claim_on, under
from gatewise.tasks.errors import need
from gatewise.tasks.folder import read_tensors, write_tensors
from gatewise.tasks.history import Epoch, History, MakeReporter, Reporter
from gatewise.tasks.loop import Loop
from gatewise.tasks.machines import PRECISIONS, Machines, Place, launched
from gatewise.tasks.objective import CarriedObjective, Objective, Schedule
from gatewise.tasks.processes import spread
from gatewise.tasks.together import Together, alone, joined

__all__ = ["PRECISIONS", "CarriedObjective", "Epoch", "History", "Machines", "MakeReporter", "Objective", "Reporter"]
__all__ += ["Schedule", "train"]


@dataclass
class _Job:
    """A training as it was asked for."""

    objective: Objective
    schedule: Schedule
    seed: int
    folder: Path | None
    report: MakeReporter | None
    title: str
    resume: bool


def train(
    objective: Objective,
    schedule: Schedule,
    seed: int,
    folder: Path | None = None,
    report: MakeReporter | None = None,
    title: str = "",
    resume: bool = False,
    machines: Machines | None = None,
) -> History:
    """Train the objective's module in place; afterwards it holds the weights of the best epoch, also on Ctrl-C.

    Where the schedule says so and all planned steps were taken, it holds those of the last one.

    With a folder the best weights (``model.safetensors``), a table of the epochs (``metrics.csv``) and a checkpoint for
    ``resume`` are written after each epoch. Of several processes the first alone writes and reports, whatever folder
    the others were given; all end with the same module. Those that ``machines`` asks for are started here, and
    ``report`` must then be importable. The global random state of torch is left as it was.

    Raises:
        InputError: when training breaks down, or another process of it ended. WriteError: when the folder can be
            written no longer.
    """
    need("lightning_fabric")
    machines = machines or Machines()
    job = _Job(objective, schedule, seed, folder, report, title, resume)
    place = launched()
    if place is None and machines.devices * machines.num_nodes > 1:
        return _spread(job, machines)
    several = place is not None and place.world > 1
    with joined(machines, place) if place is not None and several else alone(machines) as together:
        return _run(together, job)


def _spread(job: _Job, machines: Machines) -> History:
    """The training in processes that are started here, which hold the run's directory together."""
    with tempfile.TemporaryDirectory() as handed:
        claim = None if job.folder is None else claim_on(job.folder)
        spread(machines, Path(handed), partial(_process, Path(handed), claim, machines, job))
        best, texts = read_tensors(_result(Path(handed)))
    job.objective.module.load_state_dict(best)
    job.objective.module.eval()
    history = History.read(texts["history"], job.objective.higher_is_better, finished=True)
    history.kept_last = job.schedule.keeps_last(history.steps)
    return history


def _result(handed: Path) -> Path:
    return handed / "best.safetensors"


def _process(handed: Path, claim: Claim | None, machines: Machines, job: _Job, place: Place) -> None:
    """The training in one of several processes. The first on a host leaves history and best weights in a file: what it
    returned would go through a pipe, which nobody empties before the process ends, and which holds 64 KB."""
    module = job.objective.module
    for tensor in (*module.parameters(), *module.buffers()):  # else all processes would write into one memory
        tensor.data = tensor.data.clone()
    meeting = handed / "meeting" if place.num_nodes == 1 else None
    with under(claim), joined(machines, place, meeting) as together:
        history = _run(together, job)
    if place.local_rank == 0:
        write_tensors(_result(handed), module.state_dict(), {"history": history.text()})


def _run(together: Together, job: _Job) -> History:
    """The training as this process sees it."""
    shown = None
    if job.report is not None and together.rank == 0:
        metric, unit = job.objective.metric, job.objective.unit
        shown = job.report(job.title, job.schedule.total_steps, metric, unit)
    device = together.fabric.device
    with shown if shown is not None else nullcontext(), torch.random.fork_rng([device] if device.type != "cpu" else []):
        loop = Loop(together, job.objective, job.schedule, job.seed, job.folder, shown)
        try:
            if job.resume:
                loop.restore(job.folder)
            while not loop.over():
                loop.run_epoch()
            loop.keep_last()
            loop.agree()
        finally:
            loop.take_best()
    loop.history.finished = True
    return loop.history
