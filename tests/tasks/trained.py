"""A small training for tests of several processes: as a script it trains and writes what came out of it.

python trained.py '{"folder": ..., "out": ..., "devices": 2, "end": [1, 8]}'
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gatewise as gw
from gatewise.tasks.errors import InputError
from gatewise.tasks.history import History
from gatewise.tasks.machines import Machines, is_first
from gatewise.tasks.objective import CarriedObjective, Schedule, own_rows
from gatewise.tasks.training import train

SCHEDULE = Schedule(epochs=4, steps_per_epoch=5, learning_rate=0.02, patience=4, average=0.9)
ROWS = 6


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = gw.GRU(2, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = self.layer(x, state)
        return self.head(y), state


class Sums(CarriedObjective):
    """Running sums over rows that go on and on.

    Args:
        end: rank and step of a process that ends there. how: ``kill``, ``diverge`` or ``fault``.
    """

    metric = "error"

    def __init__(self, end: tuple[int, int] | None = None, how: str = "kill") -> None:
        torch.manual_seed(3)
        self.module = Model()
        self.end, self.how, self.steps = end, how, 0

    def batches(self, generator: np.random.Generator) -> Iterator[Tensor]:
        while True:
            yield torch.from_numpy(generator.normal(size=(4, ROWS, 2))).float()

    def carried_loss(self, forward: Callable[..., Any], batch: Tensor, state: Any) -> tuple[Tensor, Any]:
        self.steps += 1
        output, state = forward(batch, state)
        loss = ((output[..., 0] - batch.sum(-1).cumsum(0)) ** 2).mean()
        if self.end == (int(os.environ.get("RANK", 0)), self.steps):
            if self.how == "fault":
                raise ZeroDivisionError("in one process")
            if self.how == "diverge":
                return loss * torch.inf, state
            os.kill(os.getpid(), signal.SIGKILL)
        return loss, state

    def validate(self) -> float:
        x = torch.linspace(-1, 1, 32).reshape(8, 2, 2)
        return float(self.loss(self.module, x))

    def size(self, batch: Tensor) -> int:
        return batch.shape[1]

    def share(self, batch: Tensor, rank: int, world: int) -> Tensor:
        return batch[:, own_rows(batch.shape[1], rank, world)]


def digest(module: nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest()


def figures(history: History) -> list[list[float]]:
    return [[e.epoch, e.steps, e.loss, e.value, e.size] for e in history.epochs]


def main(asked: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    end, how = asked.get("end"), asked.get("how", "kill")
    objective = Sums(None if end is None else (end[0], end[1]), how)
    try:
        machines = Machines(devices=asked.get("devices", 1), num_nodes=asked.get("num_nodes", 1))
        folder = Path(asked["folder"]) if "folder" in asked and is_first(machines) else None
        history = train(objective, SCHEDULE, 1, folder, resume=asked.get("resume", False), machines=machines)
    except InputError as error:
        print(f"refused: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    found = {"figures": figures(history), "weights": digest(objective.module), "first": is_first(machines)}
    who = os.environ.get("RANK", os.environ.get("NODE_RANK", "0"))
    (Path(asked["out"]) / f"{who}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
