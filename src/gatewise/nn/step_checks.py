"""What a single step refuses, in one sentence each. Error types are those of torch.nn's cells, where a wrong dtype and
a negative size are RuntimeErrors."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from gatewise.nn.single_step import SingleStep


def check_step_sizes(name: str, sizes: Mapping[str, object]) -> None:
    for argument, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"{name}: {argument} must be an int, but came {type(value).__name__}")
        if int(value) < 0:
            raise RuntimeError(f"{name}: {argument} must be zero or greater, but came {value}")


def check_step(layer: SingleStep, x: object) -> None:
    name = type(layer).__name__
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: input must be a tensor, but came {type(x).__name__}")
    if x.dim() not in (1, 2):
        raise ValueError(f"{name}: input must have 1 (unbatched) or 2 dimensions, but came {x.dim()}")
    if x.shape[-1] != layer.input_size:
        raise RuntimeError(
            f"{name}: the last dimension of input must be input_size {layer.input_size}, but came {x.shape[-1]}"
        )
    check_like(f"{name}: input", x, next(layer.parameters(), x), "the weights")


def check_step_states(layer: SingleStep, states: list[Tensor], x: Tensor) -> None:
    names = layer.cell.states
    shape = (*x.shape[:-1], layer.hidden_size)
    for name, state in zip(names, states, strict=True):
        what = f"{type(layer).__name__}: " + ("hx" if len(names) == 1 else f"state {name} of hx")
        if state.dim() not in (1, 2):
            raise ValueError(f"{what} must have 1 (unbatched) or 2 dimensions, but came {state.dim()}")
        if tuple(state.shape) != shape:
            raise RuntimeError(f"{what} must have shape {shape}, but came {tuple(state.shape)}")
        check_like(what, state, x, "the input")


def check_like(what: str, tensor: Tensor, other: Tensor, name: str) -> None:
    for attribute, wanted, came in (
        ("dtype", other.dtype, tensor.dtype),
        ("device", other.device, tensor.device),
    ):
        if came != wanted:
            raise RuntimeError(f"{what} must have the {attribute} of {name}, {wanted}, but came {came}")
