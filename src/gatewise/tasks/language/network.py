"""The network: an embedding, stacked recurrent layers, and the prediction of the next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from gatewise.compiler import Cell
from gatewise.nn import Recurrent
from gatewise.tasks.language.heads import Adaptive, Full, Head, Step
from gatewise.tasks.language.streams import Window

State = list[Any]
"""Of each layer its states, as the layer takes them."""
Make = Callable[[Cell, int, int], Any]
"""Makes a recurrent layer: (cell, input_size, hidden_size), time first."""
RECURRENT = "weight_hh_l0"
"""What multiplies the state, in every cell."""


class LanguageNetwork(nn.Module):
    """From tokens to the loss of those that follow them, and to the states behind the last.

    Dropout as in Merity et al. 2017 (AWD-LSTM): of what goes from layer to layer and to the prediction, a unit for all
    steps of a window ("locked", Gal and Ghahramani 2016); of whole tokens in the embedding; and of the weights that
    multiply the state.

    Args:
        cell: of all layers. vocabulary: number of tokens. embedding_size: of a token. hidden_size: units of a layer.
        num_layers: in the stack. dropout: of each layer's output. input_dropout: of embedded tokens' units.
        embedding_dropout: share of tokens whose embedding is zero in a window. weight_dropout: of weights on the state.
        locked: whether the same units are dropped at all steps of a window, else others at each.
        layer_norm: whether each layer's output is normalised (Ba et al. 2016). tied: whether the prediction uses the
            embedding's weights (Press and Wolf 2017), after a projection where the sizes differ.
        cutoffs: None for a softmax over all tokens; else the first ranks of the further clusters of an adaptive one
            (Grave et al. 2017), by ``ranks``. ranks: (vocabulary,) int64, each token's place by frequency.
        make: makes the recurrent layers; here for comparison with others.
    """

    def __init__(
        self,
        cell: Cell,
        vocabulary: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        locked: bool = True,
        layer_norm: bool = False,
        tied: bool = False,
        cutoffs: Sequence[int] | None = None,
        ranks: Tensor | None = None,
        make: Make = Recurrent,
    ) -> None:
        super().__init__()
        self.dropout, self.input_dropout, self.locked = dropout, input_dropout, locked
        self.embedding_dropout, self.weight_dropout = embedding_dropout, weight_dropout
        self.embedding = nn.Embedding(vocabulary, embedding_size)
        # Small where the prediction uses it too; else as large as torch's: with small ones the same training of tiny
        # Shakespeare ended at 1.479 nats per character.
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5 if tied else 1.0)
        self.layers = nn.ModuleList(
            make(cell, hidden_size if k else embedding_size, hidden_size) for k in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(num_layers if layer_norm else 0))
        self.head: Head
        if cutoffs is not None:
            self.head = Adaptive(hidden_size, vocabulary, cutoffs, ranks)
        else:
            self.head = Full(hidden_size, vocabulary, embedding_size if tied else None)

    def forward(self, window: Window, state: State | None = None) -> tuple[Tensor, State]:
        """The mean loss of a window in nats per token, and the states behind it, without their past."""
        seen, state = self.run(window.given, state, window.reset)
        seen = self._drop(seen, self.dropout).flatten(0, 1)
        loss = self.head.loss(seen, window.wanted.flatten(), self.embedding.weight)
        return loss, [_map(own, torch.Tensor.detach) for own in state]

    def run(
        self, given: Tensor, state: State | None = None, reset: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """The last layer's output for (T, B) tokens, (T, B, hidden_size), and the states of all layers behind them.

        Args:
            given: int64 tokens. state: before the first; None at the beginning. reset: (T, B) bool, where a document
                begins. lengths: (B,) tokens of each row that count, where not all do.
        """
        x, states = self.embedded(given), []
        beside = {"reset": reset} if reset is not None else {}
        beside |= {"lengths": lengths} if lengths is not None else {}
        for k, layer in enumerate(self.layers):
            x = self._drop(x, self.dropout if k else self.input_dropout)
            x, final = functional_call(layer, self._weights(layer), (x, None if state is None else state[k]), beside)
            x = self.norms[k](x) if self.norms else x
            states.append(final)
        return x, states

    def log_probabilities(self, seen: Tensor) -> Tensor:
        """Of all tokens, (rows, vocabulary), from the last layer's output, (rows, hidden_size)."""
        return self.head.log_probabilities(seen, self.embedding.weight)

    def scores(self, rows: int) -> Step:
        """As ``log_probabilities``, up to a constant for each row, for steps of so many rows; see ``Head.scores``."""
        return self.head.scores(rows, self.embedding.weight)

    def embedded(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.embedding(tokens)
        if self.training and self.embedding_dropout > 0:
            kept = F.dropout(torch.ones_like(self.embedding.weight[:, :1]), self.embedding_dropout)
            x = x * kept[tokens]
        return x

    def _weights(self, layer: nn.Module) -> dict[str, Tensor]:
        """What takes the place of a layer's parameters in training."""
        if not self.training or self.weight_dropout == 0 or not hasattr(layer, RECURRENT):
            return {}
        return {RECURRENT: F.dropout(getattr(layer, RECURRENT), self.weight_dropout)}

    def _drop(self, x: Tensor, share: float) -> Tensor:
        if not self.training or share == 0:
            return x
        return x * F.dropout(torch.ones_like(x[:1]), share) if self.locked else F.dropout(x, share)


def _map(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return tuple(change(part) for part in state) if isinstance(state, tuple) else change(state)
