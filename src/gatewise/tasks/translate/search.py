"""Decoding: greedy, or beam search with length normalisation, a step at a time through the stream interface.

Sentences of like length are decoded together, and everything is computed in an order that depends neither on the
sentences beside nor on padding: a sentence alone gets the same translation, to the bit, as in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.tasks.text.batching import padded
from gatewise.tasks.text.exact import Exact
from gatewise.tasks.text.vocabulary import END, PAD, START, UNKNOWN
from gatewise.tasks.translate.network import TranslationNetwork

MOST_ROWS = 512
"""Beams of a batch: more are not faster."""
LEAST_ROWS = 64
"""Beams worth leaving behind when their sentences have ended: going on without them packs the weights again."""
BLOCK = 64
"""Numbers whose maximum is looked at first."""


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
    """The decoder of some sentences, one piece at a time; ``beam`` rows for each sentence."""

    def __init__(self, network: TranslationNetwork, sources: Sequence[Sequence[int]], beam: int) -> None:
        self.network, self.beam = network, beam
        lengths = torch.tensor([len(source) for source in sources])
        encoded, starts = _encode(network, padded(sources), lengths)
        self.values = encoded.transpose(0, 1).unsqueeze(1).contiguous()
        self.keys = None if network.ask is None else Exact(network.ask.weight)(self.values)
        self.beyond = (torch.arange(len(encoded)) >= lengths[:, None]).unsqueeze(1)
        self._out = Exact(network.out.weight, network.out.bias, then_tanh=True).layer
        self._predict = Exact(network.target.weight, network.bias).layer
        self._start([_map(start, lambda part: part.repeat_interleave(beam, 1)) for start in starts])

    def _start(self, states: Sequence[Any]) -> None:
        rows = len(self.values) * self.beam
        self.first, self.second = self.network.first.stream(rows), self.network.second.stream(rows)
        for stream, state in zip((self.first, self.second), states, strict=True):
            stream.state = state
        self.out, self.predict = self._out.stream(rows), self._predict.stream(rows)

    def step(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """From the last pieces, (rows,), to the logits of the next and the attention, (rows, S) or None."""
        first = self.first.step(self.network.target(ids))
        seen, weights = [first], None
        if self.keys is not None:
            context, weights = self._attend(first, self.keys)
            seen.append(context)
        second = self.second.step(torch.cat(seen, -1))
        return self.predict.step(self.out.step(torch.cat([second, *seen[1:]], -1))), weights

    def _attend(self, first: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """What is found, (rows, width), and the weights: word after word, so that padding adds zeros at the end."""
        asking = first.reshape(len(keys), self.beam, -1)
        words = range(keys.shape[2])
        scores = torch.stack([(asking * keys[:, :, k]).sum(-1) for k in words], -1).masked_fill_(self.beyond, -math.inf)
        weights = (scores - scores.amax(-1, keepdim=True)).exp_()
        total = torch.zeros_like(weights[:, :, 0])
        context = first.new_zeros(*total.shape, self.values.shape[-1])
        for k in words:
            total += weights[:, :, k]
            context += weights[:, :, k, None] * self.values[:, :, k]
        context /= total[..., None]
        return context.flatten(0, 1), (weights / total[..., None]).flatten(0, 1)

    def reorder(self, rows: Tensor) -> None:
        """Go on with these rows, as many as before."""
        for stream in (self.first, self.second):
            stream.state = _map(stream.state, lambda part: part[:, rows])

    def keep(self, sentences: Tensor) -> None:
        """Go on with these sentences alone."""
        rows = (sentences[:, None] * self.beam + torch.arange(self.beam)).flatten()
        self.values, self.beyond = self.values[sentences], self.beyond[sentences]
        self.keys = None if self.keys is None else self.keys[sentences]
        self._start([_map(stream.state, lambda part: part[:, rows]) for stream in (self.first, self.second)])


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
    translations: list[list[Hypothesis]] = [[] for _ in sources]
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    each = max(1, MOST_ROWS // beam)
    with torch.inference_mode():
        for start in range(0, len(order), each):
            chosen = order[start : start + each]
            limits = [2 * len(sources[i]) + 10 if longest is None else longest for i in chosen]
            hypotheses = _search(network, [sources[i] for i in chosen], beam, length_penalty, limits)
            for i, own in zip(chosen, hypotheses, strict=True):
                translations[i] = own[:best]
    return translations


def _search(
    network: TranslationNetwork, sources: Sequence[Sequence[int]], beam: int, penalty: float, limits: Sequence[int]
) -> list[list[Hypothesis]]:
    """Beam search over sentences, each with the most pieces that its translation may have."""
    steps, size = Steps(network, sources, beam), network.target.num_embeddings
    never = [PAD, START] if network.attends else [PAD, START, UNKNOWN]
    whole = [Ended(beam, penalty, limit) for limit in limits]
    open_, last_step = whole, torch.tensor(limits).unsqueeze(1)
    alive = torch.full((len(sources), beam), -torch.inf)
    alive[:, 0] = 0  # all beams begin alike
    last = torch.full((len(sources) * beam,), START)
    ids = looked = torch.empty(len(last), 0, dtype=torch.long)
    for length in range(1, max(limits) + 2):
        logits, weights = steps.step(last)
        scale = logits.logsumexp(-1, keepdim=True)
        logits[:, never] = -torch.inf
        if length > min(limits):  # nothing but the end may follow where a translation is full
            full = (last_step < length).repeat_interleave(beam, 0)
            logits[:, :END].masked_fill_(full, -torch.inf)
            logits[:, END + 1 :].masked_fill_(full, -torch.inf)
        values, pieces = largest(logits, min(2 * beam, size))
        each = values.shape[1]
        values = (alive.reshape(-1, 1) + (values - scale)).reshape(len(open_), -1)
        values, flat = values.topk(min(2 * beam, beam * each))  # of a sentence, over its beams
        pieces = pieces.reshape(len(open_), -1).gather(1, flat)
        rows = torch.arange(len(open_)).unsqueeze(1) * beam + flat // each
        ends = pieces == END
        for sentence, k in ends[:, :beam].nonzero().tolist():
            row = int(rows[sentence, k])
            open_[sentence].add(float(values[sentence, k]), ids[row], looked[row])
        order = (ends.long() * flat.shape[1] + torch.arange(flat.shape[1])).argsort(1)[:, :beam]
        chosen, alive = rows.gather(1, order).flatten(), values.gather(1, order)
        alive = alive.masked_fill(ends.gather(1, order), -torch.inf)
        last = pieces.gather(1, order).flatten()
        ids = torch.cat([ids[chosen], last.unsqueeze(1)], 1)
        if weights is not None:
            looked = torch.cat([looked[chosen], weights.argmax(-1)[chosen].unsqueeze(1)], 1)
        for own, best in zip(open_, alive.amax(1).tolist(), strict=True):
            own.close(best, length)
        left = [k for k, own in enumerate(open_) if not own.closed]
        if not left:
            break
        if beam > 1:
            steps.reorder(chosen)
        if (len(open_) - len(left)) * beam >= max(LEAST_ROWS, len(last) // 2):
            kept = torch.tensor(left)
            steps.keep(kept)
            open_, alive, last_step = [open_[k] for k in left], alive[kept], last_step[kept]
            last, ids, looked = (x.unflatten(0, (-1, beam))[kept].flatten(0, 1) for x in (last, ids, looked))
    return [own.best for own in whole]


def largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``x.topk(count)`` of (rows, numbers): the largest stand in the ``count`` blocks with the largest maxima, and
    maxima are found much faster than places."""
    whole = x.shape[1] // BLOCK
    if whole <= 2 * count:
        values, places = x.topk(count)
        return values, places
    blocks = x[:, : whole * BLOCK].unflatten(1, (whole, BLOCK))
    best = blocks.amax(-1).topk(count).indices.unsqueeze(-1)
    rest = torch.arange(whole * BLOCK, x.shape[1])
    places = torch.cat([(best * BLOCK + torch.arange(BLOCK)).flatten(1), rest.expand(len(x), -1)], 1)
    values, ranks = x.gather(1, places).topk(count)
    return values, places.gather(1, ranks)


class Ended:
    """The best hypotheses of a sentence that have ended; ``limit`` is the most pieces that one may have."""

    def __init__(self, beam: int, penalty: float, limit: int) -> None:
        self.beam, self.penalty, self.limit = beam, penalty, limit
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
        enough = len(self.best) == self.beam and self.best[-1].score >= alive / length**self.penalty
        self.closed |= enough or length > self.limit


def _encode(network: TranslationNetwork, source: Tensor, lengths: Tensor) -> tuple[Tensor, tuple[Any, Any]]:
    """As the network's, in an order of summation that the batch does not change."""
    x, final = network.source(source.T), None
    for layer in network.encoder:
        x, final = layer(x, lengths=lengths)
    finals = final if isinstance(final, tuple) else (final,)
    whole = torch.cat([part.transpose(0, 1).flatten(1) for part in finals], -1)
    return x, network.starts_of(Exact(network.bridge.weight, network.bridge.bias, then_tanh=True)(whole))


def _map(state: Any, change: Any) -> Any:
    return tuple(change(part) for part in state) if isinstance(state, tuple) else change(state)
