"""Gatewise: write the equations of a gated recurrent network, get the kernel.

>>> import torch, gatewise as gw
>>> layer = gw.GRU(40, 256, num_layers=2, batch_first=True)
>>> y, h = layer(torch.randn(8, 100, 40))
"""

import importlib
import typing

from gatewise import cells
from gatewise.backends import backend
from gatewise.compiler import Cell, CellError, cell
from gatewise.compiler.functions import (
    diagonal,
    exp,
    hard_sigmoid,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    softplus,
    tanh,
    vector,
    where,
)
from gatewise.nn import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent, RNNCell, Stream, gaps, quantize, replace

if typing.TYPE_CHECKING:
    from gatewise import formats as formats
    from gatewise.tasks.forecast import Forecaster
    from gatewise.tasks.language import LanguageModel
    from gatewise.tasks.transcribe import Transcriber
    from gatewise.tasks.translate import Translator
else:
    _APPLICATIONS = {"Forecaster": "gatewise.tasks.forecast", "Translator": "gatewise.tasks.translate"}
    _APPLICATIONS["LanguageModel"] = "gatewise.tasks.language"
    _APPLICATIONS["Transcriber"] = "gatewise.tasks.transcribe"

    def __getattr__(name: str) -> object:
        """The applications, imported when they are first asked for: that takes half as long as all the rest."""
        if name == "formats":
            return importlib.import_module("gatewise.formats")
        if name not in _APPLICATIONS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_APPLICATIONS[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_APPLICATIONS, "formats"})


__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "CellError",
    "Forecaster",
    "GRUCell",
    "LSTMCell",
    "LanguageModel",
    "RNNCell",
    "Recurrent",
    "Stream",
    "Transcriber",
    "Translator",
    "backend",
    "cell",
    "cells",
    "diagonal",
    "exp",
    "formats",
    "gaps",
    "hard_sigmoid",
    "log",
    "maximum",
    "minimum",
    "quantize",
    "relu",
    "replace",
    "sigmoid",
    "softplus",
    "tanh",
    "vector",
    "where",
]
