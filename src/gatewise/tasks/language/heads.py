"""The prediction of the next token: one softmax over all, or an adaptive one that looks at frequent tokens first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.tasks.errors import InputError
from gatewise.tasks.text.exact import Exact
from gatewise.tasks.text.loss import smoothed_cross_entropy

WHOLE = 1 << 20
"""Logits, rows times tokens, up to which all are kept: 4 MB."""
NARROWER = 4
"""How many times fewer units each cluster of an adaptive softmax has than the one before (Grave et al. 2017)."""
Step = Callable[[Tensor], Tensor]
"""From (rows, hidden_size) to log-probabilities up to a constant for each row, which no other row changes."""


class Head(nn.Module):
    """From the last layer's output to the next token. ``table`` is the embedding's (vocabulary, embedding_size)."""

    @abstractmethod
    def loss(self, x: Tensor, wanted: Tensor, table: Tensor) -> Tensor:
        """The mean negative log-probability of (rows,) tokens, in nats, from (rows, hidden_size)."""

    @abstractmethod
    def log_probabilities(self, x: Tensor, table: Tensor) -> Tensor:
        """Of all tokens, (rows, vocabulary), from (rows, hidden_size)."""

    @abstractmethod
    def scores(self, rows: int, table: Tensor) -> Step:
        """As ``log_probabilities`` of one step, without a gradient, made for so many rows."""


class Full(Head):
    """A softmax over all tokens. ``tied``: the width of the embedding whose weights it uses; None for weights of its
    own."""

    def __init__(self, hidden_size: int, vocabulary: int, tied: int | None) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, tied) if tied not in (None, hidden_size) else None
        self.weight = nn.Parameter(torch.empty(vocabulary, hidden_size)) if tied is None else None
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        if self.weight is not None:
            nn.init.uniform_(self.weight, -(hidden_size**-0.5), hidden_size**-0.5)

    def loss(self, x: Tensor, wanted: Tensor, table: Tensor) -> Tensor:
        x, weight = self._projected(x), self._own(table)
        if len(x) * len(weight) <= WHOLE:
            return F.cross_entropy(F.linear(x, weight, self.bias).float(), wanted)
        return smoothed_cross_entropy(x.to(weight.dtype), weight, self.bias, wanted)

    def log_probabilities(self, x: Tensor, table: Tensor) -> Tensor:
        return F.linear(self._projected(x), self._own(table), self.bias).float().log_softmax(-1)

    def _own(self, table: Tensor) -> Tensor:
        return table if self.weight is None else self.weight

    def _projected(self, x: Tensor) -> Tensor:
        return x if self.project is None else self.project(x)

    def scores(self, rows: int, table: Tensor) -> Step:
        predict = Exact(self._own(table), self.bias).steps(rows)
        room = self.bias.new_empty(rows, len(table))
        if self.project is None:
            return lambda x: predict(x, room)
        project = Exact(self.project.weight, self.project.bias).steps(rows)
        return lambda x: predict(project(x), room)


class Adaptive(Head):
    """``torch.nn.AdaptiveLogSoftmaxWithLoss`` over tokens in the order of their frequency.

    Raises:
        InputError: for cutoffs that do not rise between 1 and the number of tokens, or too few units for so many.
    """

    ranks: Tensor

    def __init__(self, hidden_size: int, vocabulary: int, cutoffs: Sequence[int], ranks: Tensor | None) -> None:
        super().__init__()
        bounds = [0, *cutoffs, vocabulary]
        if not cutoffs or any(a >= b for a, b in pairwise(bounds)):
            raise InputError(
                f"cutoffs must be integers that rise from 1 on and stay below the number of tokens, {vocabulary}, got "
                f"{list(cutoffs)}"
            )
        if hidden_size < NARROWER ** len(cutoffs):
            raise InputError(
                f"hidden_size must be at least {NARROWER ** len(cutoffs)} for {len(cutoffs)} cutoffs, each of which "
                f"divides it by {NARROWER}, got {hidden_size}"
            )
        self.register_buffer("ranks", torch.arange(vocabulary) if ranks is None else ranks)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(hidden_size, vocabulary, list(cutoffs), NARROWER, head_bias=True)

    def loss(self, x: Tensor, wanted: Tensor, table: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # it writes float32 results where autocast makes others
            loss: Tensor = self.softmax(x.float(), self.ranks[wanted]).loss
        # Clusters that nothing here is of have gradients of zero: processes that share a batch wait for all gradients.
        return loss + 0.0 * torch.stack([weight[0, 0] for weight in self.softmax.tail.parameters()]).sum()

    def log_probabilities(self, x: Tensor, table: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.softmax.log_prob(x.float())[:, self.ranks]

    def scores(self, rows: int, table: Tensor) -> Step:
        softmax = self.softmax
        head = Exact(softmax.head.weight, softmax.head.bias).steps(rows)
        tails = [[Exact(weight).steps(rows) for weight in cluster.parameters()] for cluster in softmax.tail.children()]
        likely = softmax.shortlist_size

        def step(x: Tensor) -> Tensor:
            first = head(x)
            parts = [first[..., :likely]]
            for k, (narrow, widen) in enumerate(tails):
                parts.append(widen(narrow(x)).log_softmax(-1) + first[..., likely + k, None])
            return torch.cat(parts, -1)[..., self.ranks]

        return step
