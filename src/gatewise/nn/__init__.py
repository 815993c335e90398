"""Layers: any cell, and drop-in replacements for torch.nn's layers and cells."""

from gatewise.nn.drop_in import GRU, LSTM, RNN
from gatewise.nn.gaps import Gaps, gaps
from gatewise.nn.recurrent import Recurrent
from gatewise.nn.replace import Replaced, Report, replace
from gatewise.nn.single_step import GRUCell, LSTMCell, RNNCell
from gatewise.nn.stream import Stream

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "Gaps",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "Replaced",
    "Report",
    "Stream",
    "gaps",
    "replace",
]
