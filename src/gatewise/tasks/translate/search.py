"""Decoding: greedy, or beam search with length normalisation, a step at a time through the stream interface.

Sentences of one length are decoded together, so that there is no padding, and everything is computed in an order that
does not depend on the sentences beside: a sentence alone gets the same translation, to the bit, as in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.tasks.translate.exact import Exact
from gatewise.tasks.translate.network import TranslationNetwork
from gatewise.tasks.translate.vocabulary import END, PAD, START, UNKNOWN

MOST_ROWS = 512
"""Beams of a batch: more are not faster."""


@dataclass(frozen=True)
class Hypothesis:
    """A translation in pieces, without its end.

    ``score`` is the log-probability of the pieces and the end, divided by their number to the power of the length
    penalty. ``looked_at`` is, for each piece, the source piece with the largest attention; empty without attention.
    """

    ids: tuple[int, ...]
    score: float
    log_probability: float
    looked_at: tuple[int, ...]


class Steps:
    """The decoder of some sentences of equal length, one piece at a time; ``beam`` rows for each sentence."""

    def __init__(self, network: TranslationNetwork, source: Tensor, beam: int) -> None:
        sentences = len(source)
        self.network, self.beam = network, beam
        self.encoded, starts = _encode(network, source)
        self.keys = None
        if network.ask is not None:
            by_sentence = self.encoded.transpose(0, 1).contiguous()
            self.keys = Exact(network.ask.weight)(by_sentence).unsqueeze(1)
            self.values = by_sentence.unsqueeze(1)
        rows = sentences * beam
        self.first, self.second = network.first.stream(rows), network.second.stream(rows)
        for stream, start in zip((self.first, self.second), starts, strict=True):
            stream.state = _map(start, lambda part: part.repeat_interleave(beam, 1))
        self.out = Exact(network.out.weight, network.out.bias, then_tanh=True).layer.stream(rows)
        self.predict = Exact(network.target.weight, network.bias).layer.stream(rows)

    def step(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """From the last pieces, (rows,), to the log-probabilities of the next and the attention, (rows, S) or None."""
        first = self.first.step(self.network.target(ids))
        seen, weights = [first], None
        if self.keys is not None:
            asking = first.reshape(-1, self.beam, 1, first.shape[-1])
            weights = (asking * self.keys).sum(-1).softmax(-1)
            found = torch.zeros(*weights.shape[:2], self.values.shape[-1], dtype=first.dtype)
            for k in range(weights.shape[-1]):  # in this order, whatever the number of rows
                found.addcmul_(weights[:, :, k, None], self.values[:, :, k])
            seen.append(found.flatten(0, 1))
            weights = weights.flatten(0, 1)
        second = self.second.step(torch.cat(seen, -1))
        logits = self.predict.step(self.out.step(torch.cat([second, *seen[1:]], -1)))
        return logits.log_softmax(-1), weights

    def reorder(self, rows: Tensor) -> None:
        """Go on with these rows."""
        for stream in (self.first, self.second):
            stream.state = _map(stream.state, lambda part: part[:, rows])


def translate(
    network: TranslationNetwork,
    sources: Sequence[Sequence[int]],
    beam: int,
    best: int,
    length_penalty: float,
    longest: int | None,
) -> list[list[Hypothesis]]:
    """The best translations of each sentence, the best first.

    Args:
        sources: sentences in pieces. beam: hypotheses kept at each step; 1 is greedy. best: how many to return.
        length_penalty: 1 compares means per piece, 0 sums. longest: pieces of a translation; for None twice those of
            the source and ten.
    """
    by_length: dict[int, list[int]] = {}
    for index, row in enumerate(sources):
        by_length.setdefault(len(row), []).append(index)
    found: list[list[Hypothesis]] = [[] for _ in sources]
    with torch.inference_mode():
        for length, indices in by_length.items():
            each = max(1, MOST_ROWS // beam)
            for start in range(0, len(indices), each):
                chosen = indices[start : start + each]
                source = torch.tensor([list(sources[i]) for i in chosen])
                limit = 2 * length + 10 if longest is None else longest
                for i, hypotheses in zip(chosen, _search(network, source, beam, length_penalty, limit), strict=True):
                    found[i] = hypotheses[:best]
    return found


def _search(
    network: TranslationNetwork, source: Tensor, beam: int, penalty: float, limit: int
) -> list[list[Hypothesis]]:
    """Beam search over sentences of equal length: (sentences, S) ids."""
    sentences, steps = len(source), Steps(network, source, beam)
    size = network.target.num_embeddings
    offsets = torch.arange(sentences).unsqueeze(1) * beam
    alive = torch.full((sentences, beam), -torch.inf)
    alive[:, 0] = 0  # all beams begin alike
    last = torch.full((sentences * beam,), START)
    ids, looked = torch.empty(sentences * beam, 0, dtype=torch.long), torch.empty(sentences * beam, 0, dtype=torch.long)
    done = [_Done(beam, penalty) for _ in range(sentences)]
    for length in range(1, limit + 2):
        log, weights = steps.step(last)
        log[:, [PAD, START] if network.attends else [PAD, START, UNKNOWN]] = -torch.inf
        if length == limit + 1:  # nothing but the end may follow
            log[:, :END] = log[:, END + 1 :] = -torch.inf
        whole = alive.unsqueeze(-1) + log.reshape(sentences, beam, size)
        values, flat = whole.flatten(1).topk(min(2 * beam, beam * size))
        rows, pieces = offsets + flat // size, flat % size
        ends = pieces == END
        for sentence, k in ends[:, :beam].nonzero().tolist():
            row = int(rows[sentence, k])
            done[sentence].add(float(values[sentence, k]), ids[row], looked[row])
        order = (ends.long() * flat.shape[1] + torch.arange(flat.shape[1])).argsort(1)[:, :beam]
        chosen, alive = rows.gather(1, order).flatten(), values.gather(1, order)
        alive = alive.masked_fill(ends.gather(1, order), -torch.inf)
        for own, best in zip(done, alive.amax(1).tolist(), strict=True):
            own.close(best, length)
        if all(own.closed for own in done):
            break
        last = pieces.gather(1, order).flatten()
        ids = torch.cat([ids[chosen], last.unsqueeze(1)], 1)
        if weights is not None:
            looked = torch.cat([looked[chosen], weights.argmax(-1)[chosen].unsqueeze(1)], 1)
        if beam > 1:
            steps.reorder(chosen)
    return [own.best for own in done]


class _Done:
    """The best hypotheses of a sentence that have ended."""

    def __init__(self, beam: int, penalty: float) -> None:
        self.beam, self.penalty = beam, penalty
        self.best: list[Hypothesis] = []
        self.closed = False

    def add(self, value: float, ids: Tensor, looked: Tensor) -> None:
        if self.closed or value == -math.inf:
            return
        score = value / (len(ids) + 1) ** self.penalty
        self.best.append(Hypothesis(tuple(ids.tolist()), score, value, tuple(looked.tolist())))
        self.best = sorted(self.best, key=lambda one: -one.score)[: self.beam]

    def close(self, alive: float, length: int) -> None:
        """Close once there are enough, none of them worse than the best one alive is by now: one that is likely must
        not be given up because unlikely ones ended before it."""
        self.closed |= len(self.best) == self.beam and self.best[-1].score >= alive / length**self.penalty


def _encode(network: TranslationNetwork, source: Tensor) -> tuple[Tensor, tuple[Any, Any]]:
    """As the network's, in an order of summation that the batch does not change."""
    x, final = network.source(source.T), None
    for layer in network.encoder:
        x, final = layer(x)
    finals = final if isinstance(final, tuple) else (final,)
    whole = torch.cat([part.transpose(0, 1).flatten(1) for part in finals], -1)
    return x, network.starts_of(Exact(network.bridge.weight, network.bridge.bias, then_tanh=True)(whole))


def _map(state: Any, change: Any) -> Any:
    return tuple(change(part) for part in state) if isinstance(state, tuple) else change(state)
