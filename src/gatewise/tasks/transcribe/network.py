"""The network: strided windows of frames, stacked recurrent layers, and the probability of each letter at each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.compiler import Cell
from gatewise.nn import Recurrent
from gatewise.tasks.text.exact import Exact
from gatewise.tasks.transcribe.features import BANDS

Make = Callable[..., Any]
"""Makes the recurrent stack: (cell, input_size, hidden_size, num_layers), ``dropout`` and ``bidirectional``."""
Linear = Callable[[Tensor], Tensor]
TALL, APART = 8, 4
"""Bands that a kernel sees, and from one of its places to the next."""
PLACES = (BANDS - TALL) // APART + 1


class Kernels(nn.Module):
    """From windows to what the layers read: kernels that are the same at several places along the bands, so that a
    higher voice meets those that a lower one has trained (Abdel-Hamid et al. 2014, "Convolutional neural networks for
    speech recognition", section III), and a linear map of what they find.

    Args:
        window: frames. kernels: at each place. hidden_size: what comes out.
    """

    def __init__(self, window: int, kernels: int, hidden_size: int) -> None:
        super().__init__()
        self.window = window
        self.kernels = nn.Linear(window * TALL, kernels)
        self.found = nn.Linear(PLACES * kernels, hidden_size)
        nn.init.kaiming_normal_(self.kernels.weight, nonlinearity="relu")  # what goes in comes out as large
        nn.init.kaiming_normal_(self.found.weight, nonlinearity="linear")
        for linear in (self.kernels, self.found):
            nn.init.zeros_(linear.bias)

    def forward(self, windows: Tensor) -> Tensor:
        """(…, hidden_size) from (…, window · bands)."""
        return self.through(self.kernels, self.found, windows)

    def through(self, kernels: Linear, found: Linear, windows: Tensor) -> Tensor:
        """By these linear maps."""
        places = windows.unflatten(-1, (self.window, BANDS)).unfold(-1, TALL, APART)
        return found(F.relu(kernels(places.transpose(-3, -2).flatten(-2))).flatten(-2))


class SpeechNetwork(nn.Module):
    """From frames to the log-probabilities of tokens.

    Every ``stride`` frames a linear map, or one behind ``kernels``, reads a window of ``window`` frames: with equal
    numbers that is stacking frames, with a larger window a strided convolution. Behind a stack that runs forward
    alone, each step also sees ``lookahead`` later ones through a row convolution (Amodei et al. 2016, "Deep Speech 2",
    section 3.6).

    Args:
        cell: of all layers. tokens: with the blank. hidden_size: units of one direction. num_layers: in the stack.
        stride, window: see above, in frames. bidirectional: whether there is a way back. lookahead: steps.
        dropout: of the windows' map, between layers and before the prediction. kernels: see ``Kernels``; 0 for none.
        make: makes the recurrent stack; here for comparison with others.
    """

    def __init__(
        self,
        cell: Cell,
        tokens: int,
        hidden_size: int,
        num_layers: int,
        *,
        stride: int,
        window: int,
        bidirectional: bool,
        lookahead: int,
        dropout: float,
        kernels: int = 0,
        make: Make = Recurrent,
    ) -> None:
        super().__init__()
        self.stride, self.window, self.dropout = stride, window, dropout
        self.front = Kernels(window, kernels, hidden_size) if kernels else nn.Linear(window * BANDS, hidden_size)
        between = dropout if num_layers > 1 else 0.0
        self.layers = make(cell, hidden_size, hidden_size, num_layers, dropout=between, bidirectional=bidirectional)
        self.ahead: nn.Parameter | None = None
        if lookahead and not bidirectional:
            self.ahead = nn.Parameter(torch.zeros(lookahead + 1, hidden_size))
            with torch.no_grad():
                self.ahead[0] = 1.0  # at first it changes nothing
        self.head = nn.Linear(hidden_size * (1 + bidirectional), tokens)

    @property
    def lookahead(self) -> int:
        return 0 if self.ahead is None else len(self.ahead) - 1

    @property
    def before(self) -> int:
        """Frames of a window that lie before those of its step; what is left of it lies behind them."""
        return (self.window - self.stride) // 2

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(S, B, tokens) log-probabilities in float32 from (B, T, bands) frames, zero past their ``lengths``, (B,)."""
        x = F.dropout(self.front(self.windows(frames)), self.dropout, self.training)
        y, _ = self.layers(x, lengths=self.steps(lengths))
        y = F.dropout(self.looked_ahead(y), self.dropout, self.training)
        logits: Tensor = self.head(y)
        return logits.float().log_softmax(-1)

    def steps(self, lengths: Tensor) -> Tensor:
        """How many steps so many frames are."""
        return -(-lengths // self.stride)

    def windows(self, frames: Tensor) -> Tensor:
        """(S, B, window · bands): what each step reads; beyond both ends there are zeros."""
        count = -(-frames.shape[1] // self.stride)
        behind = (count - 1) * self.stride + self.window - self.before - frames.shape[1]
        padded = F.pad(frames, (0, 0, self.before, max(0, behind)))
        return padded.unfold(1, self.window, self.stride)[:, :count].permute(1, 0, 3, 2).flatten(2)

    def looked_ahead(self, y: Tensor) -> Tensor:
        """The row convolution over (S, B, hidden_size); what lies past the end is zero."""
        if self.ahead is None:
            return y
        padded = F.pad(y, (0, 0, 0, 0, 0, self.lookahead))
        return ahead(padded, self.ahead)


def ahead(y: Tensor, weights: Tensor) -> Tensor:
    """(S, …) from (S + lookahead, …) outputs: the weighted sum of each step and those behind it, one after another."""
    steps = len(y) - len(weights) + 1
    total = y[:steps] * weights[0]
    for k in range(1, len(weights)):
        total = total + y[k : k + steps] * weights[k]
    return total


def linear_maps(network: SpeechNetwork) -> tuple[Linear, Linear]:
    """The maps before and behind the stack, without gradients; on a processor a row's result depends on no other."""
    front, head = network.front, network.head
    if head.weight.device.type != "cpu":
        return front, head
    if isinstance(front, nn.Linear):
        return _exact(front), _exact(head)
    return partial(front.through, _exact(front.kernels), _exact(front.found)), _exact(head)


def _exact(linear: nn.Linear) -> Exact:
    return Exact(linear.weight, linear.bias)


def emissions(network: SpeechNetwork, frames: Tensor, lengths: Tensor) -> Tensor:
    """As the network in evaluation mode, (S, B, tokens); each row has the bits that it would have alone."""
    front, head = linear_maps(network)
    with torch.no_grad():
        y, _ = network.layers(front(network.windows(frames)), lengths=network.steps(lengths))
        return head(network.looked_ahead(y)).log_softmax(-1)
