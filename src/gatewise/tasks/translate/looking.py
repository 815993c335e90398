"""Inside a translation: where each word looked, and what the gate that keeps the state did meanwhile."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.nn.initialise import keepers
from gatewise.tasks.text.vocabulary import START
from gatewise.tasks.translate.network import TranslationNetwork
from gatewise.tasks.translate.search import Steps

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Looking:
    """A translation seen from inside.

    ``source`` and ``target`` are pieces, the target's end included. ``attention`` is (target, source), rows adding up
    to 1; None without attention. ``gate`` is the name of the gate that keeps the state, None where the cell has none;
    the share of the state that it keeps is in ``reading``, (source, units) of both directions of the encoder's last
    layer, forward first, and ``writing``, (target, units) of the decoder's second layer.
    """

    source: list[str]
    target: list[str]
    translation: str
    attention: Values | None
    gate: str | None
    reading: tuple[Values, Values] | None
    writing: Values | None

    def csv(self) -> str:
        """One row for each target piece: the piece, the mean of the gate, the attention on every source piece."""
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        attended = [] if self.attention is None else self.source
        out.writerow(["target", *([] if self.gate is None else [f"mean {self.gate}"]), *attended])
        for k, piece in enumerate(self.target):
            gate = [] if self.writing is None else [f"{self.writing[k].mean():.4f}"]
            out.writerow([piece, *gate, *([] if self.attention is None else [f"{w:.4f}" for w in self.attention[k]])])
        return text.getvalue()


def look(
    network: TranslationNetwork, source: Sequence[int], target: Sequence[int]
) -> tuple[Values | None, str | None, tuple[Values, Values] | None, Values | None]:
    """``attention``, ``gate``, ``reading`` and ``writing`` of one sentence and its translation in pieces."""
    with torch.no_grad():
        steps = Steps(network, [source], 1)
        rows = [steps.step(torch.tensor([piece])) for piece in (START, *target)]
        weights = [row[1] for row in rows if row[1] is not None]
        attention = torch.cat(weights).double().numpy() if weights else None
        kept = keepers(network.first.cell)
        if not kept:
            return attention, None, None, None
        gate, sign = next(iter(kept.items()))
        x = network.source(torch.tensor([list(source)]).T)
        for layer in network.encoder[:-1]:
            x = layer(x)[0]
        forward, backward = _stays(network.encoder[-1], gate, sign, x, None)
        (writing,) = _stays(network.second, gate, sign, *_decoder_input(network, source, target))
        return attention, gate, (forward, backward), writing


def _stays(layer: Any, gate: str, sign: float, x: Tensor, start: Any) -> list[Values]:
    """The share of its state that each unit keeps over one sequence, (T, units) for each direction."""
    values = [values[:, 0].double().numpy() for values in layer.trace(x, start).gates[gate]]
    return values if sign > 0 else [1 - value for value in values]


def _decoder_input(network: TranslationNetwork, source: Sequence[int], target: Sequence[int]) -> tuple[Tensor, Any]:
    """What the decoder's second layer reads, (T, 1, width), and where it starts."""
    ids = torch.tensor([list(source)])
    encoded, starts = network.encode(ids, torch.tensor([len(source)]))
    first, _ = network.first(network.target(torch.tensor([[START, *target]]).T), starts[0])
    if network.ask is None:
        return first, starts[1]
    found, _ = network.attend(first, network.ask(encoded), encoded, ids < 0)
    return torch.cat([first, found], -1), starts[1]
