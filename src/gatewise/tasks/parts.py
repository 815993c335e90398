"""A fitted model as functions that other programs can run: what a task says of its steps, whoever writes them down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[str, Arrays], dict[str, NDArray[Any]]]
"""Runs a part, by its name, where it was written to: outputs from inputs, by name."""
Pair = tuple[str, NDArray[Any], NDArray[Any]]
"""What is compared, what the task itself says, and what the parts say."""


@dataclass(frozen=True)
class Port:
    """An input or output of a part.

    shape: sizes, and names for those that are free: the same name is the same size. about: what it is, in words.
    """

    name: str
    shape: tuple[int | str, ...]
    about: str


@dataclass(frozen=True)
class Part:
    """One function of a model.

    module: in evaluation mode; its forward takes tensors in the order of ``inputs`` and gives a tuple of tensors in
    that of ``outputs``. examples: arguments, with other free sizes each; those of the first are all different and at
    least 2. state: outputs by name that are the input of that name in the next call.
    """

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    examples: tuple[tuple[Tensor, ...], ...]
    state: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """All functions of a model, and what is needed to use them.

    about: as JSON takes it: vocabulary, first tokens, units. played: applies the model as the task does, by the parts
    in place of its own network, and gives both results; where results are scaled back, as they were before.
    """

    parts: tuple[Part, ...]
    about: Mapping[str, Any]
    played: Callable[[Run], Iterator[Pair]]


def states(names: tuple[str, ...], shape: tuple[int | str, ...], prefix: str = "") -> tuple[list[Port], list[Port]]:
    """The states of recurrent layers as inputs and as outputs, which are the inputs of the next call."""
    before = [Port(f"{prefix}{name}_0", shape, f"state {name} before; zeros at the beginning") for name in names]
    behind = [Port(f"{prefix}{name}_n", shape, f"state {name} behind") for name in names]
    return before, behind


def carried(before: list[Port], behind: list[Port]) -> dict[str, str]:
    """``Part.state`` of these."""
    return {new.name: old.name for new, old in zip(behind, before, strict=True)}
