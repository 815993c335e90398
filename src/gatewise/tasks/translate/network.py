"""The network: a bidirectional encoder and a decoder that starts from its final state, with or without attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.compiler import Cell
from gatewise.nn import Recurrent
from gatewise.tasks.text.loss import smoothed_cross_entropy
from gatewise.tasks.text.vocabulary import PAD
from gatewise.tasks.translate.batches import Batch

DECODERS = ("attention", "final")
Make = Callable[..., Any]
"""Makes a recurrent layer: (cell, input_size, hidden_size, num_layers, bidirectional), time first."""


class TranslationNetwork(nn.Module):
    """From sentences in pieces to the pieces of their translation.

    Encoder: embedded pieces through a bidirectional stack. Decoder: its states start as a projection of the encoder's
    final states, which in the decoder ``final`` is all that is handed over (Cho et al. 2014; Sutskever et al. 2014).
    In the decoder ``attention`` the output of its first layer asks the encoder's outputs, and what is found goes along
    with it to the second layer and to the prediction ("general" scores of Luong et al. 2015, eq. 8, placed between the
    layers as in Wu et al. 2016, section 3), so that in training each layer runs over the whole target in one call.
    The prediction shares its weights with the embedding of the target (Press and Wolf 2017).

    Args:
        cell: of all recurrent layers. source_size, target_size: pieces in the vocabularies; source_size None when they
            share one. embedding_size: of a piece. encoder_size: units of one direction. hidden_size: of the decoder.
        num_layers: of the encoder; the decoder has two. decoder: ``attention`` or ``final``.
        dropout: of embeddings, of what goes from layer to layer, and before the prediction; see ``drop``.
        make: makes the recurrent layers; here for comparison with others.
    """

    def __init__(
        self,
        cell: Cell,
        source_size: int | None,
        target_size: int,
        embedding_size: int,
        encoder_size: int,
        hidden_size: int,
        num_layers: int,
        decoder: str,
        dropout: float,
        make: Make = Recurrent,
    ) -> None:
        super().__init__()
        self.attends, self.dropout = decoder == "attention", dropout
        self.states = len(cell.states)
        self.target = nn.Embedding(target_size, embedding_size, padding_idx=PAD)
        own = None if source_size is None else nn.Embedding(source_size, embedding_size, padding_idx=PAD)
        self.own_source = own  # one table is registered once, so that it is written once
        for table in (self.target,) if own is None else (own, self.target):
            nn.init.normal_(table.weight, std=embedding_size**-0.5)
            with torch.no_grad():
                table.weight[PAD].zero_()
        self.encoder = nn.ModuleList(
            make(cell, embedding_size if k == 0 else 2 * encoder_size, encoder_size, 1, bidirectional=True)
            for k in range(num_layers)
        )
        self.bridge = nn.Linear(2 * encoder_size * self.states, 2 * hidden_size * self.states)
        found = 2 * encoder_size if self.attends else 0
        self.ask = nn.Linear(2 * encoder_size, hidden_size, bias=False) if self.attends else None
        self.first = make(cell, embedding_size, hidden_size, 1)
        self.second = make(cell, hidden_size + found, hidden_size, 1)
        self.out = nn.Linear(hidden_size + found, embedding_size)
        self.bias = nn.Parameter(torch.zeros(target_size))

    @property
    def source(self) -> nn.Embedding:
        """The embedding of the source: its own, or the target's."""
        return self.target if self.own_source is None else self.own_source

    def forward(self, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """The mean cross-entropy of the pieces of the translations; see ``smoothed_cross_entropy``."""
        wanted = batch.wanted[batch.counts]
        return smoothed_cross_entropy(self.predictions(batch), self.target.weight, self.bias, wanted, smoothing)

    def logits(self, batch: Batch) -> Tensor:
        """Those of the steps that are no padding, (steps, target_size), sentence by sentence."""
        return F.linear(self.predictions(batch), self.target.weight, self.bias)

    def predictions(self, batch: Batch) -> Tensor:
        """What is compared with the embeddings of all pieces: (steps, embedding_size)."""
        encoded, starts = self.encode(batch.source, batch.source_lengths)
        first, _ = self.first(self.drop(self.target(batch.given.T)), starts[0])
        seen = [self.drop(first)]
        if self.ask is not None:
            mask = batch.source == PAD
            seen.append(self.drop(self.attend(first, self.ask(encoded), encoded, mask)[0]))
        second, _ = self.second(torch.cat(seen, -1), starts[1])
        found = torch.tanh(self.out(torch.cat([self.drop(second), *seen[1:]], -1)))
        return self.drop(found).transpose(0, 1)[batch.counts]

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, tuple[Any, Any]]:
        """(S, B, 2 · encoder_size) outputs, and where each of the decoder's layers starts."""
        x, final = self.source(source.T), None
        for layer in self.encoder:
            x, final = layer(self.drop(x), lengths=lengths)
        finals = final if isinstance(final, tuple) else (final,)
        whole = torch.cat([part.transpose(0, 1).flatten(1) for part in finals], -1)
        return x, self.starts_of(torch.tanh(self.bridge(whole)))

    def starts_of(self, starts: Tensor) -> tuple[Any, Any]:
        """The states of both layers from one row of numbers for each sentence."""
        each = [part.unsqueeze(0) for part in starts.chunk(2 * self.states, -1)]
        first, second = each[: self.states], each[self.states :]
        return (first[0], second[0]) if self.states == 1 else (tuple(first), tuple(second))

    def attend(self, asking: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is found for each step, (T, B, width of values), and the weights, (B, T, S)."""
        scores = torch.einsum("tbh,sbh->bts", asking, keys).masked_fill(mask[:, None], -torch.inf)
        weights = scores.softmax(-1)
        return torch.einsum("bts,sbw->tbw", weights, values), weights

    def drop(self, x: Tensor) -> Tensor:
        """Dropout of units of (..., B, units) in training: a sentence loses the same units at all its steps (Gal and
        Ghahramani 2016), so that one step's random numbers do."""
        if not self.training or self.dropout == 0:
            return x
        return x * F.dropout(torch.ones_like(x[..., :1, :, :] if x.dim() > 2 else x), self.dropout)
