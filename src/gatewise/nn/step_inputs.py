"""What goes along with x through a layer: lengths of rows, resets within them, and the cell's keyword inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.compiler.cell import Cell
from gatewise.compiler.masking import RESET, VALID, initial
from gatewise.nn.checks import check_like
from gatewise.nn.layer import Layer
from gatewise.torch_internals import transforms_active

Lengths = Tensor | Sequence[int]


@dataclass(frozen=True)
class StepInputs:
    """Checked, and laid out as x is inside of a layer: time first."""

    valid: Tensor | None
    """(T, B, 1) bool: which steps lie before the end of their row."""
    reset: Tensor | None
    """(T, B, 1) bool: before which steps the past ends."""
    inputs: Mapping[str, Tensor]
    """(T, B, width) each."""

    @property
    def kind(self) -> tuple[bool, bool]:
        """The key of the cell in ``variants``."""
        return self.valid is not None, self.reset is not None

    def blank(self, values: Tensor) -> Tensor:
        """(T, B, width) with zeros past the ends: whatever lay there, NaN too, reaches no result and no gradient."""
        return values if self.valid is None else torch.where(self.valid, values, 0.0)

    def of_cell(self, cell: Cell, x: Tensor, starts: Sequence[Tensor] | None, reverse: bool) -> dict[str, Tensor]:
        """The keyword inputs of the cell of this kind.

        Args:
            cell: the cell as it was defined. starts: its learned initial states, (H,) each; None where there are none.
        """
        given = dict(self.inputs)
        cuts = self.cuts(reverse)
        if cuts is not None:
            given[RESET] = cuts.to(x.dtype)
            for state, start in zip(cell.states, starts or (), strict=starts is not None):
                given[initial(state)] = start.expand(*x.shape[:2], -1)
        if self.valid is not None:
            given[VALID] = self.valid.to(x.dtype)
        return given

    def cuts(self, reverse: bool) -> Tensor | None:
        """(T, B, 1): steps of one direction that start anew. A reset at t cuts between t - 1 and t, so that on the way
        back it is t - 1 that does."""
        if self.reset is None or not reverse:
            return self.reset
        inside = self._inside(self.reset)
        return torch.cat([inside[1:], torch.zeros_like(inside[:1])])

    def left(self, finals: list[Tensor], starts: Sequence[Tensor] | None, reverse: bool) -> list[Tensor]:
        """The final states of one direction. On the way back, a reset of the first step lies behind it: the state that
        leaves is the initial one, so that the chunk before starts from it as the whole would."""
        if self.reset is None or not reverse or len(self.reset) == 0:
            return finals
        cut = self._inside(self.reset)[0]
        return [torch.where(cut, starts[k] if starts else 0.0, final) for k, final in enumerate(finals)]

    def _inside(self, reset: Tensor) -> Tensor:
        return reset if self.valid is None else reset & self.valid


Run = Callable[[int, Tensor, list[Tensor], StepInputs | None], tuple[Tensor, list[Tensor]]]
"""Runs the k-th direction, as ``layer.Direction``, with what goes along with x."""


def step_inputs(
    layer: Layer,
    x: Tensor,
    batched: bool,
    lengths: Lengths | None,
    reset: object,
    inputs: Mapping[str, object],
) -> StepInputs | None:
    """Check and lay out what came with x, which is (T, B, width) already; None when nothing came."""
    if lengths is None and reset is None and not inputs and not layer.cell.inputs:
        return None
    valid = None if lengths is None else _valid(layer, x, batched, lengths)
    cuts = None if reset is None else _reset(layer, x, batched, reset)
    checked = StepInputs(valid, cuts, _inputs(layer, x, batched, inputs))
    return StepInputs(valid, cuts, {name: checked.blank(value) for name, value in checked.inputs.items()})


def _valid(layer: Layer, x: Tensor, batched: bool, lengths: Lengths) -> Tensor:
    name, (steps, rows) = type(layer).__name__, x.shape[:2]
    if not batched:
        raise ValueError(f"{name}: lengths needs batched input; without a batch, pass the steps that count")
    if not isinstance(lengths, Tensor):
        if not isinstance(lengths, Sequence) or any(isinstance(n, bool) or not isinstance(n, int) for n in lengths):
            raise TypeError(f"{name}: lengths must be a tensor or a sequence of ints, got {lengths!r:.60}")
        lengths = torch.tensor(lengths, dtype=torch.int64, device="cpu")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(f"{name}: lengths must be integers, got {lengths.dtype}")
    if tuple(lengths.shape) != (rows,):
        raise RuntimeError(f"{name}: lengths must have shape ({rows},), got {tuple(lengths.shape)}")
    # Values are not there to look at while a program is traced.
    special = torch.compiler.is_compiling() or transforms_active()
    if not special and rows > 0 and not lengths.is_meta:
        low, high = (int(n) for n in torch.aminmax(lengths))
        if low < 0 or high > steps:
            raise ValueError(
                f"{name}: lengths must lie between 0 and {steps}, the steps of input, but reach {low}..{high}"
            )
    return (torch.arange(steps, device=x.device)[:, None] < lengths.to(x.device)[None])[..., None]


def _reset(layer: Layer, x: Tensor, batched: bool, reset: object) -> Tensor:
    name = type(layer).__name__
    if not isinstance(reset, Tensor):
        raise TypeError(f"{name}: reset must be a tensor, got {type(reset).__name__}")
    if reset.dtype != torch.bool:
        raise ValueError(f"{name}: reset must have the dtype torch.bool, got {reset.dtype}")
    return _time_first(layer, "reset", x, batched, reset, 1)


def _inputs(layer: Layer, x: Tensor, batched: bool, inputs: Mapping[str, object]) -> dict[str, Tensor]:
    name, cell = type(layer).__name__, layer.cell
    declared = dict(cell.inputs)
    if inputs.keys() != declared.keys():
        raise TypeError(
            f"{name}: cell {cell.name} takes the keyword inputs {', '.join(declared) or '(none)'}, "
            f"got {', '.join(inputs) or '(none)'}"
        )
    columns = {"input": layer.input_size, "hidden": layer.hidden_size}
    checked = {}
    for key, width in declared.items():
        value = inputs[key]
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: keyword input {key} must be a tensor, got {type(value).__name__}")
        value = layer._rounded(layer._out_of_autocast(value))
        check_like(f"{name}: keyword input {key}", value, x.dtype, x.device, "the input")
        checked[key] = _time_first(
            layer, f"keyword input {key}", x, batched, value, columns.get(str(width)) or int(width)
        )
    return checked


def _time_first(layer: Layer, what: str, x: Tensor, batched: bool, value: Tensor, width: int) -> Tensor:
    """(T, B, width) from the layout of the layer's input; a last dimension of 1 may be missing."""
    steps, rows = x.shape[:2]
    lead = ((rows, steps) if layer.batch_first else (steps, rows)) if batched else (steps,)
    if width == 1 and tuple(value.shape) == lead:
        value = value.unsqueeze(-1)
    if tuple(value.shape) != (*lead, width):
        short = f"{lead} or " if width == 1 else ""
        raise RuntimeError(
            f"{type(layer).__name__}: {what} must have shape {short}{(*lead, width)}, got {tuple(value.shape)}"
        )
    if not batched:
        return value.unsqueeze(1)
    return value.transpose(0, 1) if layer.batch_first else value
