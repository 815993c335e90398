"""How a network takes in covariates: numbers as they are, words as embeddings."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gatewise.tasks.forecast.beside import Part, Widths

WIDEST = 16
"""Numbers of an embedding at most."""


class Told(NamedTuple):
    """Covariates (B, …) of windows as tensors; see ``Beside``."""

    past: Tensor
    future: Tensor
    static: Tensor


class Channels(nn.Module):
    """From columns as in ``Part`` to numbers alone, each code of a word replaced by its embedding.

    A missing word (0) and one that training did not see (1) begin as nothing, and the latter stays so.
    """

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.numbers = part.numbers
        tables = [nn.Embedding(words + 2, min(WIDEST, 1 + words // 2)) for words in part.words]
        for table in tables:
            nn.init.zeros_(table.weight[:2].detach())
        self.words = nn.ModuleList(tables)
        self.width = part.numbers + sum(table.embedding_dim for table in tables)

    def forward(self, x: Tensor) -> Tensor:
        codes = x[..., self.numbers :].long()
        return torch.cat([x[..., : self.numbers], *(e(codes[..., i]) for i, e in enumerate(self.words))], -1)


class Beside(nn.Module):
    """The parts of a direct network that read covariates.

    Those of the window are added to what a segment's values are projected to; those of the horizon to what its segments
    read, and each step of it, by itself, to the forecast; static ones to both. What they add to a forecast begins at 0.

    Args:
        widths: of the covariates. segment: values in a step. width: of what the recurrent layer reads.
        outputs: numbers for each step of the horizon. gappy: whether the layer reads the values of a segment as they
            are.
    """

    def __init__(self, widths: Widths, segment: int, width: int, outputs: int, gappy: bool) -> None:
        super().__init__()
        self.segment = segment
        self.past, self.future, self.static = (Channels(part) for part in widths)
        self.project = None if gappy else nn.Linear(self.past.width * segment + self.static.width, width)
        ahead = self.future.width * segment + self.static.width
        self.words = nn.Linear(ahead, width) if ahead else None
        self.direct = nn.Linear(self.future.width, outputs, bias=False) if self.future.width else None
        if self.direct is not None:
            nn.init.zeros_(self.direct.weight)

    @staticmethod
    def gappy_width(widths: Widths, segment: int) -> int:
        """How many variables beside its values a segment has for a cell that reads them itself."""
        past, _, static = (Channels(part).width for part in widths)
        return past * segment + static

    def segments(self, told: Told) -> Tensor:
        """What a segment of the window has beside its values (B, S, …)."""
        return self._in_segments(self.past(told.past), told)

    def ahead(self, words: Tensor, told: Told) -> Tensor:
        """The words of the segments of the horizon (…, ahead, width) with what their covariates add."""
        if self.words is None:
            return words
        future = self.future(told.future)
        whole = nn.functional.pad(future, (0, 0, 0, -future.shape[1] % self.segment))  # a horizon may end in a segment
        told_words: Tensor = words + self.words(self._in_segments(whole, told))
        return told_words

    def effect(self, said: Tensor, told: Told) -> Tensor:
        """A forecast (B, horizon, outputs) with what the covariates of each step add."""
        if self.direct is not None:
            said = said + self.direct(self.future(told.future))
        return said

    def _in_segments(self, x: Tensor, told: Told) -> Tensor:
        steps = x.reshape(len(x), x.shape[1] // self.segment, self.segment * x.shape[2])
        static = self.static(told.static).unsqueeze(1).expand(-1, steps.shape[1], -1)
        return torch.cat([steps, static], -1)
