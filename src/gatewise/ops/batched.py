"""Gradients that arrive batched: ``is_grads_batched``, ``jacobian(vectorize=True)``, ``check_batched_grad``.

They come wrapped by a vmap of torch's that is older than torch.func's, asks no operator for a rule, and hides the
dimension of the examples from Python. Each example is computed by itself here, with the bits of a loop over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gatewise.torch_internals import batch_level, is_batched, with_batch, without_batch

Tensors = Sequence[Tensor | None]


def by_example(function: Callable[..., Tensors], *tensors: Tensor | None) -> Tensors:
    """``function`` of tensors, of every example in turn where some are batched."""
    return _at(batch_level(), function, tensors) if batched(*tensors) else function(*tensors)


def batched(*tensors: Tensor | None) -> bool:
    """Whether one of them is."""
    return not torch.compiler.is_compiling() and True in [t is not None and is_batched(t) for t in tensors]


def _at(level: int, function: Callable[..., Tensors], tensors: Tensors) -> Tensors:
    """As ``by_example``, of tensors that are batched at this level or at levels outside of it."""
    if level == 0:
        return function(*tensors)
    # (examples, …), at least one, since torch refuses none; of what is not batched at this level, one.
    fronts = [None if t is None else without_batch(t, level) for t in tensors]
    size = max(len(f) for f in fronts if f is not None)
    each = [_at(level - 1, function, [None if f is None else f[k % len(f)] for f in fronts]) for k in range(size)]
    columns = zip(*each, strict=True)
    return [None if c[0] is None else with_batch(torch.stack(c), level) for c in columns]
