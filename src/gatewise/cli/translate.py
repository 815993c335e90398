"""``gatewise fit translate``, and what predict, score and trace do with a translator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from gatewise.cli.common import (
    Backend,
    Integer,
    Json,
    Precision,
    Real,
    Text,
    directory,
    given,
    print_scores,
    print_table,
)
from gatewise.cli.fit import app, run_fit
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps, new_file, write_bytes
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.pairs import lines_of

File = Optional[Path]  # noqa: UP045
Pairs = Annotated[
    File,
    typer.Argument(help="TSV: source, tab, target; may be .gz.", show_default="numbers, dates and sums, embedded"),
]
Source = Annotated[File, typer.Option(help="In place of a TSV: sentences, line by line,")]
Target = Annotated[File, typer.Option(help="and their translations.")]
Decoder = Annotated[Text, typer.Option(help="attention or final (state).", show_default="attention")]
Embedding = Annotated[Integer, typer.Option(show_default="256; embedded data: 96")]
Kind = Annotated[Text, typer.Option(help="bpe or words.", show_default="bpe; embedded data: words")]
SUFFIXES = (".png", ".svg", ".pdf")
MOST_SHOWN = 10
FLAGS = ("lowercase", "normalise")
NO_OPTIONS = {"data", "source", "target", "validation", "validation_source", "validation_target"}
NO_OPTIONS |= {"output", "resume", "devices", "backend", "json"}


@app.command("translate")
def fit_translate(
    data: Pairs = None,
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", parser=directory, help="Directory of the run; must be new."),
    ],
    source: Source = None,
    target: Target = None,
    validation: Annotated[File, typer.Option(help="TSV to validate on.", show_default="a part of the data")] = None,
    validation_source: Annotated[File, typer.Option(help="In place of it: two files.")] = None,
    validation_target: File = None,
    cell: Annotated[Text, typer.Option(help="Cell; see `gatewise cells`.", show_default="gru")] = None,
    decoder: Decoder = None,
    hidden_size: Annotated[Integer, typer.Option(show_default="512; embedded data: 192")] = None,
    embedding_size: Embedding = None,
    num_layers: Annotated[Integer, typer.Option(help="Of the encoder.", show_default="1")] = None,
    dropout: Annotated[Real, typer.Option(show_default="0.3; embedded data: 0.1")] = None,
    label_smoothing: Annotated[Real, typer.Option(show_default="0.1; embedded data: 0")] = None,
    vocabulary: Kind = None,
    vocabulary_size: Annotated[Integer, typer.Option(help="Pieces at most.", show_default="8000")] = None,
    joint: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--joint/--separate", help="Vocabulary of both languages.", show_default="joint; embedded: not"),
    ] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Lower-case all texts first.")] = False,
    normalise: Annotated[bool, typer.Option("--normalise", help="Plain quotes, dashes, spaces first.")] = False,
    longest: Annotated[Integer, typer.Option(help="Pieces of a side.", show_default="128")] = None,
    batch_size: Annotated[Integer, typer.Option(help="Pairs.", show_default="96")] = None,
    average: Annotated[Real, typer.Option(help="Decay of averaged weights.", show_default="0.998")] = None,
    epochs: Annotated[Integer, typer.Option(help="Passes, or 1000 steps.", show_default="30; embedded: 8")] = None,
    max_steps: Annotated[Integer, typer.Option(help="Steps in all.", show_default="no limit")] = None,
    learning_rate: Annotated[Real, typer.Option(help="At its peak.", show_default="0.001; embedded: 0.004")] = None,
    patience: Annotated[Integer, typer.Option(help="Epochs without improvement.", show_default="8")] = None,
    seed: Annotated[Integer, typer.Option(help="Same seed, same result.", show_default="0")] = None,
    devices: Annotated[int, typer.Option(help="Processes that share every batch.")] = 1,
    precision: Precision = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Train a translator of sentences."""
    asked = locals()
    options = given(asked, without=NO_OPTIONS | {name for name in FLAGS if not asked[name]})
    chosen = pair_files(data, source, target, "")
    held = pair_files(validation, validation_source, validation_target, "validation-")
    task = run_fit("translate", chosen, held, output, resume, devices, backend, json, options)
    if not json:
        _after_fit(task)


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


def _after_fit(task: Translator) -> None:
    if task.left_out:
        lines = ", ".join(map(str, task.left_out[:MOST_SHOWN])) + (" …" if len(task.left_out) > MOST_SHOWN else "")
        longest = task.options()["longest"]
        print(f"{len(task.left_out)} pairs with more than {longest} pieces on a side were left out: lines {lines}")
    wrong = [] if task.evaluation is None else task.evaluation.wrong
    if wrong and task.scores[task.cell.name]["exact"] > 50:  # else it is no exercise with one right answer
        print(f"{len(wrong)} of the held-out pairs are not exact, among them:")
        print_table(["source", "expected", "translated"], wrong[:MOST_SHOWN])


def predict(
    task: Translator, text: str | None, beam: int, n_best: int, scores: bool, max_length: int | None, json: bool
) -> None:
    """Translate a text, or the lines of standard input: from a terminal one by one, else all at once. An empty line of
    standard input is an empty line of the output, so that lines stay side by side."""
    if text is None and sys.stdin.isatty():
        for line in sys.stdin:
            _translate(task, [line.rstrip("\n")], beam, n_best, scores, max_length, json)
    elif text is None:
        lines = lines_of(sys.stdin.buffer.read(), "standard input")
        _translate(task, lines, beam, n_best, scores, max_length, json)
    elif text.strip():
        _translate(task, [text], beam, n_best, scores, max_length, json)
    else:
        raise InputError(f"INPUT must be a sentence to translate, got {text!r}")


def _translate(
    task: Translator, texts: list[str], beam: int, n_best: int, scores: bool, max_length: int | None, json: bool
) -> None:
    """Print the translations of texts, which may be empty."""
    translations = iter(task.translations([t for t in texts if t.strip()], beam, n_best, max_length=max_length))
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
            print(f"{one.score:.4f}\t{one.text}" if scores else one.text)
        if not best:
            print()


def score(task: Translator, data: str | None, source: Path | None, target: Path | None, beam: int, json: bool) -> None:
    """BLEU and chrF, by name and by length."""
    from gatewise.tasks.translate.metrics import signatures

    found = task.evaluate(pair_files(None if data is None else Path(data), source, target, ""), beam)
    if json:
        print(dumps({"scores": found.scores, "by_length": found.by_length, "signatures": signatures()}), end="")
        return
    print_scores(found.scores, f"{len(found.source)} pairs, per cent")
    names = list(found.scores)
    rows = [(title, f"{v['pairs']:.0f}", *(f"{v[name]:.3f}" for name in names)) for title, v in found.by_length.items()]
    print_table(["BLEU by length of the source", "pairs", *names], rows)
    for name, signature in signatures().items():
        print(f"{name}  {signature}")


def trace(task: Translator, text: str | None, output: str, json: bool) -> None:
    """Attention and the gate that keeps the state, over the words."""
    from gatewise.tasks.translate.picture import draw

    if text is None:
        raise InputError("INPUT is missing: expected a sentence to translate")
    picture = new_file(output, SUFFIXES)
    table = new_file(picture.with_suffix(".csv"), (".csv",))
    found = task.look(text)
    draw(found, picture)
    write_bytes(table, found.csv().encode())
    if json:
        attention = None if found.attention is None else found.attention.tolist()
        pieces = {"source": found.source, "target": found.target, "attention": attention, "gate": found.gate}
        print(dumps({"translation": found.translation, **pieces, "picture": str(picture), "table": str(table)}), end="")
        return
    print(f"{found.translation}\n{picture}\n{table}")
