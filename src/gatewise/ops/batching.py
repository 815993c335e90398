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
    operator: Callable[..., Any], info: Any, in_dims: Dims, cell: str, options: str, *lists: Sequence[Tensor]
) -> tuple[Any, Any]:
    """The rule of ``gatewise::forward``."""
    size = info.batch_size
    operands, inputs, states, parameters = (
        _fronts(tensors, dims, size) for tensors, dims in zip(lists, in_dims[2:], strict=True)
    )
    finals_dims = [0] * len(states)
    if _unbatched(in_dims[5]):
        joined = ([_join(t, d) for t in part if t is not None] for part, d in ((operands, 1), (inputs, 1), (states, 0)))
        y, finals, saved = operator(cell, options, *joined, list(lists[3]))
        parts = (_part(y, size, 1), [_part(f, size, 0) for f in finals], _part(saved, size, 2))
        return parts, (0, finals_dims, 0)
    calls = [
        operator(
            cell, options, *([t[k] for t in part if t is not None] for part in (operands, inputs, states, parameters))
        )
        for k in range(size)
    ]
    finals = [torch.stack(column) for column in zip(*(c[1] for c in calls), strict=True)]
    return (torch.stack([c[0] for c in calls]), finals, torch.stack([c[2] for c in calls])), (0, finals_dims, 0)


def backward(
    operator: Callable[..., Any],
    info: Any,
    in_dims: Dims,
    cell: str,
    options: str,
    operands: Sequence[Tensor],
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> tuple[list[Tensor], list[int]]:
    """The rule of ``gatewise::backward``: a call for each example."""
    size = info.batch_size
    lists = [operands, inputs, states, parameters, [y], [saved], [dy], finals]
    dims = [*in_dims[2:6], *([d] for d in in_dims[6:9]), in_dims[9]]
    fronts = [_fronts(tensors, d, size) for tensors, d in zip(lists, dims, strict=True)]
    calls = []
    for k in range(size):
        parts = [[None if t is None else t[k] for t in part] for part in fronts]
        flat = [*parts[:4], *(part[0] for part in parts[4:7]), parts[7]]
        calls.append(operator(cell, options, *flat, list(wanted)))
    results = [torch.stack(column) for column in zip(*calls, strict=True)]
    return results, [0] * len(results)
