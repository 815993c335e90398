"""What a trained model's recurrent layer reads: caught while the model does its own work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.nn import Recurrent
from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments of a call, by place and by name."""


class _Caught(Exception):
    pass


@dataclass(frozen=True)
class Reading:
    """The first call of a model's first recurrent layer, one row of it.

    ``x`` is (T, input_size); ``states`` are what it started from, (num_layers · directions, hidden_size) each, or None;
    ``inputs`` are keyword inputs (T, width); ``labels`` has a text for every step; ``series`` numbers to draw above;
    ``whole`` is the call of the network that led to it, None where the model calls parts of its network.
    """

    layer: Recurrent
    x: Tensor
    states: tuple[Tensor, ...] | None
    inputs: dict[str, Tensor]
    labels: list[str]
    series: NDArray[Any] | None
    whole: Call | None = None


def reading(task: Task, data: Any = None, row: int = 0) -> Reading:
    """Let the model predict, and keep what its first recurrent layer reads first.

    Args:
        task: a fitted or loaded model. data: as for its ``predict``. row: which sequence of the batch.

    Raises:
        InputError: for a model without a recurrent layer, or data that do not fit.
    """
    module = task.fitted()
    layer = next((m for m in module.modules() if isinstance(m, Recurrent)), None)
    if layer is None:
        raise InputError(f"the {task.name} model has no recurrent layer that could be observed")
    whole: list[Call] = []
    outer = module.register_forward_pre_hook(lambda _, *call: whole.append(call), with_kwargs=True)
    try:
        call = first_call(layer, lambda: task.predict(data))
    finally:
        outer.remove()
    if call is None or not isinstance(call[0][0], Tensor):
        raise InputError(f"the {task.name} model read nothing as a whole sequence that could be observed")
    observation = _row(layer, call, row, task.positions(data))
    return replace(observation, whole=whole[-1] if whole else None)


def first_call(layer: nn.Module, run: Callable[[], object]) -> Call | None:
    """The arguments of the first call of a layer while something runs, which ends there; None where it never is."""
    caught: list[Call] = []

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.append((args, kwargs))
        raise _Caught

    handle = layer.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        with torch.no_grad(), contextlib.suppress(_Caught):
            run()
    finally:
        handle.remove()
    return caught[0] if caught else None


def _row(
    layer: Recurrent,
    call: Call,
    row: int,
    positions: tuple[list[str], NDArray[Any] | None] | None,
) -> Reading:
    (input, *rest), named = call
    x = _time_first(layer, input.clone())  # a copy: what was made in inference mode cannot be differentiated
    if not 0 <= row < x.shape[1]:
        raise InputError(f"row must be from 0 to {x.shape[1] - 1}, got {row}")
    named = dict(named)
    hx, lengths = (rest[0] if rest else named.pop("hx", None)), named.pop("lengths", None)
    named.pop("reset", None)
    steps = x.shape[0] if lengths is None else max(1, int(torch.as_tensor(lengths)[row]))
    states = None if hx is None else tuple(s[:, row] for s in (hx if isinstance(hx, tuple) else (hx,)))
    inputs = {name: _time_first(layer, value)[:steps, row] for name, value in named.items()}
    labels, series = positions if positions is not None and len(positions[0]) == steps else (None, None)
    return Reading(layer, x[:steps, row], states, inputs, labels or [str(t) for t in range(steps)], series)


def _time_first(layer: Recurrent, value: Tensor) -> Tensor:
    if value.dim() == 2:
        return value.unsqueeze(1)
    return value.transpose(0, 1) if layer.batch_first else value


@contextlib.contextmanager
def leaf(layer: Recurrent) -> Iterator[list[Tensor]]:
    """Inside the block the layer reads copies of its input that gather gradients; the list gets them."""
    inputs: list[Tensor] = []

    def instead(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        inputs.append(args[0].detach().clone().requires_grad_())
        return (inputs[-1], *args[1:]), kwargs

    handle = layer.register_forward_pre_hook(instead, with_kwargs=True)
    try:
        yield inputs
    finally:
        handle.remove()


def states_over_time(layer: Recurrent, x: Tensor, states: tuple[Tensor, ...] | None = None) -> NDArray[np.float64]:
    """Every state after every step, (states, T, B, hidden_size), of the last layer; ``x`` is (T, B, input_size).

    Raises:
        InputError: for a layer that also reads backwards.
    """
    if layer.bidirectional:
        raise InputError("states over time need a layer that reads forwards only, but this one is bidirectional")
    final_states = []
    hx: Any = None if states is None else states[0] if len(states) == 1 else states
    with torch.no_grad():
        for step in x:
            one = step[:, None] if layer.batch_first else step[None]
            _, hx = layer(one, hx)
            whole = hx if isinstance(hx, tuple) else (hx,)
            final_states.append(torch.stack([s[-1] for s in whole]))
    return torch.stack(final_states, 1).double().numpy()
