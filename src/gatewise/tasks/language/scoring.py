"""How well a network predicts texts: nats for each token, and how the prediction looked there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.tasks.language.network import LanguageNetwork, State
from gatewise.tasks.language.store import Tokens
from gatewise.tasks.text.tokenizers import Tokenizer

PART = 4096
"""Tokens of a document that one row reads: longer ones are read in parts, by many rows at once."""
CONTEXT = 256
"""Tokens before a part that its row reads first, uncounted, so that its state knows what came before."""
ROWS, STEPS = 32, 128
"""Of a batch."""
NUMBERS = 1 << 22
"""Probabilities that are held at once, rows times tokens: 16 MB."""


@dataclass(frozen=True)
class Surprises:
    """For each token of a text, and the ``end`` behind it, given those before.

    ``nats``: −log of its probability. ``entropy``: of the whole prediction, in nats: what was expected on average.
    ``rank``: its place among all tokens by probability, 1 for the likeliest.
    """

    tokens: NDArray[np.int64]
    nats: NDArray[np.float64]
    entropy: NDArray[np.float64]
    rank: NDArray[np.int64]


def characters(tokens: Tokens, tokenizer: Tokenizer) -> int:
    """How many characters of text the tokens are, at least one."""
    return max(1, sum(tokenizer.characters(part) for _, part in tokens.parts()))


def total_nats(network: LanguageNetwork, tokens: Tokens, part: int | None = PART) -> float:
    """−log of the probability of all documents, with their ends, in nats.

    Args:
        part: see ``PART``; None to read each document in one go, which for a long one takes longer.
    """
    total = 0.0
    with torch.inference_mode():
        for _, seen, wanted in _read(network, tokens, part):
            for rows in _shares(len(wanted), network):
                logs = network.log_probabilities(seen[rows])
                total -= float(logs.gather(1, wanted[rows, None]).sum(dtype=torch.float64))
    return total


def surprises(network: LanguageNetwork, tokens: Tokens) -> Surprises:
    """Token by token, document after document."""
    count = sum(stop - start + 1 for start, stop in tokens.spans)
    found = Surprises(
        np.zeros(count, np.int64), np.zeros(count, np.float64), np.zeros(count, np.float64), np.zeros(count, np.int64)
    )
    with torch.inference_mode():
        for places, seen, wanted in _read(network, tokens, None):
            found.tokens[places] = wanted.cpu().numpy()
            for rows in _shares(len(wanted), network):
                logs, at = network.log_probabilities(seen[rows]), places[rows]
                own = logs.gather(1, wanted[rows, None])
                found.nats[at] = -own[:, 0].cpu().numpy()
                found.entropy[at] = torch.special.entr(logs.exp()).sum(1).cpu().numpy()
                found.rank[at] = 1 + (logs > own).sum(1).cpu().numpy()
    return found


@dataclass(frozen=True)
class _Row:
    """What a row reads, [end, *document] from ``start`` to ``stop``, and which of its predictions count: those from the
    ``counted``-th on. ``place``: of the first counted one among those of all documents."""

    document: tuple[int, int]
    start: int
    stop: int
    counted: int
    place: int


def _rows(tokens: Tokens, part: int | None) -> Iterator[_Row]:
    place = 0
    for start, stop in tokens.spans:
        length = stop - start + 1
        for first in range(0, length, part or length):
            last = min(length, first + (part or length))
            begin = max(0, first - CONTEXT)
            yield _Row((start, stop), begin, last, first - begin, place + first)
        place += length


def _read(
    network: LanguageNetwork, tokens: Tokens, part: int | None
) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """Where predictions stand among those of all documents, what the head makes them from, and what came."""
    rows = sorted(_rows(tokens, part), key=lambda row: row.start - row.stop)
    device = network.embedding.weight.device
    for k in range(0, len(rows), ROWS):
        batch = rows[k : k + ROWS]
        state: State | None = None
        for step in range(0, batch[0].stop - batch[0].start, STEPS):
            batch = [row for row in batch if row.start + step < row.stop]  # the longest are first
            if state is not None:
                state = [_first(own, len(batch)) for own in state]
            given, wanted, places = _window(tokens, batch, step)
            seen, state = network.run(given.to(device), state)
            counts = places >= 0
            at = torch.from_numpy(counts)
            yield places[counts], seen[at.to(device)], wanted[at].to(device)


def _window(tokens: Tokens, batch: list[_Row], step: int) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """(T, B) tokens given and wanted, and where these predictions stand; -1 for those that do not count."""
    length = min(STEPS, max(row.stop - row.start for row in batch) - step)
    given, wanted = (np.full((length, len(batch)), tokens.end, np.int64) for _ in range(2))
    places = np.full((length, len(batch)), -1)
    for b, row in enumerate(batch):
        begin, own = row.start + step, min(length, row.stop - row.start - step)
        start, stop = row.document
        first = start + begin - 1  # of [end, *document] the number begin
        own_given = tokens.ids[max(first, start) : first + own]
        given[own - len(own_given) : own, b] = own_given
        own_wanted = tokens.ids[start + begin : min(start + begin + own, stop)]
        wanted[: len(own_wanted), b] = own_wanted
        at = np.arange(step, step + own) - row.counted
        places[:own, b] = np.where(at >= 0, at + row.place, -1)
    return torch.from_numpy(given), torch.from_numpy(wanted), places


def _first(state: object, count: int) -> object:
    return tuple(s[:, :count] for s in state) if isinstance(state, tuple) else state[:, :count]  # type: ignore[index]


def _shares(count: int, network: LanguageNetwork) -> Iterator[slice]:
    each = max(1, NUMBERS // network.embedding.num_embeddings)
    return (slice(start, start + size) for start, size in zip(range(0, count, each), repeat(each), strict=False))
