"""What a network costs: seconds of a call, bytes held for the backward."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.tasks.base import Task


def seconds(run: Callable[[], object], least: float = 0.02, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call by a clock, from so many calls that they take ``least`` seconds."""
    calls = 1
    while True:
        started = clock()
        for _ in range(calls):
            run()
        taken = clock() - started
        if taken >= least:
            return taken / calls
        calls = max(2 * calls, int(calls * 1.2 * least / max(taken, 1e-9)))


@contextmanager
def one_thread() -> Iterator[None]:
    """A single thread inside the block, so that ``time.thread_time`` counts all work and no waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def saved(module: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes by address of what is kept for the backward inside the block, the module's parameters left out."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def weight_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def training_bytes(task: Task) -> int:
    """Weights, their gradients, and what one training batch keeps for its backward."""
    module = task.fitted()
    objective = task.objective()
    batch = next(iter(objective.batches(np.random.default_rng(0))))
    module.train()
    try:
        with saved(module) as kept, torch.enable_grad():
            objective.loss(module, batch)
    finally:
        module.eval()
    return 2 * weight_bytes(module) + sum(kept.values())


def inference_seconds(task: Task) -> float | None:
    """Seconds of the network's forward on what ``predict()`` first gives it, or of the pass that the task names, the
    least of five; None where there is neither."""
    module, own = task.fitted(), task.sample_pass()
    if own is not None:
        return min(seconds(own, 0.005) for _ in range(5))
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    class Enough(Exception):
        pass

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, kwargs))
        raise Enough

    handle = module.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        with torch.no_grad():
            task.predict()
    except Enough:
        pass
    finally:
        handle.remove()
    if not calls:
        return None
    args, kwargs = calls[0]
    with torch.no_grad():
        return min(seconds(lambda: module(*args, **kwargs), 0.005) for _ in range(5))
