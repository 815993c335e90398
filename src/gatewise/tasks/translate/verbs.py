"""The translator on the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.tasks.errors import InputError
from gatewise.tasks.figures import SUFFIXES
from gatewise.tasks.folder import dumps, new_file, write_bytes
from gatewise.tasks.options import argument, option
from gatewise.tasks.text.lines import lines_of
from gatewise.tasks.translate.metrics import signatures
from gatewise.tasks.translate.picture import draw
from gatewise.tasks.translate.translator import Translator
from gatewise.tasks.verbs import Fit, Trace, Verb, print_scores, print_table

MOST_SHOWN = 10
BEAM = 5


@dataclass(frozen=True, kw_only=True)
class FitTranslation(Fit):
    """Train a translator of sentences."""

    data: Path | None = argument(
        None, "TSV: source, tab, target; may be .gz.", metavar="DATA", shown="numbers, dates and sums, embedded"
    )
    source: Path | None = option(None, "In place of a TSV: sentences, line by line,", shown="")
    target: Path | None = option(None, "and their translations.", shown="")
    validation: Path | None = option(None, "TSV to validate on.", shown="a part of the data")
    validation_source: Path | None = option(None, "In place of it: sentences, line by line,", shown="")
    validation_target: Path | None = option(None, "and their translations.", shown="")

    def chosen(self) -> Any:
        return pair_files(self.data, self.source, self.target, "")

    def held(self) -> Any:
        return pair_files(self.validation, self.validation_source, self.validation_target, "validation-")

    def after(self, task: Translator) -> None:
        if task.left_out:
            lines = ", ".join(map(str, task.left_out[:MOST_SHOWN])) + (" …" if len(task.left_out) > MOST_SHOWN else "")
            longest = task.options.longest
            print(f"{len(task.left_out)} pairs with more than {longest} pieces on a side were left out: lines {lines}")
        wrong = [] if task.evaluation is None else task.evaluation.wrong
        if wrong and task.scores[task.cell.name]["exact"] > 50:  # else it is no exercise with one right answer
            print(f"{len(wrong)} of the held-out pairs are not exact, among them:")
            print_table(["source", "expected", "translated"], wrong[:MOST_SHOWN])


@dataclass(frozen=True, kw_only=True)
class PredictTranslation(Verb):
    """Translate TEXT, or the lines of standard input."""

    text: str | None = argument(None, "A sentence.", metavar="TEXT", shown="standard input, line by line")
    beam: int = option(BEAM, "Width of the search.")
    n_best: int = option(1, "Translations of each text.")
    scores: bool = option(False, "Log-probability per piece, before a translation.")
    max_length: int | None = option(None, "Pieces of a translation.", shown="twice the source's and ten")

    def run(self, task: Translator, model: Path, json: bool) -> None:
        """From a terminal lines are translated one by one, else all at once. An empty line of standard input is an
        empty line of the output, so that lines stay side by side."""
        if self.text is None and sys.stdin.isatty():
            for line in sys.stdin:
                self._translate(task, [line.rstrip("\n")], json)
        elif self.text is None:
            self._translate(task, lines_of(sys.stdin.buffer.read(), "standard input"), json)
        elif self.text.strip():
            self._translate(task, [self.text], json)
        else:
            raise InputError(f"TEXT must be a sentence to translate, got {self.text!r}")

    def _translate(self, task: Translator, texts: list[str], json: bool) -> None:
        """Print the translations of texts, which may be empty."""
        wanted = [text for text in texts if text.strip()]
        translations = iter(task.translations(wanted, self.beam, self.n_best, max_length=self.max_length))
        found = [next(translations) if text.strip() else [] for text in texts]
        if json:
            record = [
                {"source": source, "translations": [{"text": t.text, "score": t.score} for t in best]}
                for source, best in zip(texts, found, strict=True)
            ]
            print(dumps({"translations": record}), end="")
            return
        for best in found:
            for one in best:
                print(f"{one.score:.4f}\t{one.text}" if self.scores else one.text)
            if not best:
                print()


@dataclass(frozen=True, kw_only=True)
class ScoreTranslation(Verb):
    """BLEU and chrF on DATA, or on what was held out, beside copies and a dictionary."""

    data: Path | None = argument(None, "TSV: source, tab, target.", metavar="DATA", shown="what was held out")
    source: Path | None = option(None, "In place of a TSV: sentences, line by line,", shown="")
    target: Path | None = option(None, "and their translations.", shown="")
    beam: int = option(BEAM, "Width of the search.")

    def run(self, task: Translator, model: Path, json: bool) -> None:
        found = task.evaluate(pair_files(self.data, self.source, self.target, ""), self.beam)
        if json:
            print(dumps({"scores": found.scores, "by_length": found.by_length, "signatures": signatures()}), end="")
            return
        print_scores(task, found.scores, f"{len(found.source)} pairs, per cent")
        names = list(found.scores)
        rows = [(title, f"{v['pairs']:.0f}", *(f"{v[n]:.3f}" for n in names)) for title, v in found.by_length.items()]
        print_table(["BLEU by length of the source", "pairs", *names], rows)
        for name, signature in signatures().items():
            print(f"{name}  {signature}")


@dataclass(frozen=True, kw_only=True)
class TraceTranslation(Trace):
    """Attention and the gate that keeps the state, over the words of a sentence and its translation."""

    def run(self, task: Translator, model: Path, json: bool) -> None:
        if self.data is None:
            raise InputError("INPUT is missing: expected a sentence to translate")
        picture = new_file(self.output, SUFFIXES)
        table = new_file(picture.with_suffix(".csv"), (".csv",))
        found = task.look(self.data)
        draw(found, picture)
        write_bytes(table, found.csv().encode())
        if not json:
            print(f"{found.translation}\n{picture}\n{table}")
            return
        attention = None if found.attention is None else found.attention.tolist()
        pieces = {"source": found.source, "target": found.target, "attention": attention, "gate": found.gate}
        print(dumps({"translation": found.translation, **pieces, "picture": str(picture), "table": str(table)}), end="")


def pair_files(table: Path | None, source: Path | None, target: Path | None, prefix: str) -> Any:
    """What the task reads: one file, or two."""
    if source is None and target is None:
        return table
    if table is not None:
        raise InputError(f"--{prefix}source and --{prefix}target stand for a TSV file, but {table} was given too")
    if source is None or target is None:
        missing = "source" if source is None else "target"
        raise InputError(f"--{prefix}{missing} is missing: expected --{prefix}source and --{prefix}target together")
    return source, target
