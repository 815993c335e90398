"""What the gates of a layer did: their values at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise import ops
from gatewise.nn.layer import Layer, State
from gatewise.nn.step_inputs import StepInputs


@dataclass(frozen=True)
class Trace:
    """What a layer computed, without gradients."""

    output: Tensor
    """As the layer returns it."""
    state: State
    """The final states, as the layer returns them."""
    gates: Mapping[str, Tensor]
    """By the names of the gates: their values (see ``Cell.gate_value``), (num_layers · directions, T, B, hidden_size),
    the order of layers and directions being that of the states; the rest laid out as the output. Zero past the end of
    a row."""


class Recorder:
    """Runs the directions of a layer's stack one after another, and keeps what the gates did."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.gates = torch.empty(0)
        """(gate, num_layers · directions, T, B, hidden_size) once the first direction runs."""

    def __call__(
        self, k: int, x: Tensor, states: list[Tensor], extras: StepInputs | None
    ) -> tuple[Tensor, list[Tensor]]:
        layer = self.layer
        if k == 0:
            rows = layer.num_layers * layer.num_directions
            self.gates = x.new_empty(len(layer.cell.gates), rows, *x.shape[:2], layer.hidden_size)
        cell = layer.cell if extras is None else layer._variants[extras.kind]
        reverse, starts = layer.bidirectional and k % 2 == 1, layer._starts(k)
        given = {} if extras is None else extras.of_cell(layer.cell, x, starts, reverse)
        weights, gates, half = layer._weights(k), self.gates[:, k], layer._half(x)
        y, final = ops.trace(cell, x, given, states, weights, gates, reverse=reverse, half=half)
        if extras is None:
            return y, final
        if extras.valid is not None:
            self.gates[:, k].masked_fill_(~extras.valid, 0.0)
        return extras.blank(y), extras.left(final, starts, reverse)

    def by_name(self, batched: bool) -> dict[str, Tensor]:
        gates = self.gates
        if not batched:
            gates = gates.squeeze(3)
        elif self.layer.batch_first:
            gates = gates.transpose(2, 3)
        return dict(zip(self.layer.cell.gates, gates.unbind(0), strict=True))
