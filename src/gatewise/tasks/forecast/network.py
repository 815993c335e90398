"""The direct multi-horizon network: a recurrent encoder whose every step forecasts the whole horizon."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gatewise.compiler import Cell
from gatewise.nn import Recurrent, gaps
from gatewise.tasks.forecast.windows import FEATURES


class ForecastNetwork(nn.Module):
    """A stack of recurrent layers and a linear head from the state at a step to all steps of the horizon.

    The state at step t has seen the observations up to t and no later one; the head says the next ``horizon`` values
    from there. The head starts at zero, which is the forecast of the last value.
    """

    def __init__(
        self, cell: Cell, hidden_size: int, num_layers: int, dropout: float, horizon: int, initialise: str = "torch"
    ) -> None:
        super().__init__()
        self.encoder = Recurrent(
            cell, FEATURES, hidden_size, num_layers, batch_first=True, dropout=dropout, initialise=initialise
        )
        self.head = nn.Linear(hidden_size, horizon)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, T, FEATURES) to (B, T, horizon)."""
        output: Tensor = self.head(self._encoded(x))
        return output

    def _encoded(self, x: Tensor) -> Any:
        """The states at all steps. A cell for series with gaps, such as ``gru_d``, is told where they are; its input is
        not the last observation carried on."""
        if not self.encoder.cell.inputs:
            return self.encoder(x)[0]
        known = gaps(torch.where(x[..., :1] > 0, x, torch.nan), batch_first=True)
        return self.encoder(known.x, **{name: known.inputs[name] for name, *_ in self.encoder.cell.inputs})[0]
