"""n-gram models that back off to shorter contexts: read from an ARPA file, or counted in a text."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from gatewise.tasks.errors import InputError
from gatewise.tasks.text.lines import read_lines
from gatewise.tasks.transcribe.guide import LanguageScorer

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL = {BEGIN, END, UNKNOWN, "<UNK>"}
SPACES = (" ", "<space>", "|", "▁")
"""What models of characters call a space."""
NEVER = -99 * math.log(10)
"""What ARPA files give to what cannot come."""
Gram = tuple[str, ...]


class BackOff:
    """Log-probabilities of n-grams in nats, and of contexts what their shorter form is multiplied by.

    Args:
        logs: of n-grams that occurred. backoffs: of contexts. order: the longest n.
    """

    def __init__(self, logs: dict[Gram, float], backoffs: dict[Gram, float], order: int) -> None:
        self.logs, self.backoffs, self.order = logs, backoffs, order
        self.unknown = next((name for name in (UNKNOWN, "<UNK>") if (name,) in logs), None)

    @classmethod
    def learn(cls, sentences: Iterable[Sequence[str]], order: int) -> BackOff:
        """By the counts of a text, smoothed after Witten and Bell (Chen and Goodman 1998, section 2.5).

        A context gives to shorter ones as much as there are different tokens behind it: that needs no counts of counts,
        which transcripts of few words or letters do not have.
        """
        counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
        for sentence in sentences:
            framed = (BEGIN, *sentence, END)
            for stop in range(2, len(framed) + 1):
                for n in range(1, min(order, stop) + 1):
                    counts[n - 1][framed[stop - n : stop]] += 1
        uniform = 1 / (len(counts[0]) + 1)
        logs: dict[Gram, float] = {}
        backoffs: dict[Gram, float] = {}
        below: dict[Gram, float] = defaultdict(lambda: uniform)
        for grams in counts:
            total: Counter[Gram] = Counter()
            kinds: Counter[Gram] = Counter()
            for gram, count in grams.items():
                total[gram[:-1]] += count
                kinds[gram[:-1]] += 1
            here = {}
            for gram, count in grams.items():
                context = gram[:-1]
                both = total[context] + kinds[context]
                here[gram] = (count + kinds[context] * below[gram[1:]]) / both
                backoffs[context] = math.log(kinds[context] / both)
            logs |= {gram: math.log(p) for gram, p in here.items()}
            below = here
        logs[(UNKNOWN,)] = backoffs.pop((), 0.0) + math.log(uniform)
        return cls(logs, backoffs, order)

    @classmethod
    def read(cls, path: Path) -> BackOff:
        """An ARPA file, gzipped or not.

        Raises:
            InputError: for a file of another kind.
        """
        logs: dict[Gram, float] = {}
        backoffs: dict[Gram, float] = {}
        order, begun = 0, False
        for number, line in enumerate(read_lines(path), 1):
            line = line.strip()
            if line.startswith("\\"):
                begun = begun or line == "\\data\\"
                order = int(line[1:].partition("-")[0]) if line.endswith("-grams:") else 0
            elif order and line and begun:
                columns = line.split()
                try:
                    gram = tuple(columns[1 : order + 1])
                    if len(gram) != order or len(columns) > order + 2:
                        raise ValueError
                    logs[gram] = max(float(columns[0]) * math.log(10), NEVER)
                    if len(columns) == order + 2:
                        backoffs[gram] = float(columns[-1]) * math.log(10)
                except ValueError:
                    raise InputError(
                        f"{path} line {number}: expected an n-gram of an ARPA file, got {line!r:.80}"
                    ) from None
        if not logs:
            raise InputError(f"{path} holds no n-grams: expected an ARPA file, which begins with \\data\\")
        return cls(logs, backoffs, max(map(len, logs)))

    def log_probability(self, context: Gram, token: str) -> float:
        """Of a token behind some others, of which the last ``order`` − 1 count."""
        total = 0.0
        for start in range(max(0, len(context) - self.order + 1), len(context) + 1):
            known = self.logs.get((*context[start:], token))
            if known is not None:
                return total + known
            total += self.backoffs.get(context[start:], 0.0)
        return total + (NEVER if self.unknown is None else self.logs[(self.unknown,)])

    def knows(self, token: str) -> bool:
        return (token,) in self.logs

    @property
    def of_letters(self) -> bool:
        """Whether its tokens are characters."""
        names = {gram[0] for gram in self.logs if len(gram) == 1} - SPECIAL
        return all(len(name) == 1 or name in SPACES for name in names)


class GramScorer(LanguageScorer):
    """An n-gram model of words or characters.

    A word that it does not know has the probability of unknown ones, and of its letters, each as likely as any other.

    Args:
        model: the n-grams. by_word: whether of words. letters: how many different ones there are.
    """

    def __init__(self, model: BackOff, by_word: bool, letters: int) -> None:
        self.model, self.by_word = model, by_word
        self._letter = -math.log(letters + 1)
        self._space = next((name for name in SPACES if model.knows(name)), SPACES[0])

    def start(self) -> Gram:
        return (BEGIN,)

    def extend(self, state: Gram, part: str) -> tuple[Gram, float]:
        token = self._space if part == " " else part
        added = 0.0
        if not self.model.knows(token):
            token = self.model.unknown or token
            added = (len(part) + 1) * self._letter if self.by_word else 0.0
        logs = self.model.log_probability(state, token)
        return self._last(state, token), logs + added

    def end(self, state: Gram) -> float:
        return self.model.log_probability(state, END)

    def _last(self, state: Gram, token: str) -> Gram:
        kept = self.model.order - 1
        return (*state, token)[-kept:] if kept else ()
