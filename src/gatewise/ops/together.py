"""Calls side by side: the directions of a layer as one function with derivatives, where a backend has a way.

Only where nobody looks on, and tensors are plain: everybody else gets the calls in turn, which ``derivatives`` has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from gatewise.backends import WITHOUT_KERNELS, choose, get
from gatewise.backends.base import Arriving, Choice, Together
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import input_operands
from gatewise.ops.batched import batched
from gatewise.ops.derivatives import gradients
from gatewise.ops.operators import count, meaning, parsed, parsed_options, plain
from gatewise.torch_internals import apply, observed

Flat = Sequence[Tensor]
"""The tensors of a call, in the order of its options."""


def way(cell: Cell, x: Tensor, units: int, half: torch.dtype | None) -> Choice | None:
    """The choice of a backend that runs calls of the cell on x side by side, where that pays and nobody looks on."""
    if observed():
        return None
    choice = choose(x.device, x.dtype, half, cell, units)
    if choice.name in WITHOUT_KERNELS:
        return None
    together, (steps, rows, columns) = get(choice.name).together, x.shape
    if together is None or not together.pays(cell, steps, rows, columns, units, x.dtype.itemsize):
        return None
    return choice


def runs(options: str) -> Together:
    """What runs calls of these options side by side."""
    together = get(parsed_options(options).backend).together
    assert together is not None
    return together


def run(cell: Cell, options: Sequence[str], groups: Sequence[Flat], differentiable: bool) -> list[list[Tensor]]:
    """``gatewise::forward`` of each call; of plain tensors."""
    if not differentiable:
        return _forward(cell.text, options, groups)
    # The last first: gradients of a tensor that several read are added as where calls are differentiated in turn.
    turned = chain.from_iterable(reversed(groups))
    flat = iter(apply(SideBySide, cell.text, tuple(reversed(options)), *turned))
    found = [[next(flat) for _ in range(results(own))] for own in reversed(options)]
    return found[::-1]


def _forward(cell: str, options: Sequence[str], groups: Sequence[Flat]) -> list[list[Tensor]]:
    return runs(options[0]).forward((cell, *options), [meaning(cell, own) for own in options], groups)


def results(options: str) -> int:
    """Of a call that is differentiated: the output, the final states, and what was kept."""
    return 2 + parsed_options(options).counts[2]


class SideBySide(torch.autograd.Function):
    """(cell, options of each call, *tensors of each) → (y, *finals, saved) of each."""

    @staticmethod
    def forward(cell: str, options: tuple[str, ...], *flat: Tensor) -> tuple[Tensor, ...]:
        rest, groups = iter(flat), list[Flat]()
        for own in options:
            groups.append([next(rest) for _ in range(count(own))])
        return tuple(chain.from_iterable(_forward(cell, options, groups)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.cell, ctx.options, *flat = inputs
        ctx.set_materialize_grads(False)
        given, made, kept = iter(flat), iter(output), list[Tensor]()
        unread = []
        for own in ctx.options:
            y, *_, saved = [next(made) for _ in range(results(own))]
            kept += [*[next(given) for _ in range(count(own))], y, saved]
            unread.append(saved)
        ctx.mark_non_differentiable(*unread)
        ctx.save_for_backward(*kept)

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor | None) -> tuple[Any, ...]:
        kept, grads, needed = iter(ctx.saved_tensors), iter(arriving), iter(ctx.needs_input_grad[2:])
        asked = []
        for own in ctx.options:
            n = count(own)
            *flat, y, saved = [next(kept) for _ in range(n + 2)]
            dy, *finals, _ = [next(grads) for _ in range(results(own))]
            asked.append(Arriving(flat, y, saved, dy, finals, [next(needed) for _ in range(n)]))
        return (None, None, *chain.from_iterable(_gradients(ctx.cell, ctx.options, asked)))


def _gradients(cell: str, options: Sequence[str], asked: Sequence[Arriving]) -> list[list[Tensor | None]]:
    if all(a.matters() for a in asked) and pays_behind(cell, asked):
        found = runs(options[0]).backward((cell, *options), [meaning(cell, own) for own in options], asked)
        return masked(found, asked)
    return [
        gradients(cell, own, *a) if a.matters() else [None] * len(a.tensors)
        for own, a in zip(options, asked, strict=True)
    ]


def pays_behind(cell: str, asked: Sequence[Arriving]) -> bool:
    """Whether backwards run side by side: asked again, since threads may have gone since the forward."""
    if torch.is_grad_enabled() or any(batched(a.dy, *a.finals) for a in asked):
        return False
    if not all(plain(a.whole()) for a in asked):
        return False
    return way(parsed(cell), asked[0].tensors[0], asked[0].y.shape[-1], None) is not None


def masked(found: Sequence[Sequence[Tensor | None]], asked: Sequence[Arriving]) -> list[list[Tensor | None]]:
    """Gradients of what they are wanted of."""
    pairs = [zip(own, a.wanted, strict=True) for own, a in zip(found, asked, strict=True)]
    return [[g if want else None for g, want in own] for own in pairs]


@lru_cache(maxsize=256)
def reads_inputs(cell: Cell) -> bool:
    """Whether products take the cell's inputs as they are, and torch computes nothing before them."""
    return all(node.op == "input" for _, node in input_operands(cell))


@lru_cache(maxsize=256)
def reads_x(cell: Cell) -> bool:
    """Whether layers of the cell read nothing but the output of the one below, as it is."""
    return not cell.inputs and not cell.vectors and bool(input_operands(cell)) and reads_inputs(cell)
