"""How recordings are turned into text: what a user may ask for, and the guide that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.tasks.checks import check_integer
from gatewise.tasks.errors import InputError
from gatewise.tasks.text.lines import read_lines
from gatewise.tasks.text.normalise import prepare
from gatewise.tasks.text.sources import sources
from gatewise.tasks.transcribe.grams import BackOff, GramScorer
from gatewise.tasks.transcribe.guide import Guide, LanguageScorer
from gatewise.tasks.transcribe.runs import RunScorer
from gatewise.tasks.transcribe.units import Units

TRANSCRIPTS = "transcripts"
ARPA = (".arpa", ".arpa.gz")
LM_UNITS = ("word", "char")
ORDERS = {"word": 3, "char": 6}
MOST_BEAM, MOST_ORDER = 10_000, 20
BEAM = 16
"""Where a language model, a list of words or several texts are asked for and no width is."""


@dataclass(frozen=True)
class Decoding:
    """How text is found.

    Args:
        beam: prefixes that a search keeps; 1 takes the likeliest letter at each step; None for 16 where anything else
            is asked for, else 1. n_best: texts of a recording.
        lm: ``transcripts`` for an n-gram model of those of the training; a text file, whose lines are sentences; an
            ARPA file (``.arpa``); the directory of a language model's run. lm_unit: of an n-gram model, ``word`` or
            ``char``. lm_order: the longest n. lm_weight: of its log-probabilities. word_bonus: nats for each word.
        words: a file with the words that are allowed, whatever separates them, or a sequence of them.
        times: whether the times of words are wanted.

    Raises:
        InputError: for a value out of its range.
    """

    beam: int | None = None
    n_best: int = 1
    lm: str | Path | None = None
    lm_unit: str = "word"
    lm_order: int | None = None
    lm_weight: float = 0.5
    word_bonus: float = 0.0
    words: str | Path | Sequence[str] | None = None
    times: bool = True

    def __post_init__(self) -> None:
        if self.beam is not None:
            check_integer("beam", self.beam, 1, MOST_BEAM)
        check_integer("n_best", self.n_best, 1, MOST_BEAM)
        check_integer("n_best", self.n_best, 1, self.width)
        if self.lm_order is not None:
            check_integer("lm_order", self.lm_order, 1, MOST_ORDER)
        if self.lm_unit not in LM_UNITS:
            raise InputError(f"lm_unit must be one of {', '.join(LM_UNITS)}, got {self.lm_unit!r}")
        for name in ("lm_weight", "word_bonus"):
            value: Any = getattr(self, name)
            if not isinstance(value, (int, float)) or not abs(value) <= 1000:
                raise InputError(f"{name} must be a number between -1000 and 1000, got {value!r}")

    @property
    def width(self) -> int:
        """Prefixes that are kept."""
        if self.beam is not None:
            return self.beam
        return 1 if self.plain else max(BEAM, self.n_best)

    @property
    def plain(self) -> bool:
        """Whether the likeliest letter at each step is all that is wanted."""
        return self.beam in (None, 1) and self.n_best == 1 and self.lm is None and self.words is None

    def guide(self, units: Units, transcripts: Sequence[str], lowercase: bool) -> Guide:
        """What steers the search.

        Args:
            units: of the transcriber. transcripts: of its training. lowercase: whether they were made so.

        Raises:
            InputError: for a language model or words that cannot be read.
        """
        scorer = None if self.lm is None else self._scorer(units, transcripts, lowercase)
        return Guide(units, scorer, self.lm_weight, self.word_bonus, self._allowed(units, lowercase))

    def _scorer(self, units: Units, transcripts: Sequence[str], lowercase: bool) -> LanguageScorer:
        path, letters = Path(str(self.lm)), units.letters
        if str(self.lm) == TRANSCRIPTS:
            return self._counted(list(transcripts), len(letters))
        if path.is_dir():
            return RunScorer(path, letters)
        if path.name.endswith(ARPA):
            model = BackOff.read(path)
            return GramScorer(model, not model.of_letters, len(letters))
        lines = "".join(piece.text for piece in sources(path).pieces()).splitlines()
        return self._counted([line for line in prepare(lines, lowercase, normalise=False) if line], len(letters))

    def _counted(self, sentences: list[str], letters: int) -> LanguageScorer:
        if not sentences:
            raise InputError(f"lm: {self.lm} holds no text, expected sentences")
        by_word = self.lm_unit == "word"
        order = self.lm_order or ORDERS[self.lm_unit]
        return GramScorer(BackOff.learn((s.split() if by_word else s for s in sentences), order), by_word, letters)

    def _allowed(self, units: Units, lowercase: bool) -> list[str] | None:
        if self.words is None:
            return None
        given = read_lines(Path(self.words)) if isinstance(self.words, (str, Path)) else list(self.words)
        words = [word for line in prepare(given, lowercase, normalise=False) for word in line.split()]
        known = [word for word in words if set(word) <= units.letters]
        if not known:
            letters = "".join(sorted(units.letters))
            raise InputError(f"words: none of {len(words)} can be written with the training's letters, {letters}")
        return known
