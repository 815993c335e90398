"""Models and layers with different numbers everywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import gatewise as gw


def filled(module: Any, seed: int = 0) -> Any:
    """The module with random parameters, biases among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return module


class Model(nn.Module):
    """Recurrent layers of every kind under prefixes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"rnn": nn.GRU(3, 4, 2, bidirectional=True)})
        self.projected = nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True)
        self.plain = nn.RNN(2, 3, bias=False)
        self.steps = nn.ModuleList([nn.GRUCell(3, 3), nn.LSTMCell(2, 3)])
        self.before = gw.GRU(3, 4, 2, learn_initial_state=True)
        self.peephole = gw.Recurrent(gw.cells.lstm_peephole, 3, 4, bidirectional=True)
        self.head = nn.Linear(4, 2)


LAYERS: dict[str, Any] = {
    "gru": lambda: gw.GRU(3, 4, 2, bidirectional=True),
    "gru_reset_after": lambda: gw.GRU(3, 4, 2, bidirectional=True, reset_after=True),
    "gru without biases": lambda: gw.GRU(3, 4, bias=False, reset_after=True),
    "gru_renew": lambda: gw.Recurrent(gw.cells.gru_renew, 3, 4),
    "lstm": lambda: gw.LSTM(3, 4, 2),
    "lstm in bfloat16": lambda: gw.LSTM(3, 4, dtype=torch.bfloat16),
    "lstm in float64": lambda: gw.LSTM(3, 4, bidirectional=True, dtype=torch.float64),
    "lstm proj_size": lambda: gw.LSTM(3, 4, proj_size=2),
    "lstm_peephole": lambda: gw.Recurrent(gw.cells.lstm_peephole, 3, 4, bidirectional=True),
    "lstm_coupled": lambda: gw.Recurrent(gw.cells.lstm_coupled, 3, 4, 2),
    "rnn": lambda: gw.RNN(3, 4),
    "rnn relu": lambda: gw.RNN(3, 4, nonlinearity="relu", bidirectional=True),
    "GRUCell": lambda: gw.GRUCell(3, 4, reset_after=True),
    "LSTMCell": lambda: gw.LSTMCell(3, 4),
    "mgu": lambda: gw.Recurrent(gw.cells.mgu, 3, 4),
}


def layer(name: str) -> Any:
    """One of ``LAYERS`` with random numbers."""
    return filled(LAYERS[name](), seed=len(name)).eval()
