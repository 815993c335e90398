"""The layers of a stack as one function with derivatives, where a backend runs them as a wave-front.

Where they may is as ``together`` says of directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from gatewise.backends.base import Arriving, Choice
from gatewise.compiler.cell import Cell
from gatewise.ops.derivatives import gradients
from gatewise.ops.operators import CallOptions, Keep, count, meaning
from gatewise.ops.together import Flat, masked, pays_behind, results, runs
from gatewise.torch_internals import apply


def run(
    choice: Choice, cell: Cell, x: Tensor, groups: Sequence[Flat], names: Sequence[str], differentiable: bool
) -> list[list[Tensor]]:
    """``gatewise::forward`` of each layer, on plain tensors.

    Args:
        groups: the states and parameters of each layer; names: of the parameters.
    """
    keep = Keep.GATES if differentiable else Keep.NOTHING
    options = CallOptions.text(str(choice), False, keep, (1, 0, len(cell.states)), names)
    if not differentiable:
        return _forward(cell.text, options, x, groups)
    # The last first, as in ``together.run``.
    flat = iter(apply(Stack, cell.text, options, len(groups), *chain.from_iterable(reversed(groups)), x))
    return [[next(flat) for _ in range(results(options))] for _ in groups]


def _forward(cell: str, options: str, x: Tensor, groups: Sequence[Flat]) -> list[list[Tensor]]:
    return runs(options).stack((cell, options), meaning(cell, options), x, groups)


class Stack(torch.autograd.Function):
    """(cell, options, layers, *states and parameters of each layer, the highest first, x) → (y, *finals, saved) of
    each, the lowest first."""

    @staticmethod
    def forward(cell: str, options: str, layers: int, *flat: Tensor) -> tuple[Tensor, ...]:
        n = count(options) - 1
        groups = [flat[k * n : (k + 1) * n] for k in reversed(range(layers))]
        return tuple(chain.from_iterable(_forward(cell, options, flat[-1], groups)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.cell, ctx.options, ctx.layers, *flat = inputs
        ctx.set_materialize_grads(False)
        n = results(ctx.options)
        ctx.mark_non_differentiable(*output[n - 1 :: n])
        ctx.save_for_backward(*flat, *output[::n], *output[n - 1 :: n])

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor | None) -> tuple[Any, ...]:
        layers, kept, needed = ctx.layers, ctx.saved_tensors, ctx.needs_input_grad[3:]
        n, m = count(ctx.options) - 1, results(ctx.options)
        x, *ys = kept[layers * n : -layers]
        asked, operand, wants = list[Arriving](), x, needed[-1]
        for k, (y, saved) in enumerate(zip(ys, kept[-layers:], strict=True)):
            own = slice((layers - 1 - k) * n, (layers - k) * n)
            dy, *finals, _ = arriving[k * m : (k + 1) * m]
            asked.append(Arriving([operand, *kept[own]], y, saved, dy, finals, [wants, *needed[own]]))
            operand, wants = y, any(asked[-1].wanted)
        found = _beside(ctx.cell, ctx.options, asked) or _in_turn(ctx.cell, ctx.options, asked)
        return (None, None, None, *chain.from_iterable(own[1:] for own in reversed(found)), found[0][0])


def _beside(cell: str, options: str, asked: Sequence[Arriving]) -> list[list[Tensor | None]] | None:
    """The gradients of each layer; None where they must be found layer by layer."""
    *lower, top = asked
    meet = top.matters() and all(own.dy is None for own in lower) and all(own.wanted[0] for own in asked[1:])
    if not meet or not pays_behind(cell, asked):
        return None
    return masked(runs(options).stack_backward((cell, options), meaning(cell, options), asked), asked)


def _in_turn(cell: str, options: str, asked: Sequence[Arriving]) -> list[list[Tensor | None]]:
    found, above = list[list[Tensor | None]](), None
    for own in reversed(asked):
        # An output between layers has a gradient of its own where this backward is differentiated again.
        dy = above if own.dy is None else own.dy if above is None else own.dy + above
        arriving = own._replace(dy=dy)
        found.append(gradients(cell, options, *arriving) if arriving.matters() else [None] * len(own.tensors))
        above = found[-1][0]
    return found[::-1]
