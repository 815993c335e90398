"""The prediction of the next token: one softmax over all, or an adaptive one that looks at frequent tokens first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.tasks.errors import InputError
from gatewise.tasks.translate.exact import Exact
from gatewise.tasks.translate.loss import smoothed_cross_entropy

WHOLE = 1 << 20
"""Logits, rows times tokens, up to which all are kept: 4 MB."""
Step = Callable[[Tensor], Tensor]
"""From (rows, hidden_size) to log-probabilities up to a constant for each row, which no other row changes."""


class Head(nn.Module):
    """From the last layer's output to the next token."""

    @abstractmethod
    def loss(self, x: Tensor, wanted: Tensor) -> Tensor:
        """The mean negative log-probability of (rows,) tokens, in nats, from (rows, hidden_size)."""

    @abstractmethod
    def log_probabilities(self, x: Tensor) -> Tensor:
        """Of all tokens, (rows, vocabulary), from (rows, hidden_size)."""

    @abstractmethod
    def scores(self, rows: int) -> Step:
        """As ``log_probabilities`` of one step, without a gradient, made for so many rows."""


class Full(Head):
    """A softmax over all tokens; ``shared`` is an embedding whose weights it uses."""

    def __init__(self, hidden_size: int, vocabulary: int, shared: nn.Parameter | None) -> None:
        super().__init__()
        width = hidden_size if shared is None else shared.shape[1]
        self.project = nn.Linear(hidden_size, width) if width != hidden_size else None
        self.weight = nn.Parameter(torch.empty(vocabulary, width)) if shared is None else shared
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        if shared is None:
            nn.init.uniform_(self.weight, -(width**-0.5), width**-0.5)

    def loss(self, x: Tensor, wanted: Tensor) -> Tensor:
        x = self._projected(x)
        if len(x) * len(self.weight) <= WHOLE:
            return F.cross_entropy(F.linear(x, self.weight, self.bias).float(), wanted)
        return smoothed_cross_entropy(x.to(self.weight.dtype), self.weight, self.bias, wanted)

    def log_probabilities(self, x: Tensor) -> Tensor:
        return F.linear(self._projected(x), self.weight, self.bias).float().log_softmax(-1)

    def _projected(self, x: Tensor) -> Tensor:
        return x if self.project is None else self.project(x)

    def scores(self, rows: int) -> Step:
        predict = Exact(self.weight, self.bias).layer.stream(rows).step
        if self.project is None:
            return predict
        project = Exact(self.project.weight, self.project.bias).layer.stream(rows).step
        return lambda x: predict(project(x))


class Adaptive(Head):
    """``torch.nn.AdaptiveLogSoftmaxWithLoss`` over tokens in the order of their frequency.

    Raises:
        InputError: for cutoffs that do not rise between 1 and the number of tokens.
    """

    ranks: Tensor

    def __init__(self, hidden_size: int, vocabulary: int, cutoffs: Sequence[int], ranks: Tensor | None) -> None:
        super().__init__()
        bounds = [0, *cutoffs, vocabulary]
        if not cutoffs or any(a >= b for a, b in pairwise(bounds)):
            raise InputError(
                f"cutoffs must be integers that rise between 1 and {vocabulary - 1} for {vocabulary} tokens, got {cutoffs}"
            )
        self.register_buffer("ranks", torch.arange(vocabulary) if ranks is None else ranks)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(hidden_size, vocabulary, list(cutoffs), head_bias=True)

    def loss(self, x: Tensor, wanted: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # it writes float32 results where autocast makes others
            loss: Tensor = self.softmax(x.float(), self.ranks[wanted]).loss
        return loss

    def log_probabilities(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.softmax.log_prob(x.float())[:, self.ranks]

    def scores(self, rows: int) -> Step:
        softmax = self.softmax
        head = Exact(softmax.head.weight, softmax.head.bias).layer.stream(rows).step
        tails = [
            (Exact(first.weight).layer.stream(rows).step, Exact(second.weight).layer.stream(rows).step)
            for first, second in softmax.tail
        ]
        likely = softmax.shortlist_size

        def step(x: Tensor) -> Tensor:
            first = head(x)
            parts = [first[..., :likely]]
            for k, (narrow, widen) in enumerate(tails):
                parts.append(widen(narrow(x)).log_softmax(-1) + first[..., likely + k, None])
            return torch.cat(parts, -1)[..., self.ranks]

        return step
