"""A layer over a PackedSequence, with the results of torch.nn's layers.

The data is taken as it lies: steps with the same number of rows are one run of the kernels on a view of it. The
forward direction drops the rows that end; the reverse direction starts each row at its own last step. So nothing is
padded, and the bits are those of each sequence alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gatewise.nn.checks import check_packed

if TYPE_CHECKING:
    from gatewise.nn.recurrent import Recurrent, State

Run = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


def forward(layer: Recurrent, packed: PackedSequence, hx: State | None) -> tuple[PackedSequence, State]:
    """As ``Recurrent.forward``; the states are in the order of the sequences before packing, as torch's."""
    data = layer._out_of_autocast(packed.data)
    check_packed(layer, data)
    runs = constant_runs(packed.batch_sizes)
    # The first step holds every row: enough to make or check the states by.
    states = layer._initial(data[: runs[0][1]].unsqueeze(0), hx, True)
    if hx is not None and packed.sorted_indices is not None:
        states = [s.index_select(1, packed.sorted_indices) for s in states]
    y, final = _stack(layer, data, states, runs)
    if packed.unsorted_indices is not None:
        final = [f.index_select(1, packed.unsorted_indices) for f in final]
    output = PackedSequence(y, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    return output, final[0] if len(final) == 1 else tuple(final)


def constant_runs(batch_sizes: Tensor) -> list[tuple[int, int]]:
    """(steps, rows) of each stretch of steps with the same number of rows."""
    rows, steps = torch.unique_consecutive(batch_sizes, return_counts=True)
    return list(zip(steps.tolist(), rows.tolist(), strict=True))


def _stack(
    layer: Recurrent, data: Tensor, states: list[Tensor], runs: list[tuple[int, int]]
) -> tuple[Tensor, list[Tensor]]:
    directions = layer.num_directions
    finals: list[list[Tensor]] = []
    for number in range(layer.num_layers):
        outputs = []
        for k in range(number * directions, (number + 1) * directions):
            start = [s[k] for s in states]
            y, final = _direction(partial(layer._run, k), data, start, runs, reverse=k % directions == 1)
            outputs.append(y)
            finals.append(final)
        data = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if layer.dropout > 0 and layer.training and number < layer.num_layers - 1:
            data = F.dropout(
                data, layer.dropout, True
            )  # on the packed data, so that a seed drops what it drops in torch
    return data, [torch.stack(per_state) for per_state in zip(*finals, strict=True)]


def _direction(
    run: Run, data: Tensor, states: list[Tensor], runs: list[tuple[int, int]], reverse: bool
) -> tuple[Tensor, list[Tensor]]:
    """One direction of one layer: outputs in the order of the data, and each row's final states."""
    pieces = data.split([steps * rows for steps, rows in runs])
    order = range(len(runs) - 1, -1, -1) if reverse else range(len(runs))
    outputs: list[Tensor] = [data] * len(runs)
    current = [s[:0] for s in states] if reverse else states
    ended: list[list[Tensor]] = []
    for n in order:
        steps, rows = runs[n]
        if reverse:  # rows whose last step this is begin here
            current = [torch.cat([c, s[c.shape[0] : rows]]) for c, s in zip(current, states, strict=True)]
        else:
            ended.append([c[rows:] for c in current])
            current = [c[:rows] for c in current]
        y, current = run(pieces[n].reshape(steps, rows, -1), current)
        outputs[n] = y.flatten(0, 1)
    ended.append(current)
    final = [torch.cat(parts[::-1]) for parts in zip(*ended, strict=True)]
    return torch.cat(outputs), final
