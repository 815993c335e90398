"""What the layers of the trained models read on held-out data, for claims about their states and gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from gatewise.nn import Recurrent
from gatewise.study.observe import first_call, states_over_time
from gatewise.study.trial.plan import Network
from gatewise.study.trial.runs import Runs
from gatewise.tasks.base import Task
from gatewise.tasks.exercises import Exercise
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.translator import VALIDATION

ROWS = 8
"""Held-out sequences on which a trained model is looked at."""


@dataclass(frozen=True)
class Look:
    """A layer that reads forwards, and what it reads: ``x`` (T, rows, features), ``states`` before the first step."""

    layer: Recurrent
    x: Tensor
    states: tuple[Tensor, ...] | None

    def over_time(self) -> Any:
        """Every state after every step, (states, T, rows, units)."""
        return states_over_time(self.layer, self.x, self.states)

    def gates(self) -> Mapping[str, Tensor]:
        """The values of every gate by name."""
        x = self.x.transpose(0, 1) if self.layer.batch_first else self.x
        states: Any = self.states if self.states is None or len(self.states) > 1 else self.states[0]
        return self.layer.trace(x, states).gates


def looks(runs: Runs, network: Network) -> list[Look]:
    """A look into the network of every seed whose training went well."""
    models = (runs.model(network, seed) for seed in range(runs.scale.seeds))
    return [look(model) for model in models if model is not None]


def look(task: Task) -> Look:
    """What the first layer that reads forwards reads of held-out sequences; a translator's decoder reads the right
    translation, as far as the shortest one goes."""
    module = task.fitted()
    layer = next(m for m in module.modules() if isinstance(m, Recurrent) and not m.bidirectional)
    if isinstance(task, Exercise):
        return Look(layer, torch.from_numpy(task.predict()["inputs"][:, :ROWS]), None)
    if isinstance(task, Translator):
        batch = task.teaching(task.pairs[VALIDATION].take(list(range(ROWS))))
        shortest = int(batch.counts.sum(1).min())
        args, _ = _called(layer, lambda: module(batch))
        states = args[1] if isinstance(args[1], tuple) else (args[1],)
        return Look(layer, args[0][:shortest], states)
    args, _ = _called(layer, task.objective().validate)
    windows = args[0].transpose(0, 1) if layer.batch_first else args[0]
    return Look(layer, windows[:, :: -(-windows.shape[1] // ROWS)], None)


def _called(layer: nn.Module, run: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return cast(tuple[tuple[Any, ...], dict[str, Any]], first_call(layer, run))
