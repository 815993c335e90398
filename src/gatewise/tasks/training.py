"""The training loop of every task: seeds, early stopping, best checkpoint, interruption and resuming.

An epoch is what lies between two validations. Its random numbers depend on the seed and its number alone, so that a
run resumed from the checkpoint of its last finished epoch gives the bits that an uninterrupted run gives.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gatewise.tasks.claim import Claim, claim_on, under
from gatewise.tasks.errors import InputError, WriteError, need
from gatewise.tasks.folder import CHECKPOINT, WEIGHTS, read_tensors, write_tensors
from gatewise.tasks.machines import Machines

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS = ("32-true", "bf16-mixed")
"""Of training, by Fabric's names: all in float32; or matrix products in bfloat16, the weights and sums in float32."""
FUSED = 1 << 20
"""Parameters from which on the optimiser goes over memory once instead of a dozen times, with other bits."""


@dataclass(frozen=True)
class Schedule:
    """How long and how to train.

    ``epochs`` epochs of ``steps_per_epoch`` optimiser steps, at most ``max_steps`` in all; the learning rate warms up
    over 5 % of the steps and falls to zero as a cosine; training stops after ``patience`` epochs without improvement.
    With ``average`` above 0, validation and the saved model use the exponential mean of the weights, of this decay.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    patience: int
    max_steps: int | None = None
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    average: float = 0.0

    @property
    def total_steps(self) -> int:
        steps = self.epochs * self.steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1.0, self.warmup * self.total_steps))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.total_steps))


class Objective(ABC):
    """What a task gives the loop: a module, batches, their loss, and a validation figure.

    With several processes it is pickled into each of them.
    """

    module: nn.Module
    metric: str
    higher_is_better: bool = False
    unit: str = "rows"
    """What ``size`` counts."""
    note: str = ""
    """What the last validation wants to be shown beside its figure."""

    @abstractmethod
    def batches(self, generator: np.random.Generator) -> Iterable[Any]:
        """The batches of one epoch; the loop takes as many as the schedule says."""

    @abstractmethod
    def loss(self, forward: Callable[..., Tensor], batch: Any) -> Tensor: ...

    @abstractmethod
    def validate(self) -> float: ...

    @abstractmethod
    def size(self, batch: Any) -> int: ...

    @abstractmethod
    def share(self, batch: Any, rank: int, world: int) -> Any:
        """The part of a batch for one of several processes."""


@dataclass
class Epoch:
    """One line of the training history: mean loss, validation figure, seconds and steps of an epoch, what it saw."""

    epoch: int
    steps: int
    loss: float
    value: float
    seconds: float
    size: int = 0


@dataclass
class History:
    """Where a training stands: its finished epochs, and which was the best."""

    epochs: list[Epoch] = field(default_factory=list)
    finished: bool = False
    higher_is_better: bool = False

    @classmethod
    def read(cls, text: str, higher_is_better: bool, finished: bool = False) -> History:
        """From what ``text`` gave."""
        return cls([Epoch(**e) for e in json.loads(text)], finished, higher_is_better)

    def text(self) -> str:
        """The epochs as JSON."""
        return json.dumps([asdict(e) for e in self.epochs])

    @property
    def steps(self) -> int:
        return sum(e.steps for e in self.epochs)

    @property
    def best(self) -> Epoch:
        return min(self.epochs, key=lambda e: -e.value if self.higher_is_better else e.value)

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return len(self.epochs) - self.best.epoch if self.epochs else 0

    @property
    def seconds_per_step(self) -> float:
        """Median over the epochs; validation is not counted."""
        return float(np.median([e.seconds / e.steps for e in self.epochs])) if self.epochs else math.nan

    @property
    def size_per_second(self) -> float:
        """What training went through in a second, in the objective's unit; median over the epochs."""
        return float(np.median([e.size / e.seconds for e in self.epochs])) if self.epochs else math.nan


class Reporter(Protocol):
    """Who is told how training goes."""

    def step(self, step: int, loss: float, per_second: float) -> None: ...

    def epoch(self, history: History, note: str) -> None: ...


class MakeReporter(Protocol):
    """Makes the reporter of a training, a context manager."""

    def __call__(self, title: str, total: int, metric: str, unit: str) -> Any: ...


def train(
    objective: Objective,
    schedule: Schedule,
    seed: int,
    folder: Path | None = None,
    report: MakeReporter | None = None,
    title: str = "",
    resume: bool = False,
    machines: Machines = Machines(),  # noqa: B008
) -> History:
    """Train the objective's module in place; afterwards it holds the weights of the best epoch, also on Ctrl-C.

    With a folder the best weights (``model.safetensors``) and a checkpoint for ``resume`` are written after each epoch.
    With several devices each is a process that takes its share of every batch; ``report`` must then be importable. The
    global random state of torch is left as it was.
    """
    need("lightning_fabric")
    devices, precision = machines.devices, machines.precision
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision

    mixed: list[Any] = [MixedPrecision("bf16-mixed", device="cpu")] if precision == "bf16-mixed" else []
    if devices == 1:
        fabric = Fabric(accelerator="cpu", devices=1, plugins=mixed)
        return _run(fabric, objective, schedule, seed, folder, report, title, resume)
    fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp_spawn", plugins=mixed)
    with tempfile.TemporaryDirectory() as handed:
        result = Path(handed) / "best.safetensors"
        claim = None if folder is None else claim_on(folder)
        job = partial(_process, result, claim, job=(objective, schedule, seed, folder, report, title, resume))
        try:
            fabric.launch(job)
        except ProcessRaisedException as error:
            kind, _, sentence = str(error).strip().splitlines()[-1].partition(": ")
            for known in (WriteError, InputError):
                if kind.endswith(known.__name__):
                    raise known(sentence) from None
            raise
        except ProcessExitedException as error:
            how = f"was ended by {error.signal_name}" if error.signal_name else f"ended with code {error.exit_code}"
            raise InputError(f"process {error.error_index + 1} of {devices} of the training {how}") from error
        best, metadata = read_tensors(result)
    objective.module.load_state_dict(best)
    objective.module.eval()
    return History.read(metadata["history"], objective.higher_is_better, finished=True)


def _process(result: Path, claim: Claim | None, fabric: Fabric, job: tuple[Any, ...]) -> None:
    """The training in one of several processes, which hold the run's directory together. The first leaves history and
    best weights in a file: what it returned would go through a pipe, which nobody empties before the process ends, and
    which holds 64 KB."""
    module: nn.Module = job[0].module
    for tensor in (*module.parameters(), *module.buffers()):  # else all processes would write into one memory
        tensor.data = tensor.data.clone()
    with under(claim):
        history = _run(fabric, *job)
    if fabric.is_global_zero:
        write_tensors(result, module.state_dict(), {"history": history.text()})
    fabric.barrier()
    torch.distributed.destroy_process_group()  # its threads abort a process that ends while they run


def _run(
    fabric: Fabric,
    objective: Objective,
    schedule: Schedule,
    seed: int,
    folder: Path | None,
    report: MakeReporter | None,
    title: str,
    resume: bool,
) -> History:
    """The training as this process sees it."""
    shown = None
    if report is not None and fabric.is_global_zero:
        shown = report(title, schedule.total_steps, objective.metric, objective.unit)
    with shown if shown is not None else nullcontext(), torch.random.fork_rng(devices=[]):
        loop = _Loop(fabric, objective, schedule, seed, folder, shown)
        if resume and folder is not None and (folder / CHECKPOINT).exists():
            loop.restore(folder)
        try:
            while not loop.over():
                loop.run_epoch()
        finally:
            loop.take_best()
    loop.history.finished = True
    return loop.history


class _Loop:
    """One training run; Fabric places the module and the optimiser, the loop stays plain."""

    def __init__(
        self,
        fabric: Fabric,
        objective: Objective,
        schedule: Schedule,
        seed: int,
        folder: Path | None,
        reporter: Reporter | None,
    ) -> None:
        self.fabric, self.objective, self.schedule, self.seed = fabric, objective, schedule, seed
        self.reporter = reporter
        self.folder = folder if fabric.is_global_zero else None  # one process writes
        self.history = History(higher_is_better=objective.higher_is_better)
        self.best: dict[str, Tensor] | None = None
        self.parameters = list(objective.module.parameters())
        rate, decay = schedule.learning_rate, schedule.weight_decay
        fused = sum(p.numel() for p in self.parameters) >= FUSED
        optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=decay, fused=fused)
        self.forward, self.optimizer = fabric.setup(objective.module, optimizer)
        self.average = [p.detach().clone() for p in self.parameters] if schedule.average > 0 else []

    def over(self) -> bool:
        done = self.history.steps >= self.schedule.total_steps
        return done or self.history.stale >= self.schedule.patience

    def run_epoch(self) -> None:
        number, before = len(self.history.epochs) + 1, self.history.steps
        steps = min(self.schedule.steps_per_epoch, self.schedule.total_steps - before)
        rank, world = self.fabric.global_rank, self.fabric.world_size
        torch.manual_seed(int(np.random.SeedSequence([self.seed, number, rank][: 2 + (rank > 0)]).generate_state(1)[0]))
        batches = iter(self.objective.batches(np.random.default_rng([self.seed, number])))
        self.objective.module.train()
        started, losses, size = time.perf_counter(), [], 0
        for i in range(steps):
            if world > 1 and _orphaned():
                raise InputError("the process that began this training has ended")
            batch = next(batches)
            size += self.objective.size(batch)
            losses.append(self.step(before + i, batch if world == 1 else self.objective.share(batch, rank, world)))
            if self.reporter is not None:
                self.reporter.step(before + i + 1, losses[-1], size / (time.perf_counter() - started))
        seconds = time.perf_counter() - started
        self.objective.module.eval()
        with torch.no_grad(), self.averaged():
            value = self.objective.validate() if rank == 0 else math.nan
            epoch = self.fabric.broadcast(Epoch(number, steps, float(np.mean(losses)), value, seconds, size))
            if not math.isfinite(epoch.value):
                raise InputError(
                    f"training broke down in epoch {number}: {self.objective.metric} is not a finite number, because "
                    "the loss diverged (try a smaller learning_rate) or the validation part holds no values"
                )
            self.history.epochs.append(epoch)
            self.keep_best()
        self.keep()

    def step(self, step: int, batch: Any) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(step)
        self.optimizer.zero_grad()
        loss = self.objective.loss(self.forward, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise _diverged(step, f"the loss is {value}")
        self.fabric.backward(loss)
        try:
            self.fabric.clip_gradients(self.forward, self.optimizer, max_norm=self.schedule.clip_norm)
        except RuntimeError as error:
            if "non-finite" not in str(error):
                raise
            raise _diverged(step, "a gradient is not finite") from None
        self.optimizer.step()
        if self.average:
            decay = min(self.schedule.average, (1 + step) / (10 + step))  # young means forget fast
            get_ema_multi_avg_fn(decay)(self.average, [p.detach() for p in self.parameters], None)
        return value

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the module has the mean of the weights, where one is kept."""
        now = [p.detach().clone() for p in self.parameters] if self.average else []
        for parameter, mean in zip(self.parameters, self.average, strict=False):  # no mean, nothing to do
            parameter.copy_(mean)
        try:
            yield
        finally:  # also for who catches Ctrl-C in a validation and looks at the module
            for parameter, value in zip(self.parameters, now, strict=False):
                parameter.copy_(value)

    def keep_best(self) -> None:
        if self.history.stale == 0:
            self.best = {name: t.detach().clone() for name, t in self.objective.module.state_dict().items()}
            if self.folder is not None:
                write_tensors(self.folder / WEIGHTS, self.best)

    def keep(self) -> None:
        """After the best weights, the checkpoint. A crash in between repeats the epoch, to the bit."""
        if self.folder is not None:
            write_tensors(self.folder / CHECKPOINT, *self.checkpoint())
        if self.reporter is not None:
            self.reporter.epoch(self.history, self.objective.note)

    def take_best(self) -> None:
        if self.best is not None:
            self.objective.module.load_state_dict(self.best)
        self.objective.module.eval()

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors = {f"model.{name}": t for name, t in self.objective.module.state_dict().items()}
        tensors |= {f"average.{index}": t for index, t in enumerate(self.average)}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return tensors, {"history": self.history.text()}

    def restore(self, folder: Path) -> None:
        tensors, metadata = read_tensors(folder / CHECKPOINT)
        try:
            self.history.epochs = History.read(metadata["history"], self.history.higher_is_better).epochs
            model = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
            self.objective.module.load_state_dict(model)
            states: dict[int, dict[str, Tensor]] = {}
            for k, mean in enumerate(self.average):
                mean.copy_(tensors.pop(f"average.{k}"))
            for name in tensors.keys() - {f"model.{n}" for n in model}:
                _, index, key = name.split(".")
                states.setdefault(int(index), {})[key] = tensors[name]
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        except (KeyError, ValueError, TypeError, RuntimeError):
            raise InputError(f"{folder / CHECKPOINT} is foreign: it is not a checkpoint of this run") from None
        self.best = read_tensors(folder / WEIGHTS)[0]


def _orphaned() -> bool:
    """Whether the process that spawned this one was killed: nobody would take up what this one does."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _diverged(step: int, what: str) -> InputError:
    return InputError(f"training diverged in step {step + 1}: {what}; try a smaller learning_rate or check the data")
