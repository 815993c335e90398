"""The derivative of ``gatewise::forward`` where it is called by itself, and not by a layer: in a program of
``torch.jit.trace`` or ``torch.export``.

Layers differentiate through the functions of ``derivatives``, which further derivatives and transformations need.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from gatewise.ops import operators
from gatewise.ops.batched import by_example
from gatewise.ops.derivatives import differentiable_backward
from gatewise.ops.operators import CallOptions, Keep, parsed_options

Lists = tuple[Any, ...]


def _setup_context(ctx: Any, inputs: Lists, output: Lists) -> None:
    ctx.cell, ctx.options, tensors = inputs
    y, _, saved = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(saved)
    ctx.save_for_backward(*tensors, y, saved)


def _backward(ctx: Any, dy: Tensor | None, finals: list[Tensor | None], _: None) -> Lists:
    *flat, y, saved = ctx.saved_tensors
    needed = ctx.needs_input_grad[2]
    options, kept = ctx.options, parsed_options(ctx.options)
    if kept.keep is Keep.NOTHING:  # the program was made for inference: what the backward reads is computed now
        options = CallOptions.text(f"{kept.backend}/{kept.tier}", kept.reverse, Keep.GATES, kept.counts, kept.names)
        with torch.no_grad():
            saved = operators.forward(ctx.cell, options, flat)[-1]
    wanted = "".join(["1" if need else "0" for need in needed])
    grads = by_example(partial(differentiable_backward, ctx.cell, options, wanted, *flat, y, saved), dy, *finals)
    return None, None, [g if need else None for g, need in zip(grads, needed, strict=True)]


def register() -> None:
    torch.library.register_autograd("gatewise::forward", _backward, setup_context=_setup_context, lib=operators.library)
