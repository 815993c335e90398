"""What is trained, and for how long: a schedule, and objectives with and without a state that steps hand on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """How long and how to train.

    ``epochs`` epochs of ``steps_per_epoch`` optimiser steps, at most ``max_steps`` in all; the learning rate warms up
    over 5 % of the steps and falls to zero as a cosine; training stops after ``patience`` epochs without improvement,
    and where the validation figure is as good as ``target``.
    With ``average`` above 0, validation and the saved model use the exponential mean of the weights, of this decay.
    The weights of the best epoch are kept; with ``keep_last`` those of the last, where all planned steps were taken.
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
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW: how much of the means of gradients and of their squares each step keeps."""
    target: float | None = None
    keep_last: bool = False
    """For validation parts so small that the best of many epochs is best by chance: at the end the learning rate is 0,
    so that the last epochs differ little."""

    @property
    def total_steps(self) -> int:
        steps = self.epochs * self.steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def keeps_last(self, steps: int) -> bool:
        """Whether the weights after so many steps are the ones to keep, whatever was best before."""
        return self.keep_last and steps >= self.total_steps

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
    device: torch.device = torch.device("cpu")
    """Where the module is while it trains; ``validate`` sends its inputs there."""

    @abstractmethod
    def batches(self, generator: np.random.Generator) -> Iterable[Any]:
        """The batches of one epoch; the loop takes as many as the schedule says."""

    @abstractmethod
    def loss(self, forward: Callable[..., Any], batch: Any) -> Tensor:
        """The mean loss of a batch; ``forward`` is to be called in place of the module."""

    @abstractmethod
    def validate(self) -> float:
        """The validation figure of the module as it is; called in the first process alone."""

    @abstractmethod
    def size(self, batch: Any) -> int:
        """What a batch counts for in the speed of training."""

    @abstractmethod
    def share(self, batch: Any, rank: int, world: int) -> Any:
        """The part of a batch for one of several processes; never an empty one, see ``own_rows``."""

    def carried_loss(self, forward: Callable[..., Any], batch: Any, state: Any) -> tuple[Tensor, Any]:
        """The loss and what the next step is to get; see ``CarriedObjective``."""
        return self.loss(forward, batch), None

    def around_gradient(self) -> AbstractContextManager[Any]:
        """Within it a step takes the loss and its gradient; noise on the weights, say, is put on here and taken off."""
        return nullcontext()

    def placed(self, batch: Any, device: torch.device) -> Any:
        """The batch with its tensors on a device; not called where that is the CPU."""
        return mapped(lambda tensor: tensor.to(device), batch)


class CarriedObjective(Objective):
    """An objective whose steps hand a state on: back-propagation through time that is cut between them.

    ``carried_loss(forward, batch, state)`` gives the loss and a state: tensors in tuples, lists, dicts or dataclasses.
    The loop cuts it off from its gradient and hands it to the next step. It is None at the first step of an epoch, so
    that a run that is resumed has the bits of one that was not interrupted. In which rows a sequence starts anew is the
    objective's business; layers take it as ``reset``. With several processes each carries the states of its share,
    whose rows must be the same for every batch, as those of ``own_rows`` are.
    """

    @abstractmethod
    def carried_loss(self, forward: Callable[..., Any], batch: Any, state: Any) -> tuple[Tensor, Any]: ...

    def loss(self, forward: Callable[..., Any], batch: Any) -> Tensor:
        """Of a batch by itself."""
        return self.carried_loss(forward, batch, None)[0]


def own_rows(count: int, rank: int, world: int) -> slice:
    """The rows of a batch of ``count`` for one of several processes. Where there are fewer rows than processes, some
    are taken twice: a process without rows has no gradient to add."""
    return slice(rank % count, None, world)


def mapped(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """A structure of tuples, lists, dicts and dataclasses with every tensor in it changed; anything else stays."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: mapped(change, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(change, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(mapped(change, value) for value in tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return type(tree)(**{f.name: mapped(change, getattr(tree, f.name)) for f in fields(tree)})
    return tree
