"""What steers a search beside the sound: a language model, a bonus for words, a list of allowed words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

from gatewise.tasks.transcribe.units import Units


class LanguageScorer(ABC):
    """Gives log-probabilities, in nats, to a text that grows."""

    by_word: bool
    """Whether it is asked for whole words, else for characters, spaces between words among them."""

    @abstractmethod
    def start(self) -> Any:
        """Before the first word or character."""

    @abstractmethod
    def extend(self, state: Any, part: str) -> tuple[Any, float]:
        """With one more word or character: what comes next, and the log-probability of this part."""

    @abstractmethod
    def end(self, state: Any) -> float:
        """The log-probability that the text ends here."""


class State(NamedTuple):
    """Of a text so far: the language model's, the letters since the last space, and whether there is a word before."""

    model: Any
    word: str
    follows: bool


class Guide:
    """Adds to the score of a text as it grows, token by token.

    Characters are scored as they come, words where they end. Spaces that come first, or follow one another, count as
    none of the text.

    Args:
        units: of the transcriber. scorer: the language model; None for none. weight: of its log-probability.
        word_bonus: nats for each word. words: the only ones allowed; None for all.
    """

    def __init__(
        self,
        units: Units,
        scorer: LanguageScorer | None = None,
        weight: float = 1.0,
        word_bonus: float = 0.0,
        words: Iterable[str] | None = None,
    ) -> None:
        self.units, self.scorer, self.weight, self.word_bonus = units, scorer, weight, word_bonus
        self.tokens = units.written
        self._words = None if words is None else set(words)
        self._beginnings = {word[:k] for word in self._words or () for k in range(1, len(word) + 1)}

    @property
    def free(self) -> bool:
        """Whether it changes nothing."""
        return self.scorer is None and self._words is None and self.word_bonus == 0

    def start(self) -> State:
        return State(None if self.scorer is None else self.scorer.start(), "", False)

    def extend(self, state: State, token: int) -> tuple[State, float] | None:
        """With one more token: the state, and what it adds to the score; None where it is not allowed."""
        added = 0.0
        for character in self.units.pieces[token] or "":
            found = self._space(state) if character == " " else self._letter(state, character)
            if found is None:
                return None
            state, added = found[0], added + found[1]
        return state, added

    def end(self, state: State) -> float | None:
        """What the end of the text adds; None where it may not end."""
        added = 0.0
        if state.word:
            found = self._finished(state)
            if found is None:
                return None
            state, added = found
        return added if self.scorer is None else added + self.weight * self.scorer.end(state.model)

    def _letter(self, state: State, letter: str) -> tuple[State, float] | None:
        word = state.word + letter
        if self._words is not None and word not in self._beginnings:
            return None
        if self.scorer is None or self.scorer.by_word:
            return state._replace(word=word), 0.0
        model, added = state.model, 0.0
        if not state.word and state.follows:  # the space before the word, once it is known to come
            model, logs = self.scorer.extend(model, " ")
            added += self.weight * logs
        model, logs = self.scorer.extend(model, letter)
        return State(model, word, state.follows), added + self.weight * logs

    def _space(self, state: State) -> tuple[State, float] | None:
        return self._finished(state) if state.word else (state, 0.0)

    def _finished(self, state: State) -> tuple[State, float] | None:
        """A word has ended."""
        if self._words is not None and state.word not in self._words:
            return None
        if self.scorer is None or not self.scorer.by_word:
            return State(state.model, "", True), self.word_bonus
        model, logs = self.scorer.extend(state.model, state.word)
        return State(model, "", True), self.word_bonus + self.weight * logs
