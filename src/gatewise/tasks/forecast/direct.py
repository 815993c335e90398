"""The direct strategy's network: segments of a window into a recurrent encoder, all of the horizon decoded at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gatewise.compiler import Cell
from gatewise.nn import Recurrent, gaps
from gatewise.tasks.forecast.beside import Widths
from gatewise.tasks.forecast.inputs import Beside, Told
from gatewise.tasks.forecast.scaling import CHANNELS
from gatewise.tasks.objective import mapped


class DirectNetwork(nn.Module):
    """After SegRNN (Lin et al. 2023, arXiv 2308.11200): segments in, parallel multi-step forecasting out.

    A window of S·segment values is read as S steps of a recurrent layer. From its final state each segment of the
    horizon takes one step of the same layer, all side by side; what such a step reads is an embedding of its place and
    of the series. So every step of the horizon sees the whole window, over few steps of the layer.

    A cell for series with gaps, such as ``gru_d``, reads a segment as variables of their own, and where they are
    missing; any other cell reads a projection of values and of which of them were observed. Covariates are read as
    ``inputs.py`` says.

    Args:
        segment: values in a step. horizon: steps to forecast. outputs: numbers for each of them.
        series: how many series have an embedding; 0 for none. beside: columns of the covariates, if there are any.
        targets: variables that are read and forecast together, each with its own channels and outputs.
    """

    def __init__(
        self,
        cell: Cell,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        segment: int,
        horizon: int,
        outputs: int = 1,
        series: int = 0,
        initialise: str = "torch",
        beside: Widths | None = None,
        targets: int = 1,
    ) -> None:
        super().__init__()
        outputs *= targets
        self.segment, self.horizon, self.outputs = segment, horizon, outputs
        self.ahead = -(-horizon // segment)
        self.gappy = bool(cell.inputs)
        width = segment * targets if self.gappy else hidden_size
        if self.gappy and beside is not None:
            width += Beside.gappy_width(beside, segment)
        self.project = None if self.gappy else nn.Linear(CHANNELS * targets * segment, width)
        between = dropout if num_layers > 1 else 0.0
        self.encoder = Recurrent(
            cell, width, hidden_size, num_layers, batch_first=True, dropout=between, initialise=initialise
        )
        self.place = nn.Parameter(torch.randn(self.ahead, width))
        known = torch.randn(series + 1, width)
        known[0] = 0.0  # a new series is amid those that were trained on
        self.series = nn.Parameter(known) if series else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, segment * outputs)
        self.beside = None if beside is None else Beside(beside, segment, width, outputs, self.gappy)

    def forward(self, x: Tensor, series: Tensor, told: Told | None = None) -> Tensor:
        """From scaled windows (B, S·segment, targets · CHANNELS), the number of the series of each (B,), 0 for a new
        one, and their covariates to (B, horizon, targets · outputs) in units of the scale of each target."""
        said = self._decoded(self._encoded(x, told)[1], series, told)
        return said if self.beside is None or told is None else self.beside.effect(said, told)

    def _encoded(self, x: Tensor, told: Told | None = None) -> Any:
        more = None if self.beside is None or told is None else self.beside.segments(told)
        if self.project is not None:
            read = self.project(x.reshape(x.shape[0], -1, self.project.in_features))
            if self.beside is not None and self.beside.project is not None:
                read = read + self.beside.project(more)
            return self.encoder(torch.relu(read))
        each = x.unflatten(-1, (-1, CHANNELS))
        values, mask = (each[..., i].unflatten(1, (-1, self.segment)).flatten(2) for i in (0, -1))
        values = torch.where(mask > 0, values, torch.nan)
        found = gaps(values if more is None else torch.cat([values, more], -1), batch_first=True)
        return self.encoder(found.x, **self._named(found.inputs))

    def _decoded(self, state: Any, series: Tensor, told: Told | None = None) -> Tensor:
        rows, words = series.shape[0], self.place.unsqueeze(0)  # len() would be a constant of an exported program
        if self.series is not None:
            words = words + self.series[series].unsqueeze(1)
        if self.beside is not None and told is not None:
            words = self.beside.ahead(words, told)
        words = words.expand(rows, -1, -1).flatten(0, 1).unsqueeze(1)  # one step for each segment ahead
        named = {"mask": torch.ones_like(words), "gap": torch.ones_like(words), "last": torch.zeros_like(words)}
        start = mapped(lambda s: s.repeat_interleave(self.ahead, dim=1), state)
        y, _ = self.encoder(words, start, **self._named(named))
        said = self.head(self.dropout(y[:, -1])).view(rows, self.ahead * self.segment, self.outputs)
        return torch.narrow(said, 1, 0, self.horizon)

    def _named(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: inputs[name] for name, *_ in self.encoder.cell.inputs}


class Members(nn.Module):
    """Direct networks side by side whose mean is the forecast, and how wide their intervals are to be.

    In training each of them has windows of its own: they differ in these and in how they start.

    Args:
        members: how many. levels: how many intervals, which of several targets have widths of their own.
        how: as for ``DirectNetwork``, without ``outputs``.
    """

    widths: Tensor

    def __init__(self, members: int, levels: int, **how: Any) -> None:
        super().__init__()
        self.members = nn.ModuleList(DirectNetwork(outputs=1 + 2 * levels, **how) for _ in range(members))
        targets = how.get("targets", 1)
        self.register_buffer("widths", torch.ones(levels if targets == 1 else (targets, levels)))

    def forward(self, x: Tensor, series: Tensor, told: Told | None = None) -> Tensor:
        """From windows (B, W, CHANNELS), numbers of series (B,) and covariates to the mean (B, horizon, outputs); with
        windows (B, members, W, CHANNELS), numbers (B, members) and such covariates, for each member its own, to
        (B, members, horizon, outputs)."""
        if x.dim() == 4:
            parts = [None if told is None else Told(*(t[:, k] for t in told)) for k in range(len(self.members))]
            each = zip(self.members, parts, strict=True)
            return torch.stack([net(x[:, k], series[:, k], part) for k, (net, part) in enumerate(each)], 1)
        if len(self.members) == 1:
            one: Tensor = self.members[0](x, series, told)
            return one
        return torch.stack([net(x, series, told) for net in self.members]).mean(0)
