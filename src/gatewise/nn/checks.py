"""What a layer refuses, in one sentence each, before anything is computed. Error types are torch.nn's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gatewise.compiler.cell import Cell

if TYPE_CHECKING:
    from gatewise.nn.recurrent import Recurrent


def check_constructor(
    name: str, cell: object, input_size: object, hidden_size: object, num_layers: object, dropout: object
) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(
            f"{name}: cell must be a gatewise cell (see gatewise.cells and @gatewise.cell), but came {type(cell).__name__}"
        )
    sizes: dict[str, Any] = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    for argument, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name}: {argument} must be an int, but came {type(value).__name__}")
        if value < (0 if argument == "input_size" else 1):
            raise ValueError(f"{name}: {argument} must be greater than zero, but came {value}")
    good = isinstance(dropout, (int, float)) and not isinstance(dropout, bool) and 0 <= dropout <= 1
    if not good:
        raise ValueError(f"{name}: dropout must be a probability between 0 and 1, but came {dropout!r}")


def check_input(layer: Recurrent, x: object) -> None:
    name = type(layer).__name__
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: input must be a tensor, but came {type(x).__name__}")
    if x.dim() not in (2, 3):
        raise ValueError(f"{name}: input must have 2 (unbatched) or 3 dimensions, but came {x.dim()}")
    if x.shape[-1] != layer.input_size:
        raise RuntimeError(
            f"{name}: the last dimension of input must be input_size {layer.input_size}, but came {x.shape[-1]}"
        )
    weight = next(layer.parameters(), x)
    _check_like(f"{name}: input", x, weight.dtype, weight.device, "the weights")


def whole_states(cell: Cell, hx: object) -> list[Tensor]:
    """The states as a list, however they were given."""
    states = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    if len(states) != len(cell.states) or not all(isinstance(s, Tensor) for s in states):
        form = "a tensor" if len(cell.states) == 1 else f"a tuple of tensors ({', '.join(cell.states)})"
        got = ", ".join(type(s).__name__ for s in states)
        raise RuntimeError(f"hx of cell {cell.name} must be {form}, but came ({got})")
    return states  # type: ignore[return-value]


def check_states(states: list[Tensor], x: Tensor, shape: tuple[int, int, int], batched: bool) -> None:
    expected = shape if batched else (shape[0], shape[2])
    for state in states:
        if state.dim() != len(expected):
            raise RuntimeError(
                f"hx must have {len(expected)} dimensions for {'batched' if batched else 'unbatched'} input, "
                f"but came {state.dim()}"
            )
        if tuple(state.shape) != expected:
            raise RuntimeError(f"hx must have shape {expected}, but came {tuple(state.shape)}")
        _check_like("hx", state, x.dtype, x.device, "the input")


def _check_like(what: str, tensor: Tensor, dtype: torch.dtype, device: torch.device, other: str) -> None:
    if tensor.dtype != dtype:
        raise RuntimeError(f"{what} must have the dtype of {other}, {dtype}, but came {tensor.dtype}")
    if tensor.device != device:
        raise RuntimeError(f"{what} must be on the device of {other}, {device}, but came {tensor.device}")
