"""The translator: the task protocol for pairs of sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn

from gatewise.nn import Recurrent
from gatewise.tasks.base import Scores, Task
from gatewise.tasks.checks import check_integer
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import CONFIG, read_json, write_bytes, write_json
from gatewise.tasks.text.normalise import prepare
from gatewise.tasks.text.vocabulary import END, UNKNOWN, Sentence, Vocabulary
from gatewise.tasks.training import Schedule
from gatewise.tasks.translate import search
from gatewise.tasks.translate.batches import Batch, batch_of
from gatewise.tasks.translate.looking import Looking, look
from gatewise.tasks.translate.metrics import Dictionary, Evaluation
from gatewise.tasks.translate.network import Make, TranslationNetwork
from gatewise.tasks.translate.objective import TranslationObjective
from gatewise.tasks.translate.options import EPOCHS, PHRASES, TEXTS, TranslateOptions
from gatewise.tasks.translate.pairs import Pairs, read_pairs, write_pairs
from gatewise.tasks.translate.phrases import phrases
from gatewise.tasks.translate.sides import Sides

TRAINING, VALIDATION, TEST, VOCABULARY = "train.tsv.gz", "validation.tsv.gz", "test.tsv.gz", "vocabulary.json"
STEPS_PER_EPOCH = 1000
MOST_VALIDATION = 1000
MOST_BEAM = 1000
TIMED = 64
"""Sentences that are translated to time it."""


@dataclass(frozen=True)
class Translation:
    """A translation in words, its log-probability, the same per piece as ``score``, and the ids of its pieces."""

    text: str
    score: float
    log_probability: float
    ids: tuple[int, ...]


class Translator(Task):
    """A recurrent network that translates sentences.

    Data: the path of a TSV file (source, tab, target), a tuple of the paths of two aligned files, or a list of pairs of
    texts; ``.gz`` is unpacked. None stands for numbers, dates and sums in English and French words. Without
    ``validation`` every twentieth pair is held out, a thousand at most.

    What is None depends on the data. The decoder has two layers; ``num_layers`` are of the encoder. An epoch is a pass
    over the pairs, or 1000 steps; it ends with the BLEU of the validation pairs.

    Raises:
        InputError: for a value out of range.
    """

    name: ClassVar[str] = "translate"
    metric = "BLEU"
    higher_is_better: ClassVar[bool] = True
    size_multiple: ClassVar[int] = 2
    pass_name: ClassVar[str] = f"{TIMED} sentences"
    layers: ClassVar[Make] = Recurrent
    """Makes the recurrent layers; here for comparison with others."""
    data_files: ClassVar[tuple[str, ...]] = (TRAINING, VALIDATION, TEST, VOCABULARY)

    options_type = TranslateOptions
    verbs: ClassVar[Mapping[str, str | type | None]] = {
        verb: f"gatewise.tasks.translate.verbs:{verb.title()}Translation"
        for verb in ("fit", "predict", "score", "trace")
    } | {"export": "gatewise.tasks.translate.export:ExportTranslation"}
    options: TranslateOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pairs: dict[str, Pairs] = {}
        self.vocabularies: tuple[Vocabulary, Vocabulary] | None = None
        self.left_out: list[int] = []
        self.evaluation: Evaluation | None = None

    # The protocol

    def read(self, data: Any, validation: Any = None) -> None:
        if data is None:
            if validation is not None:
                raise InputError("validation: the embedded phrases bring their own, expected none without data")
            parts = phrases()
            self.pairs = {TRAINING: parts.training, VALIDATION: parts.validation, TEST: parts.test}
            self._decide(PHRASES, EPOCHS["phrases"])
        else:
            self.pairs = _split(
                read_pairs(data), None if validation is None else read_pairs(validation), self.options.seed
            )
            self._decide(TEXTS, EPOCHS["texts"])
            sides = Sides(self.pairs[TRAINING])
            for part in self.pairs.values():
                sides.check(part)
        self._learn()
        self._leave_out()

    def _decide(self, defaults: Mapping[str, Any], epochs: int) -> None:
        """Fill the options that depend on the data."""
        if self.options.max_steps is None:
            defaults = {**defaults, "epochs": epochs}
        self.options = self.options.filled(defaults)

    def _learn(self) -> None:
        """The vocabularies, from the training pairs."""
        o, pairs = self.options, self.pairs[TRAINING]
        source, target = self._prepared(pairs.source), self._prepared(pairs.target)
        kind, size = str(o.vocabulary), o.vocabulary_size
        if o.joint:
            both = Vocabulary.learn(source + target, kind, size)
            self.vocabularies = both, both
        else:
            self.vocabularies = Vocabulary.learn(source, kind, size), Vocabulary.learn(target, kind, size)

    def _leave_out(self) -> None:
        """Take the pairs out that are too long for training."""
        pairs, longest = self.pairs[TRAINING], self.options.longest
        lengths = [max(len(s), len(t)) for s, t in zip(*self._coded(pairs), strict=True)]
        kept = [k for k, length in enumerate(lengths) if length <= longest]
        if not kept:
            raise InputError(f"longest of {longest} leaves no pair: the shortest has a side of {min(lengths)} pieces")
        self.left_out = [pairs.lines[k] for k, length in enumerate(lengths) if length > longest]
        if self.left_out:
            self.pairs[TRAINING] = pairs.take(kept)

    def _coded(self, pairs: Pairs) -> tuple[list[list[int]], list[list[int]]]:
        """Both sides in pieces."""
        source, target = self.vocabulary
        found = source.encode(self._prepared(pairs.source)), target.encode(self._prepared(pairs.target))
        return [one.ids for one in found[0]], [one.ids for one in found[1]]

    def build(self) -> nn.Module:
        o = self.options
        source, target = self.vocabulary
        return TranslationNetwork(
            o.cell,
            None if o.joint else len(source),
            len(target),
            int(o.embedding_size or 0),
            int(o.hidden_size or 0) // 2,
            int(o.hidden_size or 0),
            o.num_layers,
            o.decoder,
            float(o.dropout or 0),
            make=partial(type(self).layers, initialise=o.initialise) if o.initialise != "torch" else type(self).layers,
        )

    def objective(self) -> TranslationObjective:
        o, validation = self.options, self.pairs[VALIDATION]
        texts = self._prepared(validation.source), self._prepared(validation.target)
        coded, smoothing = self._coded(self.pairs[TRAINING]), float(o.label_smoothing or 0)
        return TranslationObjective(self.network, *coded, o.batch_size, smoothing, self._greedily, texts)

    def teaching(self, pairs: Pairs) -> Batch:
        """Pairs as the network reads them in training: the right pieces so far, whatever it would have said."""
        return batch_of(*self._coded(pairs))

    def _greedily(self, network: TranslationNetwork, texts: Sequence[str]) -> list[str]:
        sentences = self.encoded(texts)
        found = search.translate(network, [one.ids for one in sentences], 1, 1, 1.0, None)
        return [self._text(best[0], sentence) for best, sentence in zip(found, sentences, strict=True)]

    def steps_per_epoch(self) -> int:
        return min(STEPS_PER_EPOCH, -(-len(self.pairs[TRAINING]) // self.options.batch_size))

    def schedule(self) -> Schedule:
        return replace(super().schedule(), average=float(self.options.average or 0))

    def sample_pass(self) -> Callable[[], object]:
        """Greedy translation of 64 held-out sentences."""
        texts = list(self._held_out(None).source)[:TIMED]
        texts = [texts[k % len(texts)] for k in range(TIMED)]
        return lambda: self.translate(texts, beam_size=1)

    def save_data(self, folder: Path) -> None:
        for name, pairs in self.pairs.items():
            write_bytes(folder / name, write_pairs(pairs))
        source, target = self.vocabulary
        write_json(
            folder / VOCABULARY, {"source": None if source is target else source.to_json(), "target": target.to_json()}
        )

    def load_data(self, folder: Path) -> None:
        undecided = [name for name in TEXTS if getattr(self.options, name) is None]
        if undecided:
            raise InputError(f"{folder / CONFIG} is damaged: its option {undecided[0]!r} is missing")
        found = read_json(folder / VOCABULARY)
        target = Vocabulary.from_json(found.get("target"))
        self.vocabularies = target if found.get("source") is None else Vocabulary.from_json(found["source"]), target
        self.pairs = {name: read_pairs(folder / name) for name in (TRAINING, VALIDATION)}
        if (folder / TEST).is_file():
            self.pairs[TEST] = read_pairs(folder / TEST)

    def same_data(self, other: Translator) -> bool:
        own, others = self.pairs, other.pairs
        return own.keys() == others.keys() and all(pairs.same(others[name]) for name, pairs in own.items())

    def predict(self, data: Any = None) -> list[str]:
        """Translations of a text or a list of texts; of the held-out sources when None."""
        return self.translate(self.texts(data))

    def positions(self, data: Any = None) -> tuple[list[str], None]:
        return self.encoded(self.texts(data)[:1])[0].pieces, None

    def texts(self, data: Any = None) -> Sequence[str]:
        """What ``predict(data)`` translates."""
        if data is None:
            return list(self._held_out(None).source)
        return [data] if isinstance(data, str) else data

    def score(self, data: Any = None) -> Scores:
        """BLEU, chrF and exact translations (per cent) of held-out pairs, beside copies and a dictionary.

        Args:
            data: pairs, as for ``fit``; when None those held out: the test part of the embedded phrases, else the
                validation pairs.
        """
        found = self.evaluate(data)
        self.evaluation = found
        return found.scores

    # Beyond the protocol

    def evaluate(self, data: Any = None, beam_size: int = 5) -> Evaluation:
        """What ``score`` says, and more: BLEU by length, the translations themselves."""
        self.fitted()
        pairs = self._held_out(data)
        source, target = self._prepared(pairs.source), self._prepared(pairs.target)
        dictionary = Dictionary(self.pairs[TRAINING])
        by_name = {
            self.cell.name: self.translate(source, beam_size),
            "dictionary": [dictionary.translate(text) for text in source],
            "copy": source,
        }
        return Evaluation(source, target, by_name)

    def translate(
        self, texts: Sequence[str], beam_size: int = 5, length_penalty: float = 1.0, max_length: int | None = None
    ) -> list[str]:
        """Translate texts; see ``translations`` for the arguments."""
        return [best[0].text for best in self.translations(texts, beam_size, 1, length_penalty, max_length)]

    def translations(
        self,
        texts: Sequence[str],
        beam_size: int = 5,
        n_best: int = 1,
        length_penalty: float = 1.0,
        max_length: int | None = None,
    ) -> list[list[Translation]]:
        """The best translations of every text, the best first.

        Args:
            texts: one sentence each. beam_size: hypotheses kept at each step; 1 is greedy. n_best: at most beam_size.
            length_penalty: 1 compares log-probabilities per piece, 0 whole ones. max_length: pieces; for None twice
                those of the text and ten.

        Raises:
            InputError: for what is no text or an empty one, or a number out of range.
        """
        check_integer("beam_size", beam_size, 1, MOST_BEAM)
        check_integer("n_best", n_best, 1, beam_size)
        if max_length is not None:
            check_integer("max_length", max_length, 1, 10**6)
        network = self.network
        sentences = self.encoded(texts)
        ids = [one.ids for one in sentences]
        found = search.translate(network, ids, beam_size, n_best, length_penalty, max_length)
        return [
            [Translation(self._text(one, sentence), one.score, one.log_probability, one.ids) for one in best]
            for best, sentence in zip(found, sentences, strict=True)
        ]

    def look(self, text: str, beam_size: int = 5) -> Looking:
        """The translation of a text from inside: attention, and the gate that keeps the state."""
        best = self.translations([text], beam_size)[0][0]
        source, target = self.encoded([text])[0], self.vocabulary[1]
        pieces = [*(target.pieces[i] for i in best.ids), target.pieces[END]]
        return Looking(source.pieces, pieces, best.text, *look(self.network, source.ids, best.ids))

    @property
    def network(self) -> TranslationNetwork:
        module = self.fitted()
        assert isinstance(module, TranslationNetwork)
        return module

    @property
    def vocabulary(self) -> tuple[Vocabulary, Vocabulary]:
        """Those of the source and of the target; one where they share it."""
        assert self.vocabularies is not None
        return self.vocabularies

    def _prepared(self, texts: Sequence[str]) -> list[str]:
        return prepare(texts, self.options.lowercase, self.options.normalise)

    def encoded(self, texts: Sequence[str]) -> list[Sentence]:
        """Texts in pieces of the source; raises InputError for what is no text or an empty one."""
        if isinstance(texts, str):
            raise InputError("texts must be a list of texts, got one text")
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise InputError(f"texts must be a list of texts, got {type(text).__name__} as number {number}")
            if not text.strip():
                raise InputError(f"text {number} is empty, expected a sentence")
        return self.vocabulary[0].encode(self._prepared(texts))

    def _text(self, one: search.Hypothesis, sentence: Sentence) -> str:
        """The words of a translation; an unknown one is copied from where its attention was."""
        target = self.vocabulary[1]
        pieces = [
            sentence.pieces[one.looked_at[k]] if i == UNKNOWN else target.pieces[i] for k, i in enumerate(one.ids)
        ]
        return target.join(pieces)

    def _held_out(self, data: Any) -> Pairs:
        self.fitted()
        if data is None:
            return self.pairs.get(TEST, self.pairs[VALIDATION])
        pairs = read_pairs(data)
        Sides(self.pairs[TRAINING]).check(pairs)
        return pairs


def _split(pairs: Pairs, validation: Pairs | None, seed: int) -> dict[str, Pairs]:
    """Training and validation pairs."""
    if validation is not None:
        return {TRAINING: pairs, VALIDATION: validation}
    held = min(MOST_VALIDATION, len(pairs) // 20)
    if not held:
        raise InputError(f"{pairs.origin} has {len(pairs)} pairs, expected 20 or more, or validation data beside it")
    order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
    return {TRAINING: pairs.take(sorted(order[held:])), VALIDATION: pairs.take(sorted(order[:held]))}
