"""What the gates of a layer did: their values at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gatewise import ops
from gatewise.backends import eager
from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import postorder

if TYPE_CHECKING:
    from gatewise.nn.beside import Beside
    from gatewise.nn.recurrent import Recurrent, State


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


@lru_cache(maxsize=256)
def _leading(cell: Cell, state: str) -> Cell:
    """The cell with another state in front, whose value at every step is then the output."""
    order = sorted(range(len(cell.states)), key=lambda k: cell.states[k] != state)
    states, outputs = tuple(cell.states[k] for k in order), tuple(cell.outputs[k] for k in order)
    return replace(cell, name=f"{cell.name}_{state}", states=states, outputs=outputs, function=None)


def gate_values(layer: Recurrent, k: int, x: Tensor, start: list[Tensor], along: Beside | None) -> dict[str, Tensor]:
    """The gates of the k-th direction and layer, (T, B, H) each.

    With the states before every step known, gates need no recurrence: all steps are rows of one batch.
    """
    reverse = layer.bidirectional and k % 2 == 1
    cell = layer.cell if along is None else layer._variants[along.kind]
    given = {} if along is None else layer._given(k, x, along)
    parameters = {name: getattr(layer, full) for name, full in layer._parameter_names[k].items()}
    leaves = {"x": x, **given}
    for state in cell.states:
        led = _leading(cell, state)
        now, _ = ops.run(led, x, given, [start[cell.states.index(s)] for s in led.states], parameters, reverse=reverse)
        first = start[cell.states.index(state)][None]
        leaves[state] = torch.cat([now[1:], first] if reverse else [first, now[:-1]])[: len(x)]
    values = {n: leaves[str(n.attr)].flatten(0, 1) for n in postorder(cell.outputs) if n.op in ("input", "state")}
    affine = eager.Affine(cell, parameters, layer.hidden_size)
    nodes = [cell.gate_value(gate) for gate in cell.gates]
    found = eager.evaluate(nodes, values, lambda n: affine(n, values, affine.input_half(n, values)))
    shaped = [value.expand(x.shape[0] * x.shape[1], -1).reshape(*x.shape[:2], layer.hidden_size) for value in found]
    return {g: v if along is None else along.blank(v) for g, v in zip(cell.gates, shaped, strict=True)}
