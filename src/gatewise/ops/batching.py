"""What ``torch.func.vmap`` does with the operators of ``ops``.

Examples share the kernels' rows: with unbatched weights the new dimension joins the batch, which is as fast as a batch
and, row by row, the same bits. Weights of their own, and gradients of weights example by example, take a call each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Dims = Sequence[Any]


def _front(tensor: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """The tensor with the batched dimension first, expanded where it has none."""
    if tensor is None:
        return None
    if dim is None:
        return tensor.unsqueeze(0).expand(size, *tensor.shape)
    return tensor.movedim(dim, 0)


def _fronts(tensors: Sequence[Tensor | None], dims: Sequence[int | None] | None, size: int) -> list[Tensor | None]:
    dims = [None] * len(tensors) if dims is None else dims
    return [_front(t, d, size) for t, d in zip(tensors, dims, strict=True)]


def _join(tensor: Tensor, row_dim: int) -> Tensor:
    """(N, …, B, …) with the examples moved into the rows: (…, N·B, …)."""
    return tensor.movedim(0, row_dim).flatten(row_dim, row_dim + 1)


def _part(tensor: Tensor, size: int, row_dim: int) -> Tensor:
    """The inverse of ``_join``."""
    parted: Tensor = tensor.unflatten(row_dim, (size, -1)).movedim(row_dim, 0)
    return parted


def _unbatched(dims: Sequence[int | None] | None) -> bool:
    return dims is None or all(d is None for d in dims)


def forward(
    operator: Callable[..., Any],
    split: Callable[[str, Sequence[Any]], tuple[list[Any], list[Any], list[Any], list[Any]]],
    info: Any,
    in_dims: Dims,
    cell: str,
    options: str,
    tensors: Sequence[Tensor],
) -> tuple[Any, Any]:
    """The rule of ``gatewise::forward``; ``split`` tells operands, inputs, states and parameters apart."""
    size = info.batch_size
    fronts = _fronts(tensors, in_dims[2], size)
    operands, inputs, states, _ = split(options, fronts)
    finals_dims = [0] * len(states)
    if in_dims[2] is None or _unbatched(split(options, in_dims[2])[3]):
        joined = [*(_join(t, 1) for t in (*operands, *inputs)), *(_join(t, 0) for t in states)]
        y, finals, saved = operator(cell, options, [*joined, *split(options, tensors)[3]])
        parts = (_part(y, size, 1), [_part(f, size, 0) for f in finals], _part(saved, size, 2))
        return parts, (0, finals_dims, 0)
    calls = [operator(cell, options, [t[k] for t in fronts if t is not None]) for k in range(size)]
    finals = [torch.stack(column) for column in zip(*(c[1] for c in calls), strict=True)]
    return (torch.stack([c[0] for c in calls]), finals, torch.stack([c[2] for c in calls])), (0, finals_dims, 0)


def backward(
    operator: Callable[..., Any],
    info: Any,
    in_dims: Dims,
    cell: str,
    options: str,
    tensors: Sequence[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> tuple[list[Tensor], list[int]]:
    """The rule of ``gatewise::backward``: a call for each example."""
    size = info.batch_size
    lists = [tensors, [y], [saved], [dy], finals]
    dims = [in_dims[2], *([d] for d in in_dims[3:6]), in_dims[6]]
    fronts = [_fronts(part, d, size) for part, d in zip(lists, dims, strict=True)]
    calls = []
    for k in range(size):
        parts = [[None if t is None else t[k] for t in part] for part in fronts]
        flat = [parts[0], *(part[0] for part in parts[1:4]), parts[4]]
        calls.append(operator(cell, options, *flat, list(wanted)))
    results = [torch.stack(column) for column in zip(*calls, strict=True)]
    return results, [0] * len(results)
