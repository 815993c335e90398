"""Layers on two threads, where they run side by side, and on one, where they run in turn: for tests that both are the
same to the bit."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from comparing import threads
from layer_problems import flat
from torch import Tensor

import gatewise as gw
from gatewise.backends.cpu import BACKEND
from gatewise.backends.kernels import recipe

WAYS = ("together", "stack")
"""How programs that hold several calls are called."""


def programs() -> int:
    """How many of them were made."""
    return sum(isinstance(key[0], tuple) and key[0][0] in WAYS for key in recipe._recipes)


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """Nothing is known of sizes that came before."""
    real, recipe._recipes = recipe._recipes, {}
    BACKEND.together._known.cache_clear()
    try:
        yield
    finally:
        recipe._recipes = real
        BACKEND.together._known.cache_clear()


def inputs(cell: gw.Cell, sizes: tuple[int, int, int, int], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """x as ``input``, and the keyword inputs of a cell; sizes: steps, rows, columns, units."""
    steps, rows, columns, units = sizes
    widths = {"input": columns, "hidden": units}
    made = {"input": torch.randn(steps, rows, columns, dtype=dtype)}
    return made | {n: torch.rand(steps, rows, widths.get(str(w)) or int(w), dtype=dtype) for n, w in cell.inputs}


def inference(layer: gw.Recurrent, given: dict[str, Any]) -> list[Tensor]:
    with torch.no_grad():
        return flat(layer(**given))


def training(layer: gw.Recurrent, given: dict[str, Any]) -> list[Tensor]:
    """Results, and the gradients of what goes in and of the parameters, None among them."""
    leaves = {n: v.clone().requires_grad_() if v.is_floating_point() else v for n, v in given.items() if n != "hx"}
    states = [s.clone().requires_grad_() for s in flat(given["hx"])] if "hx" in given else []
    more = {} if not states else {"hx": states[0] if len(states) == 1 else tuple(states)}
    found = flat(layer(**leaves, **more))
    loss = sum((v * torch.arange(v.numel(), dtype=v.dtype).reshape(v.shape).sin()).sum() for v in found)
    wanted = [*[v for v in leaves.values() if v.requires_grad], *states, *layer.parameters()]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [*[v.detach() for v in found], *[torch.zeros(0) if g is None else g for g in grads]]


def on_threads(count: int, work: Any, *arguments: Any) -> Any:
    with threads(count):
        return work(*arguments)


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape, number
        assert torch.equal(a, b), (number, (a - b).abs().max())
