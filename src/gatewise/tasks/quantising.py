"""A fitted model with narrow weights in its recurrent layers: scored before and after, written as a run of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

from torch import nn

from gatewise.nn.quantise import quantize
from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import WEIGHTS, whole, write_tensors
from gatewise.tasks.outcome import Scores


class Quantised(NamedTuple):
    """The model, what ``score`` said before and after, and the bytes of all weights before and after."""

    task: Task
    before: Scores
    after: Scores
    bytes_before: int
    bytes_after: int

    def change(self) -> float:
        """Of the task's metric: relative, and positive where the model became worse; NaN where it was zero."""
        model, metric = next(iter(self.before)), self.task.metric
        old, new = self.before[model][metric], self.after[model][metric]
        worse = old - new if self.task.higher_is_better else new - old
        return worse / abs(old) if old else float("nan")


def quantised(task: Task, directory: str | Path, to: str = "int8") -> Quantised:
    """Score a fitted model, quantise a copy of it, score that and write it.

    Args:
        task: is left as it was. directory: for the run, which ``predict``, ``score`` and the like accept; must not hold
            one yet. to: ``"int8"`` or ``"bf16"``, see ``gatewise.quantize``.

    Raises:
        InputError: for a model that cannot be quantised or a directory that cannot be used, before anything is scored;
            after an error nothing is left in it.
    """
    module = task.fitted()
    try:
        narrow = quantize(module, to)
    except ValueError as error:
        raise InputError(str(error)) from None
    folder, other = Path(directory), copy.copy(task)
    with whole(directory, task._names()):
        before, other.module = task.score(), narrow
        other.scores = after = other.score()
        write_tensors(folder / WEIGHTS, narrow.state_dict())
        other._save_description(folder)
        other._save_metrics(folder)
    return Quantised(other, before, after, _bytes(module), _bytes(narrow))


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())
