"""A network one token at a time, with its states inside and in constant time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.nn import Recurrent
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.text.exact import threads_of

Ids = Sequence[int]


class Steps:
    """Some rows that go on token by token. What a row gets depends on no other row, nor on how many there are.

    Args:
        network: in evaluation mode, with layers of this package. rows: how many.
    """

    def __init__(self, network: LanguageNetwork, rows: int) -> None:
        self.rows, self.network = rows, network
        plain = not network.norms and len(network.layers) > 1
        own: list[Any] = list(network.layers)
        layers = [_stacked(own)] if plain else own
        self._streams = [layer.stream(rows, threads=threads_of(rows)) for layer in layers]
        self._norms = [_normalise(norm) for norm in network.norms]
        self._scores = network.scores(rows)
        self._table = network.embedding.weight.detach()
        self._each = self._table.split(1) if rows == 1 else ()
        self._room = [self._table.new_empty(rows, layer.hidden_size) for layer in layers]

    @property
    def state(self) -> list[Any]:
        """Of each stream, (layers, rows, hidden_size)."""
        return [stream.state for stream in self._streams]

    @state.setter
    def state(self, value: Sequence[Any]) -> None:
        for stream, own in zip(self._streams, value, strict=True):
            stream.state = own

    def begin(self, prompts: Sequence[Ids], end: int) -> Tensor:
        """Read a prompt in each row, with ``end`` before it; returns the logits of what follows."""
        lengths = torch.tensor([len(prompt) + 1 for prompt in prompts])
        given = torch.full((int(lengths.max()), self.rows), end)
        for row, prompt in enumerate(prompts):
            given[1 : len(prompt) + 1, row] = torch.tensor(prompt, dtype=torch.long)
        with torch.inference_mode():
            seen, states = self.network.run(given, lengths=lengths)
            last = seen[lengths - 1, torch.arange(self.rows)]
        self.state = states if len(self._streams) == len(states) else [_joined(states)]
        return self._scores(last.clone())

    def step(self, tokens: Ids) -> Tensor:
        """Take one token in each row; returns the logits of the next, (rows, vocabulary), in memory used again."""
        x = self._each[tokens[0]] if self.rows == 1 else self._table[torch.tensor(tokens)]
        for k, stream, room in zip(count(), self._streams, self._room, strict=False):
            x = stream.step(x, room)
            if self._norms:
                x = self._norms[k](x)
        return self._scores(x)


def rows_of(state: Sequence[Any], rows: Tensor) -> list[Any]:
    """The states of these rows."""
    return [tuple(s[:, rows] for s in own) if isinstance(own, tuple) else own[:, rows] for own in state]


def _stacked(layers: Sequence[Any]) -> Recurrent:
    """Layers as one stack with their weights, whose stream is one native call."""
    first = layers[0]
    with torch.device("meta"):
        stack = Recurrent(first.cell, first.input_size, first.hidden_size, len(layers), bias=first.bias)
    for k, layer in enumerate(layers):
        for name, weight in layer.named_parameters():
            setattr(stack, name.replace("_l0", f"_l{k}"), nn.Parameter(weight.detach(), requires_grad=False))
    stack.share_narrow({f"_l{k}": layer for k, layer in enumerate(layers)})
    return stack


def _joined(states: Sequence[Any]) -> Any:
    if isinstance(states[0], tuple):
        return tuple(torch.cat(parts) for parts in zip(*states, strict=True))
    return torch.cat(list(states))


def _normalise(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    weight, bias, shape = norm.weight.detach(), norm.bias.detach(), norm.normalized_shape  # type: ignore[operator]
    return lambda x: F.layer_norm(x, shape, weight, bias)  # type: ignore[arg-type]
