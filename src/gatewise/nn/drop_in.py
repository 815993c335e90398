"""torch.nn's GRU, LSTM and RNN by name."""

from __future__ import annotations

import torch

from gatewise import cells
from gatewise.nn.recurrent import Recurrent


class GRU(Recurrent):
    """Gated recurrent unit with the arguments of ``torch.nn.GRU``.

    ``reset_after=False`` is Cho et al. 2014 (arXiv 1406.1078v3), eq. 5-8: the reset gate acts on the state before the
    recurrent product. ``reset_after=True`` is torch's and cuDNN's formula, with their weights and results.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = False,
    ) -> None:
        cell = cells.gru_reset_after if reset_after else cells.gru
        self.reset_after = reset_after
        super().__init__(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            redundant_bias=reset_after,
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + (", reset_after=True" if self.reset_after else "")

    def _carries_formula(self) -> bool:
        return not self.reset_after


class LSTM(Recurrent):
    """Long short-term memory with the arguments, weights and results of ``torch.nn.LSTM``; the state is (h, c)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if proj_size != 0:
            raise ValueError(f"proj_size must be 0, but came {proj_size}; use torch.nn.LSTM for projections")
        super().__init__(
            cells.lstm,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            redundant_bias=True,
        )

    def _carries_formula(self) -> bool:
        return False


class RNN(Recurrent):
    """The plain recurrent network with the arguments, weights and results of ``torch.nn.RNN``."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', but came {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            cells.rnn if nonlinearity == "tanh" else cells.rnn_relu,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            redundant_bias=True,
        )

    def _carries_formula(self) -> bool:
        return False
