"""What a layer refuses, in one sentence each, before anything is computed. Error types are torch.nn's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Number, Real
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gatewise.compiler.cell import Cell
from gatewise.nn.base import CellModule


def check_constructor(
    name: str,
    cell: object,
    sizes: Mapping[str, Any],
    switches: Mapping[str, object],
    dropout: object,
    redundant_bias: bool,
) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(
            f"{name}: cell must be a gatewise cell (see gatewise.cells and @gatewise.cell), got {type(cell).__name__}"
        )
    if redundant_bias and not set(cell.rows("bias_hh")) <= set(cell.rows("weight_hh")):
        raise ValueError(
            f"{name}: redundant_bias must be False for cell {cell.name}, whose bias_hh has gates without weight_hh"
        )
    for argument, value in sizes.items():
        kind = Integral if argument == "num_layers" else int  # torch takes NumPy's integers there and nowhere else
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name}: {argument} must be an int, got {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name}: {argument} must be greater than zero, got {value}")
    for argument, switch in switches.items():
        if not isinstance(switch, bool):
            raise TypeError(f"{name}: {argument} must be a bool, got {type(switch).__name__}")
    if not isinstance(dropout, (Number, str, Tensor)):
        raise TypeError(f"{name}: dropout must be a number, got {type(dropout).__name__}")
    good = isinstance(dropout, Real) and not isinstance(dropout, bool) and 0.0 <= float(dropout) <= 1.0
    if not good:
        raise ValueError(f"{name}: dropout must be a probability between 0 and 1, got {dropout!r}")


def check_keyword_inputs(name: str, cell: Cell, num_layers: int) -> None:
    for key, width in cell.inputs:
        if key in ("input", "hx", "lengths", "reset", "out"):
            raise ValueError(
                f"{name}: cell {cell.name} names a keyword input {key}, which is an argument of every layer or stream"
            )
        if width == "input" and num_layers > 1:
            raise ValueError(
                f"{name}: num_layers must be 1 for cell {cell.name}, whose keyword input {key} is as wide as x, "
                f"got {num_layers}"
            )


def check_beside_packed(
    layer: CellModule, packed: PackedSequence, lengths: object, along: Mapping[str, object]
) -> None:
    """What comes with a PackedSequence must have been packed as it was."""
    name = type(layer).__name__
    if lengths is not None:
        raise TypeError(f"{name}: lengths must be None for a PackedSequence, which knows its own")
    for what, given in along.items():
        if not isinstance(given, PackedSequence):
            raise TypeError(f"{name}: {what} must be a PackedSequence, as the input is, got {type(given).__name__}")
        same = all(
            a is b or (a is not None and b is not None and torch.equal(a, b))
            for a, b in zip(given[1:], packed[1:], strict=True)
        )
        if not same:
            raise ValueError(
                f"{name}: {what} must be packed as the input is, but its sequences differ in number, length or order"
            )


def check_projection(proj_size: object, hidden_size: object) -> None:
    if not isinstance(proj_size, Integral) or isinstance(proj_size, bool):
        raise TypeError(f"LSTM: proj_size must be an int, got {type(proj_size).__name__}")
    size = int(proj_size)
    if size < 0 or (isinstance(hidden_size, int) and 0 < hidden_size <= size):
        raise ValueError(f"LSTM: proj_size must be at least 0 and below hidden_size {hidden_size}, got {proj_size}")


def check_no_projection(name: str, proj_size: object) -> None:
    if proj_size is not None:
        raise ValueError(f"{name}: proj_size projects the state of an LSTM, got {proj_size!r}")


def check_nonlinearity(nonlinearity: object) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")


def check_input(layer: CellModule, x: object) -> None:
    name = type(layer).__name__
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: input must be a tensor or a PackedSequence, got {type(x).__name__}")
    if x.dim() not in (2, 3):
        raise ValueError(f"{name}: input must have 2 (unbatched) or 3 dimensions, got {x.dim()}")
    check_width(layer, x)


def check_packed(layer: CellModule, data: Tensor) -> None:
    if data.dim() != 2:
        raise RuntimeError(
            f"{type(layer).__name__}: the data of a PackedSequence must have 2 dimensions, got {data.dim()}"
        )
    check_width(layer, data)


def check_width(layer: CellModule, x: Tensor) -> None:
    name, weight = type(layer).__name__, layer._a_weight(x)
    check_like(f"{name}: input", x, weight.dtype, weight.device, "the weights")
    if x.shape[-1] != layer.input_size:
        raise RuntimeError(
            f"{name}: the last dimension of input must be input_size {layer.input_size}, got {x.shape[-1]}"
        )


def whole_states(cell: Cell, hx: object) -> list[Tensor]:
    """The states as a list, however they were given."""
    given = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    states = [s for s in given if isinstance(s, Tensor)]
    if not len(given) == len(states) == len(cell.states):
        form = "a tensor" if len(cell.states) == 1 else f"a tuple of {len(cell.states)} tensors"
        got = ", ".join(type(s).__name__ for s in given)
        raise TypeError(f"hx of cell {cell.name} must be {form} ({', '.join(cell.states)}), got ({got})")
    return states


def check_states(
    names: Sequence[str], states: list[Tensor], x: Tensor, shapes: list[tuple[int, ...]], batched: bool
) -> None:
    """A wrong dtype is a RuntimeError here, as in torch, and a ValueError where the input has it."""
    for name, state, shape in zip(names, states, shapes, strict=True):
        what = "hx" if len(names) == 1 else f"state {name} of hx"
        if state.dim() != len(shape):
            raise RuntimeError(
                f"{what} must have {len(shape)} dimensions for {'batched' if batched else 'unbatched'} input, "
                f"got {state.dim()}"
            )
        if tuple(state.shape) != shape:
            raise RuntimeError(f"{what} must have shape {shape}, got {tuple(state.shape)}")
        check_like(what, state, x.dtype, x.device, "the input", RuntimeError)


def check_like(
    what: str,
    tensor: Tensor,
    dtype: torch.dtype,
    device: torch.device,
    other: str,
    error: type[Exception] = ValueError,
) -> None:
    if tensor.dtype != dtype:
        raise error(f"{what} must have the dtype of {other}, {dtype}, got {tensor.dtype}")
    if tensor.device != device:
        raise RuntimeError(f"{what} must be on the device of {other}, {device}, got {tensor.device}")
