"""Layers: any cell, and drop-in replacements for torch.nn's layers and cells.

All other names are those of torch.nn, so that a script changes one line: ``import gatewise.nn as nn``.
"""

import typing

import torch

from gatewise.compiler.cell import Cell
from gatewise.compiler.text import parse
from gatewise.nn.drop_in import GRU, LSTM, RNN
from gatewise.nn.gaps import Gaps, gaps
from gatewise.nn.quantise import quantize
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
    "quantize",
    "replace",
]

# What torch.load(weights_only=True) may make: none of these does more than to read equations and to hold weights. With
# their names, since a script that lists a class in ``safe_globals`` takes the class out of the list at its end.
_MADE = (Cell, GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell, Recurrent, parse)  # parse: in files of before
torch.serialization.add_safe_globals([(kind, f"{kind.__module__}.{kind.__qualname__}") for kind in _MADE])

if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if not name.startswith("__") and hasattr(torch.nn, name):
            return getattr(torch.nn, name)
        raise AttributeError(f"neither gatewise.nn nor torch.nn has an attribute {name!r}")
