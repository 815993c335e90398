"""What layers and single steps share."""

from __future__ import annotations

import torch
from torch import Tensor

from gatewise.backends import choose
from gatewise.nn.formula import FormulaInStateDict


class CellModule(FormulaInStateDict):
    """A module that computes a cell."""

    @property
    def backend(self) -> str:
        """What runs this module now, and why, e.g. ``cpu/avx512: compiled for this machine``."""
        parameter = next(self.parameters(), torch.empty(0))
        half = parameter.dtype == torch.bfloat16
        choice = choose(parameter.device, torch.float32 if half else parameter.dtype)
        return f"{choice}: {choice.reason}" + (", bfloat16 weights in float32 arithmetic" if half else "")

    def _widened(self, value: Tensor) -> Tensor:
        """A module in bfloat16 computes in float32: with weights, input and states as they were rounded, and a state
        that is not rounded from step to step."""
        if value.dtype != torch.bfloat16 or next(self.parameters(), value).dtype != torch.bfloat16:
            return value
        return value.float()

    def _a_weight(self, default: Tensor) -> Tensor:
        """One of the parameters, for its dtype and device."""
        if not torch.compiler.is_compiling():  # parameters() takes longer than a small step
            for parameter in self._parameters.values():
                if parameter is not None:
                    return parameter
        return next(self.parameters(), default)

    def _out_of_autocast(self, value: Tensor) -> Tensor:
        """Under torch.autocast earlier layers hand over half precision; this one computes in its weights' dtype."""
        weight = self._a_weight(value)
        if value.dtype == weight.dtype or value.device != weight.device or not value.is_floating_point():
            return value
        return value.to(weight.dtype) if torch.is_autocast_enabled(value.device.type) else value


def narrowed(finals: list[Tensor], x: Tensor, hx: object) -> list[Tensor]:
    """Final states in the dtype of x, or in float32 where the initial ones came in float32: a module in bfloat16 then
    goes on from chunk to chunk without rounding its state."""
    given = hx[0] if isinstance(hx, (tuple, list)) else hx
    if x.dtype != torch.bfloat16 or (isinstance(given, Tensor) and given.dtype == torch.float32):
        return finals
    return [f.bfloat16() for f in finals]
