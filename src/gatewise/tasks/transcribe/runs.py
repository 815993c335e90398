"""A run of ``gatewise fit language`` as the language model of a search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.language.language_model import LanguageModel
from gatewise.tasks.language.steps import Steps
from gatewise.tasks.transcribe.guide import LanguageScorer


@dataclass
class _Place:
    """Behind a token of a text: its state is computed when something behind it is asked for."""

    before: _Place | None
    token: int
    state: Any = None
    logs: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


class RunScorer(LanguageScorer):
    """A recurrent language model, one token after another; of characters, or of whole words' tokens.

    Raises:
        InputError: for a directory without such a model, or one of characters that lacks some of the ``letters``.
    """

    def __init__(self, directory: Path, letters: Iterable[str]) -> None:
        model = LanguageModel.load(directory)
        self._tokenizer = model.tokenizer
        self.by_word = self._tokenizer.kind != "char"
        if not self.by_word:
            self._tokenizer.encode("".join(sorted(letters)) + " ")
        self._steps = Steps(model.network, 1)
        self._begin = _Place(None, self._tokenizer.end)
        self._take(self._begin, self._steps.begin([[]], self._tokenizer.end))

    def start(self) -> _Place:
        return self._begin

    def extend(self, state: _Place, part: str) -> tuple[_Place, float]:
        text = f" {part}" if self.by_word and state is not self._begin else part
        total = 0.0
        for token in self._tokenizer.encode(text).tolist():
            total += self._log(state, token)
            state = _Place(state, token)
        return state, total

    def end(self, state: _Place) -> float:
        return self._log(state, self._tokenizer.end)

    def _log(self, place: _Place, token: int) -> float:
        if place.state is None:
            assert place.before is not None
            self._steps.state = place.before.state
            self._take(place, self._steps.step([place.token]))
        return float(place.logs[token])

    def _take(self, place: _Place, logits: Any) -> None:
        place.state, place.logs = self._steps.state, logits[0].log_softmax(-1).numpy()
