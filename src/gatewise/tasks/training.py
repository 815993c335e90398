"""The training loop of every task: seeds, early stopping, best checkpoint, interruption and resuming.

An epoch is what lies between two validations. Its random numbers depend on the seed and its number alone, so that a
run resumed from the checkpoint of its last finished epoch gives the bits that an uninterrupted run gives.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.folder import CHECKPOINT, WEIGHTS, read_tensors, write_tensors


@dataclass(frozen=True)
class Schedule:
    """How long and how to train.

    ``epochs`` epochs of ``steps_per_epoch`` optimiser steps, at most ``max_steps`` in all; the learning rate warms up
    over 5 % of the steps and falls to zero as a cosine; training stops after ``patience`` epochs without improvement.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    patience: int
    max_steps: int | None = None
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    @property
    def total_steps(self) -> int:
        steps = self.epochs * self.steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1.0, self.warmup * self.total_steps))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.total_steps))


class Objective(Protocol):
    """What a task gives the loop: a module, batches, their loss, and a validation figure (lower is better)."""

    module: nn.Module
    metric: str

    def batches(self, generator: np.random.Generator) -> Iterable[Any]:
        """The batches of one epoch; the loop takes as many as the schedule says."""

    def loss(self, forward: Callable[..., Tensor], batch: Any) -> Tensor: ...

    def validate(self) -> float: ...


@dataclass
class Epoch:
    """One line of the training history: mean loss, validation figure, seconds and steps of an epoch."""

    epoch: int
    steps: int
    loss: float
    value: float
    seconds: float


@dataclass
class History:
    """Where a training stands: its finished epochs, and which was the best."""

    epochs: list[Epoch] = field(default_factory=list)
    finished: bool = False

    @property
    def steps(self) -> int:
        return sum(e.steps for e in self.epochs)

    @property
    def best(self) -> Epoch:
        return min(self.epochs, key=lambda e: e.value)

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return len(self.epochs) - self.best.epoch if self.epochs else 0

    @property
    def seconds_per_step(self) -> float:
        """Median over the epochs; validation is not counted."""
        return float(np.median([e.seconds / e.steps for e in self.epochs])) if self.epochs else math.nan


class Reporter(Protocol):
    """Who is told how training goes."""

    def step(self, step: int, loss: float) -> None: ...

    def epoch(self, history: History) -> None: ...


def train(
    objective: Objective,
    schedule: Schedule,
    seed: int,
    folder: Path | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> History:
    """Train the objective's module in place; afterwards it holds the weights of the best epoch, also on Ctrl-C.

    With a folder the best weights (``model.safetensors``) and a checkpoint for ``resume`` are written after each epoch.
    The global random state of torch is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        loop = _Loop(objective, schedule, seed, folder, reporter)
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
        self, objective: Objective, schedule: Schedule, seed: int, folder: Path | None, reporter: Reporter | None
    ) -> None:
        self.objective, self.schedule, self.seed = objective, schedule, seed
        self.folder, self.reporter = folder, reporter
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        parameters = objective.module.parameters()
        optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        self.fabric = need("lightning_fabric").Fabric(accelerator="cpu", devices=1)
        self.forward, self.optimizer = self.fabric.setup(objective.module, optimizer)

    def over(self) -> bool:
        done = self.history.steps >= self.schedule.total_steps
        return done or self.history.stale >= self.schedule.patience

    def run_epoch(self) -> None:
        number, before = len(self.history.epochs) + 1, self.history.steps
        steps = min(self.schedule.steps_per_epoch, self.schedule.total_steps - before)
        torch.manual_seed(int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]))
        batches = iter(self.objective.batches(np.random.default_rng([self.seed, number])))
        self.objective.module.train()
        started, losses = time.perf_counter(), []
        for i in range(steps):
            losses.append(self.step(before + i, next(batches)))
        seconds = time.perf_counter() - started
        self.objective.module.eval()
        with torch.no_grad():
            value = self.objective.validate()
        if not math.isfinite(value):
            raise InputError(
                f"training broke down in epoch {number}: {self.objective.metric} is not a finite number, because the "
                "loss diverged (try a smaller learning_rate) or the validation part holds no values"
            )
        self.history.epochs.append(Epoch(number, steps, float(np.mean(losses)), value, seconds))
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
        if self.reporter is not None:
            self.reporter.step(step + 1, value)
        return value

    def keep(self) -> None:
        """After an epoch: the best weights, then the checkpoint. A crash in between repeats the epoch, to the bit."""
        if self.history.stale == 0:
            self.best = {name: t.detach().clone() for name, t in self.objective.module.state_dict().items()}
            if self.folder is not None:
                write_tensors(self.folder / WEIGHTS, self.best)
        if self.folder is not None:
            write_tensors(self.folder / CHECKPOINT, *self.checkpoint())
        if self.reporter is not None:
            self.reporter.epoch(self.history)

    def take_best(self) -> None:
        if self.best is not None:
            self.objective.module.load_state_dict(self.best)
        self.objective.module.eval()

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors = {f"model.{name}": t for name, t in self.objective.module.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return tensors, {"history": json.dumps([asdict(e) for e in self.history.epochs])}

    def restore(self, folder: Path) -> None:
        tensors, metadata = read_tensors(folder / CHECKPOINT)
        try:
            self.history.epochs = [Epoch(**e) for e in json.loads(metadata["history"])]
            model = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
            self.objective.module.load_state_dict(model)
            states: dict[int, dict[str, Tensor]] = {}
            for name in tensors.keys() - {f"model.{n}" for n in model}:
                _, index, key = name.split(".")
                states.setdefault(int(index), {})[key] = tensors[name]
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        except (KeyError, ValueError, TypeError, RuntimeError):
            raise InputError(f"{folder / CHECKPOINT} is foreign: it is not a checkpoint of this run") from None
        self.best = read_tensors(folder / WEIGHTS)[0]


def _diverged(step: int, what: str) -> InputError:
    return InputError(f"training diverged in step {step + 1}: {what}; try a smaller learning_rate or check the data")
