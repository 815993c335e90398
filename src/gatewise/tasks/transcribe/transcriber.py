"""The transcriber: the task protocol for recordings and their transcripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gatewise.nn import Recurrent
from gatewise.tasks.base import Scores, Task
from gatewise.tasks.checks import number_above_zero
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import CONFIG
from gatewise.tasks.training import Schedule
from gatewise.tasks.transcribe import sound
from gatewise.tasks.transcribe.batches import Masks, cut_by_duration, frames_of
from gatewise.tasks.transcribe.corpus import DATA_FILES, LARGE, TEST, TRAINING, VALIDATION, Corpus, Entry
from gatewise.tasks.transcribe.decoding import Decoding
from gatewise.tasks.transcribe.embedded import embedded
from gatewise.tasks.transcribe.features import Frames, Running, Statistics, log_mel
from gatewise.tasks.transcribe.guide import Guide
from gatewise.tasks.transcribe.live import Live
from gatewise.tasks.transcribe.metrics import Evaluation, most_frequent
from gatewise.tasks.transcribe.network import Make, SpeechNetwork
from gatewise.tasks.transcribe.objective import Example, Hearing, TranscriptionObjective
from gatewise.tasks.transcribe.options import EMBEDDED_EPOCHS, EPOCHS, TranscribeOptions, speeds_of
from gatewise.tasks.transcribe.recordings import Utterance, held_out, recordings
from gatewise.tasks.transcribe.sound import Clip, Samples
from gatewise.tasks.transcribe.units import Units, steps_needed
from gatewise.tasks.transcribe.writing import Transcript, emitted, likeliest, step_seconds, transcripts

LEAST_STEPS, MOST_STEPS = 25, 500
"""Between two validations."""
LONGEST_PAUSE = 3600.0
TIMED = 8
"""Held-out recordings that are transcribed to time it."""
Sound = str | Path | NDArray[Any] | tuple[NDArray[Any], float]


class Transcriber(Task):
    """A recurrent network that writes down what is said in recordings.

    Data: the path of a TSV file (sound file, tab, transcript; a speaker may stand between them), of a folder of sound
    files with a ``.txt`` beside each, of one in LibriSpeech's layout or with a ``metadata.csv`` (Hugging Face's
    audiofolder), or of a tar archive with such a TSV beside it; or a list of pairs (path, transcript). WAV, FLAC, OGG
    and MP3 at any rate. None stands for spelled names, addresses, numbers and control words (AN4).
    Without ``validation`` every tenth speaker is held out where they are known, else every tenth recording.

    An epoch is a pass over the recordings, but at least 25 steps and at most 500; it ends with the word error rate of
    the validation recordings.

    Raises:
        InputError: for a value out of range.
    """

    name: ClassVar[str] = "transcribe"
    metric = "WER"
    earlier: ClassVar[Mapping[str, Any]] = {"kernels": 0}
    pass_name: ClassVar[str] = f"{TIMED} recordings"
    layers: ClassVar[Make] = Recurrent
    """Makes the recurrent layers; here for comparison with others."""
    data_files: ClassVar[tuple[str, ...]] = DATA_FILES
    unchecked_files: ClassVar[tuple[str, ...]] = LARGE

    options_type = TranscribeOptions
    verbs: ClassVar[Mapping[str, str | type | None]] = {
        verb: f"gatewise.tasks.transcribe.verbs:{verb.title()}Transcription"
        for verb in ("fit", "predict", "score", "trace")
    }
    options: TranscribeOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.corpus: Corpus | None = None
        self.evaluation: Evaluation | None = None
        self.left_out: list[tuple[str, str]] = []

    # The protocol

    def read(self, data: Any, validation: Any = None) -> None:
        o = self.options
        parts, left_out = _parts(data, validation)
        length = {} if o.max_steps is not None else {"epochs": EMBEDDED_EPOCHS if data is None else EPOCHS}
        normalise = "running" if o.direction == "forward" else "utterance"
        self.options = o.filled({"window": 2 * o.stride, "normalise": normalise, **length})
        learn = partial(Units.learn, o.units, size=o.vocabulary_size)
        self.corpus = Corpus.of(parts, learn, o.lowercase, o.sample_rate, speeds_of(o.speeds), left_out)

    def build(self) -> nn.Module:
        o, make = self.options, type(self).layers
        return SpeechNetwork(
            o.cell,
            len(self.units),
            o.hidden_size,
            o.num_layers,
            stride=o.stride,
            window=int(o.window or o.stride),
            bidirectional=o.direction == "both",
            lookahead=o.lookahead,
            dropout=o.dropout,
            kernels=o.kernels,
            make=make if o.initialise == "torch" else partial(make, initialise=o.initialise),
        )

    def objective(self) -> TranscriptionObjective:
        o, corpus, held = self.options, self._corpus, self._corpus.parts[VALIDATION]
        hearing = Hearing(
            Masks(o.frequency_masks, o.frequency_width, o.time_masks, o.time_width),
            o.noise,
            frames_of(o.batch_seconds),
        )
        normalise = _Normalise(str(o.normalise), corpus.statistics, self._speakers(corpus.parts[TRAINING]))
        validation = self._frames(held), [one.text for one in held]
        write = partial(likeliest, self.network, self.units)
        return TranscriptionObjective(
            self.network, corpus.store, self._examples(), hearing, normalise, write, validation
        )

    def _examples(self) -> list[Example]:
        """What can be trained on; ``left_out`` gets the rest."""
        corpus, stride = self._corpus, self.options.stride
        found, self.left_out = [], list(corpus.left_out)
        for one in corpus.parts[TRAINING]:
            tokens = tuple(self.units.encode(one.text))
            steps, needed = -(-corpus.store.counts[one.items[0]] // stride), steps_needed(tokens)
            if steps >= needed:
                found.append(Example(corpus.key(one), one.items, tokens))
            else:
                why = f"its transcript needs {needed} steps of {stride * 10} ms, but its sound has {steps}"
                self.left_out.append((one.name, why))
        if not found:
            raise InputError(
                f"data: no recording is long enough for its transcript; {self.left_out[-1][0]}: {self.left_out[-1][1]}"
            )
        return found

    def steps_per_epoch(self) -> int:
        counts = self._corpus.store.counts
        lengths = np.array(sorted(counts[one.items[0]] for one in self._corpus.parts[TRAINING]))
        batches = sum(
            1 for _ in cut_by_duration(np.arange(len(lengths)), lengths, frames_of(self.options.batch_seconds))
        )
        return min(MOST_STEPS, max(LEAST_STEPS, batches))

    def schedule(self) -> Schedule:
        o = self.options
        plain = replace(super().schedule(), warmup=o.warmup, weight_decay=o.weight_decay, average=o.average)
        return replace(plain, keep_last=True)

    def sample_pass(self) -> Callable[[], object]:
        """The likeliest letters of 8 held-out recordings, from their frames."""
        frames = self._frames(self._corpus.parts[VALIDATION])
        some = [frames[k % len(frames)] for k in range(TIMED)]
        return lambda: likeliest(self.network, self.units, some)

    def save_data(self, folder: Path) -> None:
        self._corpus.save(folder)

    def load_data(self, folder: Path) -> None:
        undecided = [name for name in ("window", "normalise") if getattr(self.options, name) is None]
        if undecided:
            raise InputError(f"{folder / CONFIG} is damaged: its option {undecided[0]!r} is missing")
        self.corpus = Corpus.load(folder, self.options.sample_rate)

    def same_data(self, other: Transcriber) -> bool:
        return self._corpus.same(other._corpus)

    def predict(self, data: Any = None) -> list[str]:
        """What is said in a sound file or a list of them; in the held-out recordings when None. See ``transcribe``."""
        if data is None:
            return likeliest(self.network, self.units, self._frames(self._held()))
        return [best[0].text for best in self.transcribe(data if isinstance(data, list) else [data])]

    def score(self, data: Any = None) -> Scores:
        """Word and character error rates of recordings, in per cent, beside those of always the same transcript.

        Args:
            data: recordings with transcripts, as for ``fit``; None for those held out.
        """
        self.evaluation = self.evaluate(data)
        return self.evaluation.scores

    # Beyond the protocol

    def evaluate(self, data: Any = None, **decoding: Any) -> Evaluation:
        """What ``score`` says, and more: what was said and written in each recording.

        Args:
            data: as for ``score``. decoding: see ``gatewise.tasks.transcribe.decoding.Decoding``.
        """
        network, how = self.network, Decoding(**decoding)
        if data is None:
            entries, corpus = self._held(), self._corpus
        else:
            test = {TEST: recordings(data).utterances}
            corpus = Corpus.of(test, self.units, self.options.lowercase, self.options.sample_rate)
            entries = corpus.parts[TEST]
        guide = self.guide(how)
        seconds = step_seconds(network)
        found = [
            transcripts(one, guide, how.width, 1, seconds, times=False)[0].text
            for one in emitted(network, self._frames(entries, corpus))
        ]
        said = [one.text for one in entries]
        guess = most_frequent(self._said)
        written = {self.cell.name: found, "most frequent transcript": [guess] * len(said)}
        return Evaluation([one.name for one in entries], said, written)

    def transcribe(self, sounds: Sequence[Sound], **decoding: Any) -> list[list[Transcript]]:
        """The best texts of each recording, the best first, with the times of their words.

        A text depends on its own recording alone, whatever others there are; where frames are normalised by speaker,
        each recording is one.

        Args:
            sounds: paths of sound files; arrays of the model's rate, (samples,) or (samples, channels) between −1
                and 1; or pairs of such an array and its samples a second.
            decoding: see ``gatewise.tasks.transcribe.decoding.Decoding``.

        Raises:
            InputError: for what is no sound, or a value out of range.
        """
        network, how = self.network, Decoding(**decoding)
        if isinstance(sounds, (str, Path)):
            raise InputError("sounds must be a list of sounds, got one path")
        guide = self.guide(how)
        rate, seconds = self.options.sample_rate, step_seconds(network)
        frames = [self.normalised(log_mel(self.samples(one), rate)) for one in sounds]
        how_many = how.width, how.n_best, seconds, how.times
        return [transcripts(one, guide, *how_many) for one in emitted(network, frames)]

    def samples(self, recording: Sound) -> Samples:
        """A recording as the model hears it: (samples,), mono, at its rate."""
        rate = self.options.sample_rate
        if isinstance(recording, (str, Path)):
            return sound.read(Clip(Path(recording)), rate)
        array, own = recording if isinstance(recording, tuple) else (recording, rate)
        if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating):
            raise InputError(
                "a recording must be the path of a sound file or an array of floats, (samples,) or (samples, channels)"
            )
        return sound.converted(array, own, rate, "the recording")

    def live(self, rate: int | None = None, pause: float | None = None, **decoding: Any) -> Live:
        """Text while sound arrives, with the letters that ``transcribe`` gives to the whole.

        Args:
            rate: samples a second of what will come; None for the model's. pause: seconds without a letter behind which
                another text begins; None for one text. decoding: see ``transcribe``.

        Raises:
            InputError: for a model that reads in both directions or needs whole recordings to normalise them; for a
                pause that is not above 0.
        """
        network, how, o = self.network, Decoding(**decoding), self.options
        if pause is not None:
            number_above_zero(LONGEST_PAUSE)("pause", pause)
        if o.direction == "forward" and o.normalise != "running":
            raise InputError(
                f"the model normalises frames by each {o.normalise}, so it cannot write while it listens: fit one with "
                "--normalise running"
            )
        guide = self.guide(how)
        steps = None if pause is None else max(1, round(pause / step_seconds(network)))
        return Live(network, o.sample_rate, self._corpus.statistics, guide, how.width, rate, steps)

    def normalised(self, frames: Frames) -> Frames:
        """Frames of a recording of somebody whom nobody knows, as the network reads them."""
        kind = str(self.options.normalise)
        return _Normalise("utterance" if kind == "speaker" else kind, self._corpus.statistics, {})("", frames)

    def guide(self, how: Decoding | None = None) -> Guide:
        """What steers a search; without anything asked for, nothing does."""
        return (how or Decoding()).guide(self.units, self._said, self.options.lowercase)

    @property
    def faults(self) -> list[tuple[str, str]]:
        """What is wrong with the sound of the recordings that were read: names, and that one is silent or clipped."""
        return list(self._corpus.store.faults)

    @property
    def network(self) -> SpeechNetwork:
        module = self.fitted()
        assert isinstance(module, SpeechNetwork)
        return module

    @property
    def units(self) -> Units:
        """What the model writes.

        Raises:
            InputError: before ``fit``, ``resume`` or ``load``.
        """
        return self._corpus.units

    @property
    def _corpus(self) -> Corpus:
        if self.corpus is None:
            self.fitted()  # raises
        assert self.corpus is not None
        return self.corpus

    @property
    def _said(self) -> list[str]:
        """The transcripts of the training."""
        return [one.text for one in self._corpus.parts[TRAINING]]

    def _held(self) -> list[Entry]:
        parts = self._corpus.parts
        return parts.get(TEST, parts[VALIDATION])

    def _speakers(self, entries: Sequence[Entry], corpus: Corpus | None = None) -> dict[str, Statistics]:
        return (corpus or self._corpus).speakers(entries) if self.options.normalise == "speaker" else {}

    def _frames(self, entries: Sequence[Entry], corpus: Corpus | None = None) -> list[Frames]:
        """The frames of recordings as the network reads them."""
        corpus = corpus or self._corpus
        how = _Normalise(str(self.options.normalise), self._corpus.statistics, self._speakers(entries, corpus))
        return [how(corpus.key(one), corpus.store[one.items[0]]) for one in entries]


def _parts(data: Any, validation: Any) -> tuple[dict[str, list[Utterance]], list[tuple[str, str]]]:
    """What to train on, to validate on and, of the embedded speech, to test with; and what was left out."""
    if data is None:
        if validation is not None:
            raise InputError("validation: the embedded speech brings its own, expected none without data")
        whole, test = embedded()
        training, held = held_out(whole)
        return {TRAINING: training, VALIDATION: held, TEST: test}, []
    found = recordings(data)
    if validation is None:
        training, held = held_out(found.utterances)
        return {TRAINING: training, VALIDATION: held}, found.left_out
    other = recordings(validation, "validation")
    return {TRAINING: found.utterances, VALIDATION: other.utterances}, found.left_out + other.left_out


class _Normalise:
    """Frames as the network reads them: by each utterance, by its speaker, or as they come."""

    def __init__(self, kind: str, start: Statistics, speakers: Mapping[str, Statistics]) -> None:
        self.kind, self.start, self.speakers = kind, start, speakers

    def __call__(self, key: str, frames: Frames) -> Frames:
        if self.kind == "running":
            return Running(self.start).push(frames)
        own = self.speakers[key] if self.kind == "speaker" else Statistics.of([frames])
        return own.normalised(frames)
