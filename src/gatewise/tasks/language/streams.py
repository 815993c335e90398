"""Windows for truncated back-propagation: each row of a batch is a stream that goes on from window to window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gatewise.tasks.errors import InputError
from gatewise.tasks.language.store import Tokens
from gatewise.tasks.objective import own_rows
from gatewise.tasks.text.tokenizers import Ids


class Window(NamedTuple):
    """Some steps of all streams: (T, B) int64 tokens and those that follow them; (T, B) bool where a document begins,
    so that the state of before does not count."""

    given: Tensor
    wanted: Tensor
    reset: Tensor

    def share(self, rank: int, world: int) -> Window:
        """The streams of one of ``world`` processes."""
        own = own_rows(self.given.shape[1], rank, world)
        return Window(self.given[:, own], self.wanted[:, own], self.reset[:, own])


class Streams:
    """The documents as one ring, cut into streams of equal length.

    Every pass turns the ring by a random number of tokens first. The first token that a stream is given is ``end``,
    which begins documents and with it all that begins anywhere: so a pass needs nothing of the one before, and a model
    learns how to begin, even from a single document.

    Args:
        tokens: at least two. batch_size: streams. steps: tokens of a window. Of few tokens both are made less.

    Raises:
        InputError: for too few tokens.
    """

    def __init__(self, tokens: Tokens, batch_size: int, steps: int) -> None:
        if len(tokens) < 2:
            raise InputError("data: the text to train on is empty")
        self.tokens = tokens
        self.rows = max(1, min(batch_size, len(tokens) // steps))
        self.steps = min(steps, len(tokens) // self.rows)

    @property
    def windows(self) -> int:
        """Of a pass. The tokens that are left over are others each time."""
        return len(self.tokens) // self.rows // self.steps

    def passes(self, generator: np.random.Generator) -> Iterator[Window]:
        """Windows of one pass after the other, without end."""
        while True:
            yield from self.windows_from(int(generator.integers(len(self.tokens))))

    def windows_from(self, turn: int) -> Iterator[Window]:
        """Windows of one pass over the ring turned by ``turn`` tokens."""
        count, each = len(self.tokens), len(self.tokens) // self.rows
        begins = (turn + each * np.arange(self.rows)) % count
        for start in range(0, each - self.steps + 1, self.steps):
            read = np.stack([self._read(int(begin) + start) for begin in begins], 1).astype(np.int64)
            given, wanted = read[:-1].copy(), read[1:]
            if start == 0:
                given[0] = self.tokens.end
            reset = given == self.tokens.end
            yield Window(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (given, wanted, reset)))

    def _read(self, place: int) -> Ids:
        """A window's tokens and one more, around the ring."""
        count = len(self.tokens)
        place %= count
        found: Ids = self.tokens.ids[place : place + self.steps + 1]
        left = self.steps + 1 - len(found)
        return found if left == 0 else np.concatenate([found, self.tokens.ids[:left]])
