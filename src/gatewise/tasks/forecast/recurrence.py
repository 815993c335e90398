"""The recursive strategy's network: at each step of a series it says how the next value is distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.compiler import Cell
from gatewise.nn import Recurrent
from gatewise.tasks.forecast.beside import Part
from gatewise.tasks.forecast.inputs import Channels

EMBEDDED = 8
"""Numbers for each series that has an embedding."""


class RecursiveNetwork(nn.Module):
    """After DeepAR (Salinas et al. 2017, arXiv 1704.04110): a recurrent layer reads earlier values, a linear head turns
    its state into the parameters of a distribution.

    Beside the state the head sees the earlier values themselves and what is known of the step, so that a linear
    autoregression is one network of the kind. It is also where training starts: at the earlier values times ``first``.

    Args:
        channels: numbers of values that are read at a step, the earlier values first. told: what is read behind them.
            start: of each parameter of the distribution. first: of each earlier value.
            series: how many have an embedding; 0 for none.
    """

    def __init__(
        self,
        cell: Cell,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        channels: int,
        told: Part,
        start: Sequence[float],
        first: Sequence[float],
        series: int = 0,
        initialise: str = "torch",
    ) -> None:
        super().__init__()
        self.lags, self.channels, self.told = len(first), channels, Channels(told)
        self.series = nn.Parameter(torch.zeros(series + 1, EMBEDDED)) if series else None
        between = dropout if num_layers > 1 else 0.0
        width = channels + self.told.width + (EMBEDDED if series else 0)
        self.encoder = Recurrent(
            cell, width, hidden_size, num_layers, batch_first=True, dropout=between, initialise=initialise
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size + self.lags + self.told.width, len(start))
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[0, hidden_size : hidden_size + self.lags] = torch.tensor(first)
            self.head.bias.copy_(torch.tensor(start))

    def forward(self, x: Tensor, series: Tensor) -> Tensor:
        """From what is read (B, T, channels and told), and the number of the series of each row (B,), 0 for a new one,
        to parameters (B, T, len(start)) of the next value."""
        y, _ = self.encoder(self.inputs(x, series))
        said: Tensor = self.head(torch.cat([self.dropout(y), self.beside(x)], -1))
        return said

    def beside(self, x: Tensor) -> Tensor:
        """What the head sees beside the state: the earlier values, and what is known of the step."""
        told = x[..., self.channels :]
        return torch.cat([x[..., : self.lags], self.told(told) if self.told.words else told], -1)

    def inputs(self, x: Tensor, series: Tensor) -> Tensor:
        """What the layer reads: x with embeddings in the place of codes, and the embedding of the series (…)."""
        if self.told.words:
            x = torch.cat([x[..., : self.channels], self.told(x[..., self.channels :])], -1)
        if self.series is None:
            return x
        words = self.series[series]
        return torch.cat([x, words if x.dim() == 2 else words.unsqueeze(1).expand(-1, x.shape[1], -1)], -1)


class RecursiveMembers(nn.Module):
    """Recursive networks side by side, each of which draws its share of the paths, and how wide their intervals are.

    Args:
        members: how many. levels: how many intervals. how: as for ``RecursiveNetwork``.
    """

    widths: Tensor

    def __init__(self, members: int, levels: int, **how: Any) -> None:
        super().__init__()
        self.members = nn.ModuleList(RecursiveNetwork(**how) for _ in range(members))
        self.register_buffer("widths", torch.ones(levels))

    def forward(self, x: Tensor, series: Tensor) -> Tensor:
        """For each member its own windows: from (B, members, T, channels) and (B, members) to (B, members, T, …)."""
        return torch.stack([net(x[:, k], series[:, k]) for k, net in enumerate(self.members)], 1)
