"""The training loop as one process runs it: steps, validation, the best weights, a checkpoint to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import CHECKPOINT, METRICS_CSV, WEIGHTS, read_tensors, write_bytes, write_tensors
from gatewise.tasks.history import Epoch, History, Reporter
from gatewise.tasks.objective import Objective, Schedule, mapped
from gatewise.tasks.processes import orphaned
from gatewise.tasks.together import Together

FUSED = 1 << 20
"""Parameters from which on the optimiser goes over memory once instead of a dozen times, with other bits."""


class Loop:
    """One training run; Fabric places the module and the optimiser, the loop stays plain.

    Args:
        folder: where the first process writes. reporter: whom it tells.
    """

    def __init__(
        self,
        together: Together,
        objective: Objective,
        schedule: Schedule,
        seed: int,
        folder: Path | None,
        reporter: Reporter | None,
    ) -> None:
        self.together, self.objective, self.schedule, self.seed = together, objective, schedule, seed
        self.fabric, self.reporter = together.fabric, reporter
        self.folder = folder if together.rank == 0 else None  # one process writes
        self.history = History(higher_is_better=objective.higher_is_better)
        self.best: dict[str, Tensor] | None = None
        objective.device = self.fabric.device
        objective.module.to(objective.device)
        self.parameters = list(objective.module.parameters())
        rate, decay, betas = schedule.learning_rate, schedule.weight_decay, schedule.betas
        fused = sum(p.numel() for p in self.parameters) >= FUSED
        optimizer = torch.optim.AdamW(self.parameters, lr=rate, betas=betas, weight_decay=decay, fused=fused)
        self.forward, self.optimizer = self.fabric.setup(objective.module, optimizer)
        self.average = [p.detach().clone() for p in self.parameters] if schedule.average > 0 else []

    def over(self) -> bool:
        done = self.history.steps >= self.schedule.total_steps
        return done or self.history.stale >= self.schedule.patience or self.history.reached(self.schedule.target)

    def run_epoch(self) -> None:
        number, before = len(self.history.epochs) + 1, self.history.steps
        steps = min(self.schedule.steps_per_epoch, self.schedule.total_steps - before)
        rank, world = self.together.rank, self.together.world
        torch.manual_seed(int(np.random.SeedSequence([self.seed, number, rank][: 2 + (rank > 0)]).generate_state(1)[0]))
        batches = iter(self.objective.batches(np.random.default_rng([self.seed, number])))
        self.objective.module.train()
        started, losses, size, state = time.perf_counter(), [], 0, None
        for i in range(steps):
            if world > 1 and orphaned():
                raise InputError("the process that began this training has ended")
            batch = next(batches, None)
            if batch is None:
                raise InputError(f"data: they make {i} batches an epoch, expected {steps}")
            size += self.objective.size(batch)
            own = batch if world == 1 else self.objective.share(batch, rank, world)
            loss, state = self.step(before + i, own, state)
            losses.append(loss)
            if self.reporter is not None:
                self.reporter.step(before + i + 1, loss, size / (time.perf_counter() - started))
        seconds = time.perf_counter() - started
        mean = self.together.mean(float(np.mean(losses)))
        self.objective.module.eval()
        with torch.no_grad(), self.averaged():
            value = self.objective.validate() if rank == 0 else math.nan
            epoch = self.together.told(Epoch(number, steps, mean, value, seconds, size))
            if not math.isfinite(epoch.value):
                raise InputError(
                    f"training broke down in epoch {number}: {self.objective.metric} is not a finite number, because "
                    "the loss diverged (try a smaller learning_rate) or the validation part holds no values"
                )
            self.history.epochs.append(epoch)
            self.keep_best()
        self.keep()

    def step(self, step: int, batch: Any, state: Any = None) -> tuple[float, Any]:
        """One step of the optimiser: its loss, and the state for the next one without its gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(step)
        self.optimizer.zero_grad()
        if self.objective.device.type != "cpu":
            batch = self.objective.placed(batch, self.objective.device)
        with self.objective.around_gradient():
            loss, state = self.objective.carried_loss(self.forward, batch, state)
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
        return value, mapped(Tensor.detach, state)

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
            self._keep_weights()

    def keep_last(self) -> None:
        """Where the schedule asks for it. Done anew after a crash behind the last epoch, it gives the same bits."""
        if self.schedule.keeps_last(self.history.steps):
            with torch.no_grad(), self.averaged():
                self._keep_weights()
            self.history.kept_last = True

    def _keep_weights(self) -> None:
        """Those that the module has now, as the best."""
        self.best = {name: t.detach().clone() for name, t in self.objective.module.state_dict().items()}
        if self.folder is not None:
            write_tensors(self.folder / WEIGHTS, self.best)

    def keep(self) -> None:
        """After the best weights, the checkpoint. A crash in between repeats the epoch, to the bit."""
        if self.folder is not None:
            write_bytes(self.folder / METRICS_CSV, self.history.table(self.schedule.rate).encode())
            write_tensors(self.folder / CHECKPOINT, *self.checkpoint())
        if self.reporter is not None:
            self.reporter.epoch(self.history, self.objective.note)

    def agree(self) -> None:
        """All processes have the best weights of the first."""
        self.best = self.together.told(self.best)

    def take_best(self) -> None:
        """The module has the best weights, on the CPU."""
        self.objective.module.to("cpu")
        if self.best is not None:
            self.objective.module.load_state_dict(self.best)
        self.objective.module.eval()

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors = {f"model.{name}": t for name, t in self.objective.module.state_dict().items()}
        tensors |= {f"average.{index}": t for index, t in enumerate(self.average)}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return tensors, {"history": self.history.text()}

    def restore(self, folder: Path | None) -> None:
        """Go on from a checkpoint, if the first process has one in its folder."""
        path = folder / CHECKPOINT if folder is not None and self.together.rank == 0 else None
        saved = self.together.told(read_tensors(path) if path is not None and path.exists() else None)
        if saved is None:
            return
        try:
            self._take(*saved)
        except (KeyError, ValueError, TypeError, RuntimeError):
            raise InputError(f"{path or 'the checkpoint'} is foreign: it is not a checkpoint of this run") from None
        self.best = self.together.told(read_tensors(path.with_name(WEIGHTS))[0] if path is not None else None)

    def _take(self, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
        self.history.epochs = History.read(texts["history"], self.history.higher_is_better).epochs
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


def _diverged(step: int, what: str) -> InputError:
    return InputError(f"training diverged in step {step + 1}: {what}; try a smaller learning_rate or check the data")
