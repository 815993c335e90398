"""Layers: any cell, and drop-in replacements for torch.nn's GRU, LSTM and RNN."""

from gatewise.nn.drop_in import GRU, LSTM, RNN
from gatewise.nn.recurrent import Recurrent

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]
