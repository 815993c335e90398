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
        choice = choose(parameter.device, parameter.dtype)
        return f"{choice}: {choice.reason}"

    def _out_of_autocast(self, value: Tensor) -> Tensor:
        """Under torch.autocast earlier layers hand over half precision; this one computes in its weights' dtype."""
        weight = next(self.parameters(), value)
        if value.dtype == weight.dtype or value.device != weight.device or not value.is_floating_point():
            return value
        return value.to(weight.dtype) if torch.is_autocast_enabled(value.device.type) else value
