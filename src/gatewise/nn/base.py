"""What layers and single steps share."""

from __future__ import annotations

from typing import Any, NoReturn
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from gatewise.backends import choose
from gatewise.backends.autocast import autocast_dtype
from gatewise.backends.base import Choice
from gatewise.compiler.cell import Cell, is_matrix
from gatewise.compiler.text import parse
from gatewise.nn.narrow import PACKINGS, NarrowWeights


def rounding(like: Tensor) -> torch.dtype | None:
    """What a module with weights as these rounds weights, input and results to, while it computes in float32: bfloat16
    where they are in it, the dtype of torch.autocast where they are in float32; None where nothing is rounded."""
    if like.dtype == torch.bfloat16:
        return torch.bfloat16
    return autocast_dtype(like.device) if like.dtype == torch.float32 else None


_cells: WeakValueDictionary[tuple[str, str], Cell] = WeakValueDictionary()
"""Cells of modules that were copied or pickled, by text and source, so that a copy reads nothing."""


class CellModule(NarrowWeights):
    """A module that computes a cell."""

    input_size: int
    hidden_size: int

    def __getstate__(self) -> dict[str, Any]:
        """With the cell as its text, so that torch.load(weights_only=True) need be told of the module's class alone."""
        state = {name: value for name, value in self.__dict__.items() if name not in (*self._remade, PACKINGS)}
        state["cell"] = form = self.cell.text, self.cell.source
        _cells[form] = self.cell
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        form = state["cell"]  # a Cell where an earlier version saved it
        cell = form if isinstance(form, Cell) else _cells.get(form) or parse(*form)
        super().__setstate__({**state, "cell": cell})  # type: ignore[no-untyped-call]

    _remade: frozenset[str] = frozenset()
    """Attributes that follow from others, and are not saved."""

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch.jit.script asks of a module first."""
        raise RuntimeError(
            f"torch.jit.script cannot compile {type(self).__name__}; record the model with torch.jit.trace or "
            "torch.export, or load its weights into torch.nn's layer of the same formula and script that"
        )

    @property
    def backend(self) -> str:
        """What runs this module now, and why, e.g. ``cpu/avx512: compiled for this machine``."""
        parameter = self._a_weight(torch.empty(0))
        half = self.quantised or rounding(parameter)
        kind = torch.float32 if parameter.dtype == torch.bfloat16 else parameter.dtype
        choice = choose(parameter.device, kind, half, self.cell, self.hidden_size)
        return f"{choice}: {choice.reason}{said(half, self.quantised or parameter.dtype, choice)}"

    def _widened(self, value: Tensor) -> Tensor:
        """A module in bfloat16 computes in float32: with weights, input and states as they were rounded, and a state
        that is not rounded from step to step."""
        if value.dtype != torch.bfloat16 or self._a_weight(value).dtype != torch.bfloat16:
            return value
        return value.float()

    def _a_weight(self, default: Tensor) -> Tensor:
        """One of the parameters, for its dtype and device."""
        if not torch.compiler.is_compiling():  # parameters() takes longer than a small step
            for parameter in self._parameters.values():
                if parameter is not None:
                    return parameter
        found = next(self.parameters(), None)
        return found if found is not None else self._narrow_like(default)

    def _half(self, like: Tensor) -> torch.dtype | None:
        """What weights and input are rounded to."""
        return self.quantised or rounding(self._a_weight(like))

    def _rounded(self, value: Tensor) -> Tensor:
        """As the arithmetic takes input; a module in float32 under torch.autocast gives what one in bfloat16 gives."""
        if value.dtype != torch.float32:
            return self._widened(value)
        half = autocast_dtype(value.device)
        return value if half is None else value.to(half).float()

    def _all_rounded(self, weights: dict[str, Tensor], for_calls: bool = True) -> dict[str, Tensor]:
        """As the arithmetic takes weights; for calls, matrices stay as they are where kernels round them."""
        like = next(iter(weights.values()), None)
        half = None if like is None or self.quantised is not None else rounding(like)
        if like is None or half is None:
            return weights
        packed = for_calls and self._kernels_round(like.device, half)
        # A parametrisation may give one of them in another precision than its neighbours.
        left = {n for n, w in weights.items() if packed and is_matrix(n) and w.dtype == torch.float32}
        return {n: w if n in left else w.to(half).float() for n, w in weights.items()}

    def _kernels_round(self, device: torch.device, half: torch.dtype) -> bool:
        """Whether matrices in float32 are rounded where kernels read them, for products in bfloat16."""
        return choose(device, torch.float32, half, self.cell, self.hidden_size).matrix

    def _out_of_autocast(self, value: Tensor) -> Tensor:
        """Under torch.autocast earlier layers hand over another precision; this one takes its weights' dtype."""
        if autocast_dtype(value.device) is None:
            return value
        weight = self._a_weight(value)
        if value.dtype == weight.dtype or value.device != weight.device or not value.is_floating_point():
            return value
        return value.to(weight.dtype)


def narrowed(finals: list[Tensor], half: torch.dtype | None, hx: object) -> list[Tensor]:
    """Final states rounded, or in float32 where the initial ones came in float32: a module then goes on from chunk to
    chunk without rounding its state."""
    given = hx[0] if isinstance(hx, (tuple, list)) else hx
    if half is None or (isinstance(given, Tensor) and given.dtype == torch.float32):
        return finals
    return [f.to(half) for f in finals]


def said(half: torch.dtype | None, dtype: torch.dtype, choice: Choice) -> str:
    """How a module with weights of this dtype computes, after what runs it."""
    if half is None:
        return ""
    if half == torch.int8:
        return ", int8 products" if choice.matrix else ", int8 products as kernels round them, in torch operations"
    name = str(half).removeprefix("torch.")
    how = f"{name} products with float32 sums" if choice.matrix else f"{name} weights in float32 arithmetic"
    return f", {how}" + ("" if half == dtype else ", for torch.autocast")
