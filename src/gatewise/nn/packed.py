"""A layer over a PackedSequence, with the results of torch.nn's layers.

The data is taken in segments of consecutive steps. One in which no row ends is a view of the data; rows that end within
one are padded and masked, as with ``lengths``. A segment is a call of the kernels, which packs the weights, so few
padded ones are quicker than many exact ones. The forward direction drops the rows that ended; the reverse direction
starts each row at its own last step. The bits are those of each sequence alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gatewise.nn.base import narrowed, rounding
from gatewise.nn.checks import check_beside_packed, check_packed
from gatewise.nn.layer import Layer, State, in_turn
from gatewise.nn.step_inputs import Run, StepInputs, step_inputs

CALL = 150
"""What a further call of the kernels costs, in steps of a row (measured: 180 at 128 units, 100 at 512)."""


@dataclass(frozen=True)
class Segment:
    steps: int
    rows: int
    extras: StepInputs | None = None
    """What goes along with the steps; which of them count where rows end."""
    places: Tensor | None = None
    """Where each row of the data stands among the steps · rows of the padded segment."""

    def pad(self, data: Tensor) -> Tensor:
        """(steps, rows, width) from the rows of the data."""
        if self.places is not None:
            data = data.new_zeros(self.steps * self.rows, *data.shape[1:]).index_copy(0, self.places, data)
        return data.reshape(self.steps, self.rows, *data.shape[1:])

    def flat(self, padded: Tensor) -> Tensor:
        values = padded.flatten(0, 1)
        return values if self.places is None else values.index_select(0, self.places)


def forward(
    layer: Layer,
    run: Run,
    packed: PackedSequence,
    hx: State | None,
    lengths: object,
    reset: object,
    inputs: Mapping[str, object],
) -> tuple[PackedSequence, State]:
    """As ``Recurrent.forward``, whose directions ``run`` runs; the states are in the order of the sequences before
    packing, as torch's."""
    named = {f"keyword input {name}": value for name, value in inputs.items()}
    check_beside_packed(layer, packed, lengths, named if reset is None else {"reset": reset, **named})
    data = layer._out_of_autocast(packed.data)
    check_packed(layer, data)
    sizes = packed.batch_sizes
    # The first step holds every row: enough to make or check the states by.
    x, half = layer._rounded(data), rounding(data)
    states = layer._initial(x[: int(sizes[0])].unsqueeze(0), hx, True)
    if reset is None and not inputs and not layer.cell.inputs:
        parts = segments(sizes, data.device)
    else:
        parts = [_with_along(layer, _segment(sizes, data.device), x, reset, inputs)]
    if hx is not None and packed.sorted_indices is not None:
        states = [[s.index_select(0, packed.sorted_indices) for s in own] for own in states]
    directions = in_turn(lambda k, data, start: _direction(layer, run, k, data, start, parts))
    y, finals = layer._stack(x, states, directions)
    y, final = y.to(half or data.dtype), narrowed(layer._together(finals), half, hx)
    if packed.unsorted_indices is not None:
        final = [f.index_select(1, packed.unsorted_indices) for f in final]
    output = PackedSequence(y, sizes, packed.sorted_indices, packed.unsorted_indices)
    return output, final[0] if len(final) == 1 else tuple(final)


def segments(batch_sizes: Tensor, device: torch.device) -> list[Segment]:
    """Stretches of steps with the same number of rows, put together while the padding costs less than a call."""
    rows, counts = torch.unique_consecutive(batch_sizes, return_counts=True)
    cuts, first, waste = [0], int(rows[0]), 0
    for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
        waste += count * (first - row)
        if waste > CALL:
            cuts.append(cuts[-1])
            first, waste = row, 0
        cuts[-1] += count
    return [_segment(sizes, device) for sizes in batch_sizes.tensor_split(cuts[:-1])]


def _segment(batch_sizes: Tensor, device: torch.device) -> Segment:
    steps, rows = len(batch_sizes), int(batch_sizes[0])
    if int(batch_sizes[-1]) == rows:
        return Segment(steps, rows)
    valid = (torch.arange(rows, device=batch_sizes.device) < batch_sizes[:, None]).to(device)
    return Segment(steps, rows, StepInputs(valid[..., None], None, {}), valid.flatten().nonzero().squeeze(1))


def _with_along(layer: Layer, segment: Segment, data: Tensor, reset: object, inputs: Mapping[str, object]) -> Segment:
    """The one segment of all steps, with resets and keyword inputs."""

    def laid_out(given: object) -> Tensor:
        assert isinstance(given, PackedSequence)
        padded = segment.pad(given.data)
        return padded.transpose(0, 1) if layer.batch_first else padded

    found = step_inputs(
        layer,
        segment.pad(data),
        True,
        None,
        None if reset is None else laid_out(reset),
        {name: laid_out(value) for name, value in inputs.items()},
    )
    assert found is not None
    valid = None if segment.extras is None else segment.extras.valid
    return dataclasses.replace(segment, extras=dataclasses.replace(found, valid=valid))


def _direction(
    layer: Layer, run: Run, k: int, data: Tensor, states: list[Tensor], parts: list[Segment]
) -> tuple[Tensor, list[Tensor]]:
    """One direction of one layer: outputs in the order of the data, and each row's final states."""
    reverse = k % layer.num_directions == 1
    pieces = data.split([p.steps * p.rows if p.places is None else len(p.places) for p in parts])
    order = range(len(parts) - 1, -1, -1) if reverse else range(len(parts))
    outputs: list[Tensor] = [data] * len(parts)
    current = [s[:0] for s in states] if reverse else states
    ended: list[list[Tensor]] = []
    for n in order:
        part = parts[n]
        if reverse:  # rows whose last step is among these begin here
            current = [torch.cat([c, s[c.shape[0] : part.rows]]) for c, s in zip(current, states, strict=True)]
        else:
            ended.append([c[part.rows :] for c in current])
            current = [c[: part.rows] for c in current]
        y, current = run(k, part.pad(pieces[n]), current, part.extras)
        outputs[n] = part.flat(y)
    ended.append(current)
    final = [torch.cat(group[::-1]) for group in zip(*ended, strict=True)]
    return torch.cat(outputs), final
