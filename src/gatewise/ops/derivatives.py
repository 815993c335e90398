"""The operators as functions with derivatives.

One autograd function wraps ``forward`` and ``backward``; its backward is a second one, whose own derivative goes
through ``torch.func.vjp`` of the eager reference: ``register_autograd`` on the operators instead gave silently wrong
second derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gatewise.backends import eager
from gatewise.compiler.plan import input_operands, make_plans
from gatewise.ops import operators
from gatewise.ops.batched import batched, by_example
from gatewise.ops.operators import count, parsed, parsed_options, split
from gatewise.torch_internals import apply, in_forward_mode, observed, transforms_active


class OverTime(torch.autograd.Function):
    """(cell, options, *tensors) → (y, *finals, saved)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cell: str, options: str, *flat: Tensor) -> tuple[Tensor, ...]:
        return tuple(operators.forward(cell, options, list(flat)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.cell, ctx.options, *flat = inputs
        ctx.mark_non_differentiable(output[-1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*flat, output[0], output[-1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *rest: Tensor | None) -> tuple[Any, ...]:
        *flat, y, saved = ctx.saved_tensors
        needed, finals = ctx.needs_input_grad[-len(flat) :], rest[:-1]
        return (None, None, *gradients(ctx.cell, ctx.options, flat, y, saved, dy, finals, needed))


def gradients(
    cell: str,
    options: str,
    flat: Sequence[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Of each tensor of a call, where it is needed; differentiable where somebody asks for that."""
    if not (torch.is_grad_enabled() or observed() or batched(dy, *finals)):  # nobody asks for further derivatives
        found = operators.backward(cell, options, list(flat), y, saved, dy, finals, needed)
        return [g if w else None for g, w in zip(found, needed, strict=True)]
    wanted = "".join(["1" if need else "0" for need in needed])
    # torch.compile differentiates once, and hands a nested function without gradients its arguments shifted by one.
    way = _Backward.forward if torch.compiler.is_compiling() else differentiable_backward
    grads = by_example(partial(way, cell, options, wanted, *flat, y, saved), dy, *finals)
    return [g if w else None for g, w in zip(grads, needed, strict=True)]


class _Backward(torch.autograd.Function):
    """The gradient as a function of its own, so that it can be differentiated again, through eager."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cell: str, options: str, wanted: str, *tensors: Any) -> tuple[Tensor, ...]:
        n = count(options)
        flat, y, saved, dy, finals = tensors[:n], tensors[n], tensors[n + 1], tensors[n + 2], tensors[n + 3 :]
        needed = [w == "1" for w in wanted]
        found = operators.backward(cell, options, list(flat), y, saved, dy, finals, needed)
        return tuple([t.new_empty(0) if d is None else d for t, d in zip(flat, found, strict=True)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.cell, ctx.options, _, *tensors = inputs
        ctx.n = count(ctx.options)
        ctx.set_materialize_grads(False)
        ctx.present = tuple(t is not None for t in tensors[ctx.n + 2 :])
        ctx.save_for_backward(*tensors[: ctx.n], *(t for t in tensors[ctx.n + 2 :] if t is not None))

    @staticmethod
    def backward(ctx: Any, *second: Tensor | None) -> tuple[Any, ...]:
        return (None, None, None, *by_example(partial(_Backward._second, ctx), *second))

    @staticmethod
    def _second(ctx: Any, *second: Tensor | None) -> tuple[Any, ...]:
        flat, arrived = ctx.saved_tensors[: ctx.n], ctx.saved_tensors[ctx.n :]

        def gradients(flat: tuple[Tensor, ...], arrived: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            results: Any = torch.func.vjp(lambda *f: _eager(ctx.cell, ctx.options, f), *flat)
            outputs, pull = results
            remaining = list(arrived)
            given = [remaining.pop(0) if p else torch.zeros_like(o) for p, o in zip(ctx.present, outputs, strict=True)]
            return tuple(pull(tuple(given)))

        results: Any = torch.func.vjp(gradients, flat, arrived)
        outputs, pull = results
        cotangents = tuple(torch.zeros_like(o) if s is None else s for s, o in zip(second, outputs, strict=True))
        d_flat, d_arrived = pull(cotangents)
        rest = list(d_arrived)
        tail = [rest.pop(0) if p else None for p in ctx.present]
        return (*d_flat, None, None, *tail)


def differentiable_backward(*arguments: Any) -> tuple[Tensor, ...]:
    special = transforms_active() or in_forward_mode()
    if not (special or torch.is_grad_enabled()):  # nobody asks for further derivatives
        return _Backward.forward(*arguments)
    results: tuple[Tensor, ...] = apply(_Backward, *arguments)
    return results


def _eager(cell_text: str, options: str, flat: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same function of the same tensors on the eager backend."""
    cell, opts = parsed(cell_text), parsed_options(options)
    operands, inputs, states, parameters = split(options, flat)
    nodes = [node for _, node in input_operands(cell)]
    names = make_plans(cell).input_terms
    y, finals = eager.interpret(
        cell,
        dict(zip(nodes, operands[: len(nodes)], strict=True)),
        dict(zip(names, inputs, strict=True)),
        states,
        dict(zip(opts.names, parameters, strict=True)),
        steps=int(flat[0].shape[0]),
        reverse=opts.reverse,
    )
    return (y, *finals)
