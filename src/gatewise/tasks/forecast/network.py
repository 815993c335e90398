"""The direct multi-horizon network: a recurrent encoder whose every step forecasts the whole horizon."""

from __future__ import annotations

from torch import Tensor, nn

from gatewise.compiler import Cell
from gatewise.nn import Recurrent
from gatewise.tasks.forecast.windows import FEATURES


class ForecastNetwork(nn.Module):
    """A stack of recurrent layers and a linear head from the state at a step to all steps of the horizon.

    The state at step t has seen the observations up to t and no later one; the head says the next ``horizon`` values
    from there. The head starts at zero, which is the forecast of the last value.
    """

    def __init__(self, cell: Cell, hidden_size: int, num_layers: int, dropout: float, horizon: int) -> None:
        super().__init__()
        self.encoder = Recurrent(cell, FEATURES, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden_size, horizon)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, T, FEATURES) to (B, T, horizon)."""
        output: Tensor = self.head(self.encoder(x)[0])
        return output
