"""What a stack of layers of one cell has: sizes, weights by direction, initial states, the way through the stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.backends import WITHOUT_KERNELS, choose
from gatewise.compiler.cell import Cell
from gatewise.compiler.masking import with_lengths, with_reset
from gatewise.nn.base import CellModule
from gatewise.nn.checks import check_states, whole_states

State = Tensor | tuple[Tensor, ...]
Direction = Callable[[int, Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
"""Runs the k-th direction in the order of the states: output and final states from input and initial states."""
Directions = Callable[[int, Tensor, list[list[Tensor]]], tuple[list[Tensor], list[list[Tensor]]]]
"""Runs the directions of a layer, by its number: their outputs and final states from its input and their initial
states."""
Variants = dict[tuple[bool, bool], Cell]


def _in_bfloat16(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A parametrisation may give one of them in another precision than its neighbours."""
    return {n: w if w.dtype == torch.bfloat16 else w.to(torch.bfloat16) for n, w in weights.items()}


def in_turn(run: Direction) -> Directions:
    """The directions of a layer one after another."""

    def directions(layer: int, x: Tensor, states: list[list[Tensor]]) -> tuple[list[Tensor], list[list[Tensor]]]:
        found = [run(layer * len(states) + d, x, own) for d, own in enumerate(states)]
        return [y for y, _ in found], [final for _, final in found]

    return directions


def variants(cell: Cell, learned: bool) -> Variants:
    """The cell by (with lengths, with resets). Made with the layer: torch.compile cannot trace how equations change."""
    reset = with_reset(cell, learned)
    made = {(False, False): cell, (True, False): with_lengths(cell), (False, True): reset}
    made[True, True] = with_lengths(reset)
    for variant in made.values():
        variant.text  # noqa: B018 (cached in the cell: torch.compile cannot trace how it is printed either)
    return made


class Layer(CellModule):
    """What ``Recurrent`` shares with those who work on its weights and states."""

    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    redundant_bias: bool
    _variants: Variants
    _parameter_names: list[dict[str, str]]
    """Of each direction: the names of ``Cell.parameter_shapes``, and those of the parameters here."""
    _initial_names: list[str]
    """The learned initial state of each direction, if any."""

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The width of each state; the first is that of the output of one direction."""
        return (self.hidden_size,) * len(self.cell.states)

    def _initial(self, x: Tensor, hx: State | None, batched: bool) -> list[list[Tensor]]:
        """The states of each direction, (B, width) each."""
        rows = self.num_layers * self.num_directions
        if hx is None and self._initial_names:
            return [[s.expand(x.shape[1], -1) for s in self._starts(k) or ()] for k in range(rows)]
        if hx is None:
            return [[x.new_zeros(x.shape[1], size) for size in self.state_sizes]] * rows
        given = [self._out_of_autocast(s) for s in whole_states(self.cell, hx)]
        states = [s if s.dtype == x.dtype else self._widened(s) for s in given]
        lead = (rows, x.shape[1]) if batched else (rows,)
        check_states(self.cell.states, states, x, [(*lead, size) for size in self.state_sizes], batched)
        return [[s[k] if batched else s[k : k + 1] for s in states] for k in range(rows)]

    def _stack(self, x: Tensor, states: list[list[Tensor]], run: Directions) -> tuple[Tensor, list[list[Tensor]]]:
        """All layers, each on what the one below gives, from the states of each direction; the final states of each."""
        directions = self.num_directions
        finals: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            outputs, own = run(layer, x, states[layer * directions : (layer + 1) * directions])
            finals += own
            x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
            if self.dropout > 0 and self.training and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, True)  # of a PackedSequence the data, as in torch with the same seed
        return x, finals

    def _together(self, finals: list[list[Tensor]]) -> list[Tensor]:
        """The final states of all directions, (num_layers · directions, B, width) each."""
        if len(finals) == 1:
            return [final.unsqueeze(0) for final in finals[0]]
        return [torch.stack(per_state) for per_state in zip(*finals, strict=True)]

    def _narrow_calls(self, x: Tensor, hx: State | None) -> bool:
        """Whether kernels take x in bfloat16 and weights and states with it, so that nothing is widened before them. A
        state that came in float32 is not rounded."""
        narrow = torch.bfloat16
        if not x.is_cuda:  # on a processor kernels take float32, and one that is asked for by name says so
            return False
        if self.quantised is not None or self._initial_names or x.dtype != narrow or self._a_weight(x).dtype != narrow:
            return False
        if any(size != self.hidden_size for size in self.state_sizes):
            return False
        if hx is not None and any(s.dtype != narrow for s in whole_states(self.cell, hx)):
            return False
        return choose(x.device, narrow, None, self.cell, self.hidden_size).name not in WITHOUT_KERNELS

    def _weights(self, k: int, x: Tensor | None = None, for_calls: bool = True) -> dict[str, Tensor]:
        """The parameters of the k-th direction, by the names of ``Cell.parameter_shapes``: as they are for an input x
        that kernels take in bfloat16, else see ``_all_rounded``."""
        names = self._parameter_names[k]
        if self.quantised is not None:
            return {name: getattr(self, full) for name, full in names.items()}
        narrow = x is not None and x.dtype == torch.bfloat16
        if torch.compiler.is_compiling():
            read = {name: getattr(self, full) for name, full in names.items()}
            return _in_bfloat16(read) if narrow else self._all_rounded(read, for_calls)
        own = self._parameters  # a parametrised weight is an attribute and not in there
        found: dict[str, Any] = {n: own[full] if full in own else getattr(self, full) for n, full in names.items()}
        return _in_bfloat16(found) if narrow else self._all_rounded(found, for_calls)

    def _starts(self, k: int) -> tuple[Tensor, ...] | None:
        """The learned initial states of the k-th direction."""
        return self._rounded(getattr(self, self._initial_names[k])).unbind(0) if self._initial_names else None
