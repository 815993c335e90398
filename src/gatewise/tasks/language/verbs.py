"""The language model on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps
from gatewise.tasks.language.language_model import LanguageModel
from gatewise.tasks.language.objective import printed
from gatewise.tasks.language.sampling import Sampling
from gatewise.tasks.options import argument, option
from gatewise.tasks.outcome import verdict
from gatewise.tasks.verbs import Fit, Verb, print_table, printable

SAMPLE = 300
"""Tokens that a fitted model writes."""
TEXT = "Files, folders, globs or - for standard input; .gz and .zst are unpacked."


@dataclass(frozen=True, kw_only=True)
class FitLanguage(Fit):
    """Train a language model: it reads text and learns to write more of it."""

    data: tuple[Path, ...] | None = argument(None, TEXT, metavar="DATA", shown="English text, embedded", several=True)
    validation: tuple[Path, ...] | None = option(
        None, "Text to validate on; may be given again.", shown="the last part of the data", several=True
    )

    def chosen(self) -> Any:
        return _paths(self.data)

    def held(self) -> Any:
        return _paths(self.validation)

    def after(self, task: LanguageModel) -> None:
        print("it writes:")
        print(printable(printed(task.generate("", SAMPLE, temperature=0.8))))


@dataclass(frozen=True, kw_only=True)
class PredictLanguage(Verb):
    """Write text that goes on with a prompt; it appears as it is written."""

    prompt: tuple[str, ...] | None = option(
        None, "What the text begins with; may be given again.", shown="nothing", several=True
    )
    length: int = option(500, "Tokens at most; the model may end before.")
    temperature: float = option(1.0, "Below 1 likely tokens become likelier; 0 takes the likeliest.")
    top_k: int | None = option(None, "Only so many of the likeliest tokens can come.", shown="all")
    top_p: float = option(1.0, "Only the likeliest that together have this probability.")
    min_p: float = option(0.0, "Only those with this share of the likeliest one's probability.")
    repetition_penalty: float = option(1.0, "Above 1 what occurred becomes less likely.")
    stop: tuple[str, ...] | None = option(
        None, "Text before which it ends; may be given again.", shown="none", several=True
    )
    seed: int = option(0, "Same seed, same text.")
    beam: int | None = option(None, "Width of a search for the likeliest text, in place of drawing.", shown="draw")

    def run(self, task: LanguageModel, model: Path, json: bool) -> None:
        prompts = list(self.prompt or ("",))
        pieces = self._searched(task, prompts) if self.beam is not None else self._drawn(task, prompts)
        if json:
            texts = _joined(pieces, len(prompts))
            record = [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
            print(dumps({"texts": record}), end="")
            return
        try:
            _show(prompts, pieces)
        except KeyboardInterrupt:
            print(flush=True)
            print("gatewise: interrupted; the text is as far as it was written", file=sys.stderr)
            raise
        print(flush=True)

    def _drawn(self, task: LanguageModel, prompts: list[str]) -> Iterator[tuple[int, str]]:
        how = {f.name: getattr(self, f.name) for f in fields(Sampling)}
        return task.generate(prompts, self.length, stream=True, stop=list(self.stop or ()), seed=self.seed, **how)

    def _searched(self, task: LanguageModel, prompts: list[str]) -> Iterator[tuple[int, str]]:
        drawn = [f.name for f in fields(Sampling) if getattr(self, f.name) != f.default]
        drawn += ["stop"] if self.stop else []
        if drawn:
            name = drawn[0].replace("_", "-")
            raise InputError(f"--{name} is for drawn texts, but --beam asks for the likeliest: give one of them")
        assert self.beam is not None
        found = [task.likeliest(prompt, self.length, beam=self.beam)[0][0] for prompt in prompts]
        return iter(enumerate(found))


def _show(prompts: list[str], pieces: Iterator[tuple[int, str]]) -> None:
    """The first text as it is written, the others behind it."""
    others = [""] * len(prompts)
    print(printable(prompts[0]), end="", flush=True)
    for number, piece in pieces:
        if number == 0:
            print(printable(piece), end="", flush=True)
        else:
            others[number] += piece
    for prompt, text in zip(prompts[1:], others[1:], strict=True):
        print(f"\n\n{printable(prompt + text)}", end="")


def _joined(pieces: Iterator[tuple[int, str]], count: int) -> list[str]:
    texts = [""] * count
    for number, piece in pieces:
        texts[number] += piece
    return texts


@dataclass(frozen=True, kw_only=True)
class ScoreLanguage(Verb):
    """Nats and bits per character of DATA, or of what was held out, beside n-gram models of the training text."""

    data: tuple[Path, ...] | None = argument(None, TEXT, metavar="DATA", shown="what was held out", several=True)

    def run(self, task: LanguageModel, model: Path, json: bool) -> None:
        scores = task.score(_paths(self.data))
        if json:
            print(dumps({"scores": scores}), end="")
            return
        names = list(next(iter(scores.values())))
        header = {"nats": "nats/character", "bits": "bits/character", "perplexity": "perplexity of a token"}
        rows = [(name, *(f"{values[key]:.4f}" for key in names)) for name, values in scores.items()]
        print_table(["held out" if self.data is None else "text", *(header.get(key, key) for key in names)], rows)
        if sentence := verdict(scores, task.metric, task.higher_is_better):
            print(sentence)


def _paths(given: tuple[Path, ...] | None) -> list[Path] | None:
    return None if given is None else list(given)
