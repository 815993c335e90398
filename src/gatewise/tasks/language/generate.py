"""Texts from a network, written as they arise: many at once, each as it would be alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from gatewise.tasks.errors import InputError
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.language.sampling import Sampler, Sampling
from gatewise.tasks.language.steps import Ids, Steps, rows_of
from gatewise.tasks.text.tokenizers import Tokenizer

ROWS = 256
"""Texts that are written at once at most."""


def generate(
    network: LanguageNetwork,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    length: int,
    how: Sampling,
    seed: int,
    stop: Sequence[str] = (),
) -> Iterator[tuple[int, str]]:
    """Go on with each prompt; what comes is (number of the prompt, some more of its text).

    A text depends on the network, its own prompt, the options and the seed, and on how many equal prompts stand before
    its own: these get different texts.

    Args:
        network: in evaluation mode. prompts: each begins a document. length: tokens at most; a text ends before where
            the network says so. how: tokens are drawn. stop: texts before which a text ends.

    Raises:
        InputError: for a prompt with characters that the tokenizer does not know, or an empty text in ``stop``.
    """
    if any(not text for text in stop):
        raise InputError("stop must hold texts that are not empty, got ''")
    encoded = [tokenizer.encode(prompt).tolist() for prompt in prompts]
    seen: Counter[str] = Counter()
    texts = []
    for number, (prompt, ids) in enumerate(zip(prompts, encoded, strict=True)):
        texts.append(_Text(number, Sampler(how, seed, ids, seen[prompt], tokenizer.size), tokenizer, stop))
        seen[prompt] += 1
    return _written(network, texts, encoded, length, tokenizer.end)


def _written(
    network: LanguageNetwork, texts: Sequence[_Text], prompts: Sequence[Ids], length: int, end: int
) -> Iterator[tuple[int, str]]:
    if len(texts) == 1:
        yield from _alone(network, texts[0], prompts[0], length, end)
        return
    for start in range(0, len(texts), ROWS):
        yield from _together(network, texts[start : start + ROWS], prompts[start : start + ROWS], length, end)


def _together(
    network: LanguageNetwork, texts: Sequence[_Text], prompts: Sequence[Ids], length: int, end: int
) -> Iterator[tuple[int, str]]:
    steps = Steps(network, len(texts))
    logits = steps.begin(prompts, end)
    for done in range(1, length + 1):
        tokens = [text.take(row) for text, row in zip(texts, logits.numpy(), strict=True)]
        for text in texts:
            if text.new:
                yield text.number, text.new
                text.new = ""
        open_ = [row for row, text in enumerate(texts) if not text.closed]
        if not open_ or done == length:
            break
        if 2 * len(open_) <= len(texts):
            texts, tokens = [texts[row] for row in open_], [tokens[row] for row in open_]
            state, steps = rows_of(steps.state, torch.tensor(open_)), Steps(network, len(open_))
            steps.state = state
        logits = steps.step(tokens)
    for text in texts:
        if not text.closed and (left := text.finish()):
            yield text.number, left


def _alone(network: LanguageNetwork, text: _Text, prompt: Ids, length: int, end: int) -> Iterator[tuple[int, str]]:
    """As ``_together`` for one text, with little around each step: a small network takes 10 µs for it."""
    steps = Steps(network, 1)
    logits, number, take, step = steps.begin([prompt], end), text.number, text.take, steps.step
    row = logits.numpy()[0]
    for _ in range(length - 1):
        token = take(row)
        if text.new:
            yield number, text.new
        if text.closed:
            return
        if (new := step((token,))) is not logits:  # it comes in the same memory again
            logits, row = new, new.numpy()[0]
    take(row)
    if left := text.new + ("" if text.closed else text.finish()):
        yield number, left


class _Text:
    """A text that is being written. ``new``: what has not been handed on yet."""

    def __init__(self, number: int, sampler: Sampler, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self.number, self.new, self.closed = number, "", False
        self._sampler, self._end, self._stop = sampler, tokenizer.end, stop
        self._decoder = tokenizer.decoder()
        self._held = ""

    def take(self, logits: object) -> int:
        """Draw the next token; what it makes readable is in ``new``."""
        if self.closed:
            return self._end
        token = self._sampler(logits)  # type: ignore[arg-type]
        if token == self._end:
            self.new, self.closed = self.finish(), True
        elif self._stop:
            self.new = self._before_stop(self._held + self._decoder.push(token))
        else:
            self.new = self._decoder.push(token)
        return token

    def finish(self) -> str:
        """What is left where nothing more comes."""
        left, self._held = self._held + self._decoder.finish(), ""
        return left

    def _before_stop(self, text: str) -> str:
        """All of it that is certain to stand before the first stop."""
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.closed = True
            return text[: min(places)]
        kept = max(_begun(text, stop) for stop in self._stop)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _begun(text: str, stop: str) -> int:
    """How many characters at the end may be the beginning of a stop."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def likeliest(
    network: LanguageNetwork, tokenizer: Tokenizer, prompt: str, length: int, beam: int, length_penalty: float = 1.0
) -> list[tuple[str, float]]:
    """Beam search: the likeliest texts of at most ``length`` tokens that go on with a prompt, the best first.

    Args:
        beam: texts that are kept at each step, and returned at most. length_penalty: texts are compared by their
            log-probability, in nats, divided by their number of tokens to the power of this: 1 for means, 0 for sums.

    Returns:
        Each text with its log-probability.
    """
    steps, size, end = Steps(network, beam), tokenizer.size, tokenizer.end
    logits = steps.begin([tokenizer.encode(prompt).tolist()] * beam, end)
    alive = torch.full((beam,), -torch.inf)
    alive[0] = 0  # all begin alike
    texts: list[list[int]] = [[] for _ in range(beam)]
    ended: list[tuple[float, float, list[int]]] = []
    for done in range(1, length + 1):
        sums = alive[:, None] + logits.log_softmax(-1)
        for row in range(beam):
            total = float(sums[row, end])
            if total > -torch.inf:
                ended.append((total / done**length_penalty, total, texts[row]))
        sums[:, end] = -torch.inf
        alive, flat = sums.flatten().topk(min(beam, beam * (size - 1)))
        rows, tokens = flat // size, (flat % size).tolist()
        texts = [[*texts[row], token] for row, token in zip(rows.tolist(), tokens, strict=True)]
        ended = sorted(ended, key=lambda one: -one[0])[:beam]
        if done < length:
            steps.state = rows_of(steps.state, rows)
            logits = steps.step(tokens)
    whole = [(float(v) / length**length_penalty, float(v), ids) for v, ids in zip(alive, texts, strict=True)]
    best = sorted([*ended, *whole], key=lambda one: -one[0])[:beam]
    return [(tokenizer.decode(ids), total) for _, total, ids in best if total > -torch.inf]
