"""The transcriber on the command line."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from json import dumps as one_line
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.tasks.checks import check_integer
from gatewise.tasks.errors import InputError
from gatewise.tasks.figures import SUFFIXES
from gatewise.tasks.folder import dumps, new_file, write_bytes
from gatewise.tasks.options import argument, option
from gatewise.tasks.outcome import verdict
from gatewise.tasks.transcribe.decoding import BEAM, LM_UNITS, ORDERS, Decoding
from gatewise.tasks.transcribe.looking import look
from gatewise.tasks.transcribe.metrics import Evaluation, character_errors, word_errors
from gatewise.tasks.transcribe.picture import draw
from gatewise.tasks.transcribe.sound import faults
from gatewise.tasks.transcribe.transcriber import Transcriber
from gatewise.tasks.transcribe.writing import Transcript
from gatewise.tasks.verbs import Fit, Trace, Verb, print_table, printable

LOG = logging.getLogger("gatewise")
TABLE = "TSV (sound file, tab, transcript), folder of sound and .txt, LibriSpeech, audiofolder, or tar with a TSV."
MOST_SHOWN = 10
SAMPLE_BYTES = 2
LOUDEST = 32768.0
CHUNK = 0.1
"""Seconds of sound that live text is written after."""


@dataclass(frozen=True, kw_only=True)
class FitTranscription(Fit):
    """Train a transcriber: recordings in, what is said in them out."""

    data: Path | None = argument(None, TABLE, metavar="DATA", shown="spelled names and numbers, embedded")
    validation: Path | None = option(None, "Recordings to validate on, as DATA.", shown="some speakers or recordings")

    def chosen(self) -> Any:
        return self.data

    def held(self) -> Any:
        return self.validation

    def after(self, task: Transcriber) -> None:
        _listed(f"left out of training, {len(task.left_out)}:", task.left_out)
        _listed(f"faults of sound, {len(task.faults)}:", task.faults)
        if task.evaluation is not None:
            print_worst(task.evaluation)


@dataclass(frozen=True, kw_only=True)
class _Decoded(Verb):
    """What verbs that write text have in common; see ``Decoding``."""

    beam: int | None = option(
        None, "Prefixes that a search keeps; 1 takes the likeliest letters.", shown=f"1, or {BEAM} with what follows"
    )
    lm: str | None = option(
        None, "Language model: a text, an ARPA file, a run of `fit language`, or `transcripts`.", shown="none"
    )
    lm_unit: str = option("word", f"Of an n-gram model from a text: {' or '.join(LM_UNITS)}.")
    lm_order: int | None = option(
        None, "Its longest n-grams.", shown=", ".join(f"{order} of {unit}s" for unit, order in ORDERS.items())
    )
    lm_weight: float = option(0.5, "Weight of its log-probabilities.")
    word_bonus: float = option(0.0, "Nats for each word.")
    words: Path | None = option(None, "A file with the only words that may be written.", shown="all")

    def decoding(self) -> dict[str, Any]:
        """As arguments of ``Decoding``."""
        return {f.name: getattr(self, f.name) for f in fields(Decoding) if hasattr(self, f.name)}


@dataclass(frozen=True, kw_only=True)
class PredictTranscription(_Decoded):
    """Write down what is said in sound FILES, or while it arrives on standard input."""

    files: tuple[Path, ...] | None = argument(
        None, "WAV, FLAC, OGG or MP3.", metavar="FILES", shown="the held-out recordings", several=True
    )
    n_best: int = option(1, "Texts of each recording.")
    timestamps: bool = option(False, "The seconds of each word.")
    live: bool = option(False, "From standard input: 16-bit mono samples, little-endian, without a header.")
    rate: int | None = option(None, "Samples a second of standard input.", shown="the model's")
    pause: float | None = option(
        None, "Seconds without a letter that end a text of --live; the next is another line.", shown="none do"
    )

    def run(self, task: Transcriber, model: Path, json: bool) -> None:
        if self.live:
            if self.files or self.timestamps or self.n_best != 1:
                raise InputError("--live reads standard input and writes one text: expected no files, no other option")
            self._listen(task, json)
            return
        if self.rate is not None or self.pause is not None:
            raise InputError("--rate and --pause are of the standard input of --live; sound files say their own")
        if self.files is None:
            print("\n".join(map(printable, task.predict())))
            return
        self._write(task, list(self.files), json)

    def _write(self, task: Transcriber, files: list[Path], json: bool) -> None:
        samples = [task.samples(file) for file in files]
        for file, own in zip(files, samples, strict=True):
            for fault in faults(own):
                LOG.warning("%s: %s", file, fault)
        found = task.transcribe(samples, times=self.timestamps or json, **self.decoding())
        if json:
            record = [
                {"file": str(file), "texts": [asdict(one) for one in best]}
                for file, best in zip(files, found, strict=True)
            ]
            print(dumps({"transcripts": record}), end="")
            return
        for file, best in zip(files, found, strict=True):
            for one in best:
                self._print(one, str(file) if len(files) > 1 else "")

    def _print(self, one: Transcript, name: str) -> None:
        before = f"{printable(name)}\t" if name else ""
        before += f"{one.score:.3f}\t" if self.n_best > 1 else ""
        print(f"{before}{printable(one.text)}")
        if self.timestamps:
            for word in one.words:
                print(f"  {word.start:8.2f} {word.end:8.2f}  {printable(word.word)}")

    def _listen(self, task: Transcriber, json: bool) -> None:
        """On a terminal the text grows in its line; else each change is a line, as JSON where asked."""
        rate = task.options.sample_rate if self.rate is None else self.rate
        check_integer("rate", rate, 1000, 1_000_000)
        live = task.live(rate, self.pause, **{k: v for k, v in self.decoding().items() if k != "n_best"})
        shown, heard, busy, longest = "", 0, 0.0, 0.0
        for piece in _pieces(round(CHUNK * rate)):
            started, before = time.perf_counter(), len(live.finished)
            text = live.push(piece)
            took = time.perf_counter() - started
            heard, busy, longest = heard + len(piece), busy + took, max(longest, took)
            for done in live.finished[before:]:
                _show(done, heard / rate, json, last=True)
                shown = ""
            if text != shown:
                shown = text
                _show(text, heard / rate, json, last=False)
        started, before = time.perf_counter(), len(live.finished)
        text = live.finish()
        busy += time.perf_counter() - started
        texts = live.finished[before:]
        for done in [*texts, text] if text or not live.finished else texts:
            _show(done, heard / rate, json, last=True)
        if heard:
            LOG.info(
                "%.1f s of sound: real-time factor %.3f, at most %.1f ms for each piece of %.0f ms",
                *(heard / rate, busy * rate / heard, 1000 * longest, 1000 * CHUNK),
            )


def _pieces(size: int) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Standard input as samples between −1 and 1, as they come."""
    stream: Any = sys.stdin.buffer
    rest = b""
    while raw := stream.read1(size * SAMPLE_BYTES):
        rest += raw
        whole = len(rest) - len(rest) % SAMPLE_BYTES
        if whole:
            yield (np.frombuffer(rest[:whole], "<i2") / LOUDEST).astype(np.float32)
        rest = rest[whole:]


def _show(text: str, seconds: float, json: bool, last: bool) -> None:
    if json:
        print(one_line({"seconds": seconds, "text": text, "final": last}, ensure_ascii=False), flush=True)
    elif sys.stdout.isatty():
        print(f"\r\033[K{printable(text)}", end="\n" if last else "", flush=True)
    else:
        print(printable(text), flush=True)


@dataclass(frozen=True, kw_only=True)
class ScoreTranscription(_Decoded):
    """Word and character errors on DATA, or on what was held out, and the recordings with most of them."""

    data: Path | None = argument(None, TABLE, metavar="DATA", shown="what was held out")
    worst: int = option(MOST_SHOWN, "Recordings to show.")

    def run(self, task: Transcriber, model: Path, json: bool) -> None:
        check_integer("worst", self.worst, 0, 10**9)
        found = task.evaluate(self.data, **self.decoding())
        if not json:
            print_errors(task, found, self.worst)
            return
        rows = zip(found.names, found.said, next(iter(found.written.values())), strict=True)
        record = [{"name": name, "said": said, "written": written} for name, said, written in rows]
        print(dumps({"scores": found.scores, "recordings": record}), end="")


def print_errors(task: Transcriber, found: Evaluation, worst: int = MOST_SHOWN) -> None:
    """Errors with what they consist of, and the recordings with most of them."""
    said = found.said
    header = [f"{len(said)} recordings", "%", "of", "substituted", "left out", "put in"]
    for name, errors in (("words", word_errors), ("characters", character_errors)):
        each = {who: errors(said, written) for who, written in found.written.items()}
        rows = [
            (who, f"{e.rate:.2f}", f"{e.length}", *map(str, (e.substitutions, e.deletions, e.insertions)))
            for who, e in each.items()
        ]
        print_table([header[0], f"{name}: wrong, {header[1]}", *header[2:]], rows)
    if sentence := verdict(found.scores, task.metric, task.higher_is_better):
        print(sentence)
    print_worst(found, worst)


def print_worst(found: Evaluation, worst: int = MOST_SHOWN) -> None:
    """The recordings with most errors."""
    wrong = found.worst
    if wrong and worst:
        print(f"{len(wrong)} of {len(found.said)} recordings are not exact, those with most errors:")
        rows = [(name, str(errors.edits), said, written) for name, errors, said, written in wrong[:worst]]
        print_table(["recording", "errors", "said", "written"], rows)


def _listed(title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        print(title)
        for name, why in rows[:MOST_SHOWN]:
            print(printable(f"  {name}: {why}"))
        if len(rows) > MOST_SHOWN:
            print(f"  and {len(rows) - MOST_SHOWN} more")


@dataclass(frozen=True, kw_only=True)
class TraceTranscription(Trace):
    """A recording from inside: its sound, its spectrogram, the letters and the gates, over the same seconds."""

    def run(self, task: Transcriber, model: Path, json: bool) -> None:
        if self.data is None:
            raise InputError("INPUT is missing: expected a sound file")
        picture = new_file(self.output, SUFFIXES)
        table = new_file(picture.with_suffix(".csv"), (".csv",))
        found = look(task, self.data)
        draw(found, picture)
        write_bytes(table, found.csv().encode())
        if json:
            words = [asdict(word) for word in found.transcript.words]
            summary = {"text": found.transcript.text, "words": words, "gate": found.gate}
            print(dumps({**summary, "picture": str(picture), "table": str(table)}), end="")
            return
        print(f"{printable(found.transcript.text)}\n{picture}\n{table}")
