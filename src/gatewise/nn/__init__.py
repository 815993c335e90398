"""Layers: any cell, and drop-in replacements for torch.nn's GRU, LSTM and RNN."""

from gatewise.nn.recurrent import GRU, LSTM, RNN, Recurrent

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]
