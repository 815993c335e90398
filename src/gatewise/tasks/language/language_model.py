"""The language model: the task protocol for texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gatewise.nn import Recurrent
from gatewise.tasks.base import Scores, Task
from gatewise.tasks.checks import MOST, MOST_SEED, check_integer
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import CONFIG
from gatewise.tasks.language.corpus import FILES, LARGE, Corpus
from gatewise.tasks.language.generate import generate, likeliest
from gatewise.tasks.language.heads import Adaptive
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.language.ngrams import NGrams
from gatewise.tasks.language.objective import LanguageObjective
from gatewise.tasks.language.options import (
    EMBEDDED_STEPS,
    EMBEDDING,
    EMBEDDING_OF_PIECES,
    STEPS,
    LanguageOptions,
    ranks,
)
from gatewise.tasks.language.sampling import Sampling
from gatewise.tasks.language.scoring import Surprises, characters, surprises, total_nats
from gatewise.tasks.language.steps import Steps
from gatewise.tasks.language.store import Tokens, tokens_of
from gatewise.tasks.language.streams import Streams
from gatewise.tasks.text.sources import sources
from gatewise.tasks.text.tokenizers import Ids, Tokenizer
from gatewise.tasks.training import Schedule

LEAST_STEPS, MOST_STEPS = 25, 500
"""Between two validations."""
BETAS = (0.9, 0.99)
PREDICTED = 200
"""Tokens that ``predict`` writes."""
READ = 128
"""Characters of the held-out text that ``predict`` goes on with where nothing is given."""
TIMED = 64
SHOWN = {" ": "␣", "\n": "↵", "\t": "⇥"}
"""Characters that nobody sees in a picture."""


class LanguageModel(Task):
    """A recurrent network that predicts and writes text.

    Data: a path, a folder, a glob or ``-`` for standard input; a list of ``pathlib.Path`` for several; a list of str
    for texts; ``.gz`` and ``.zst`` are unpacked. None stands for the embedded English text, the reference that comes
    with every Python. The text may be larger than memory. Without ``validation`` its last part is held out, cut at a
    document where one begins near.

    An epoch is a pass over the text, or 500 steps; it ends with the nats per character of the validation text.

    Raises:
        InputError: for a value out of range.
    """

    name: ClassVar[str] = "language"
    metric = "nats"
    pass_name: ClassVar[str] = f"{TIMED} tokens, one by one"
    layers: ClassVar[Callable[..., Any]] = Recurrent
    """Makes the recurrent layers; here for comparison with others."""
    data_files: ClassVar[tuple[str, ...]] = FILES
    unchecked_files: ClassVar[tuple[str, ...]] = LARGE

    options_type = LanguageOptions
    verbs: ClassVar[Mapping[str, str | type | None]] = {
        verb: f"gatewise.tasks.language.verbs:{verb.title()}Language" for verb in ("fit", "predict", "score")
    } | {"export": "gatewise.tasks.language.export:ExportLanguage"}
    options: LanguageOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.corpus: Corpus | None = None
        self._ngrams: NGrams | None = None

    # The protocol

    def read(self, data: Any, validation: Any = None) -> None:
        o = self.options
        self.corpus = Corpus.read(data, validation, o.separator, o.tokenizer, o.vocabulary_size)
        self._ngrams = None
        steps = {} if o.epochs is not None else {"max_steps": EMBEDDED_STEPS if data is None else STEPS}
        self.options = o.filled({"embedding_size": EMBEDDING.get(o.tokenizer, EMBEDDING_OF_PIECES), **steps})

    def build(self) -> nn.Module:
        o, make = self.options, type(self).layers
        return LanguageNetwork(
            o.cell,
            self.tokenizer.size,
            int(o.embedding_size or 0),
            o.hidden_size,
            o.num_layers,
            dropout=o.dropout,
            input_dropout=o.input_dropout,
            embedding_dropout=o.embedding_dropout,
            weight_dropout=o.weight_dropout,
            locked=o.locked,
            layer_norm=o.layer_norm,
            tied=o.tied,
            cutoffs=None if o.cutoffs is None else ranks(o.cutoffs),
            make=make if o.initialise == "torch" else partial(make, initialise=o.initialise),
        )

    def objective(self) -> LanguageObjective:
        training, validation = self._parts()
        network, o = self.network, self.options
        if isinstance(network.head, Adaptive):
            frequent = torch.from_numpy(np.argsort(-training.counts(), kind="stable"))
            network.head.ranks[frequent] = torch.arange(len(frequent))
        return LanguageObjective(network, training, validation, self.tokenizer, o.batch_size, o.sequence_length)

    def steps_per_epoch(self) -> int:
        streams = Streams(self._parts()[0], self.options.batch_size, self.options.sequence_length)
        return min(MOST_STEPS, max(LEAST_STEPS, streams.windows))

    def schedule(self) -> Schedule:
        o = self.options
        return replace(
            super().schedule(),
            warmup=o.warmup,
            weight_decay=o.weight_decay,
            clip_norm=o.clip_norm,
            average=o.average,
            betas=BETAS,
        )

    def save_data(self, folder: Path) -> None:
        self._texts.save(folder)

    def load_data(self, folder: Path) -> None:
        if self.options.embedding_size is None:
            raise InputError(f"{folder / CONFIG} is damaged: its option 'embedding_size' is missing")
        self.corpus = Corpus.load(folder)

    def same_data(self, other: LanguageModel) -> bool:
        return self._texts.same(other._texts)

    def sample_pass(self) -> Callable[[], object]:
        """64 tokens of the held-out text, one by one, as they are written."""
        ids = self._parts()[1].ids[:TIMED].tolist()
        network = self.network
        tokens = [ids[k % len(ids)] for k in range(TIMED)]

        def run() -> None:
            steps = Steps(network, 1)
            steps.begin([[]], self.tokenizer.end)
            for token in tokens:
                steps.step([token])

        return run

    def predict(self, data: Any = None) -> list[str]:
        """What comes after a text, or after each of a list of texts; after the beginning of the held-out text for None.

        See ``generate`` for how; here it is with its defaults.
        """
        return self.generate(self._prompts(data), PREDICTED)

    def positions(self, data: Any = None) -> tuple[list[str], None]:
        looks, ids = self.tokenizer.looks, self.tokenizer.encode(self._prompts(data)[0])
        return [looks(self.tokenizer.end), *(SHOWN.get(text := looks(int(token)), text) for token in ids)], None

    def score(self, data: Any = None) -> Scores:
        """Nats and bits per character, and perplexity per token, beside n-gram models of the training text.

        The ends of documents are predicted too, and their nats counted. Where tokens are not characters, there are nats
        and bits per token as well.

        Args:
            data: text, as for ``fit``; None for what was held out.
        """
        network = self.network
        tokens = self._parts()[1] if data is None else self._tokens_of(data)
        if not tokens.spans:
            raise InputError("data: the text is empty")
        if self._ngrams is None:
            self._ngrams = NGrams(self._parts()[0])
        found = self._ngrams.nats(tokens)
        nats = {self.cell.name: total_nats(network, tokens)}
        nats |= {f"{n}-gram": float(value) for n, value in reversed(list(enumerate(found, 1)))}
        length = characters(tokens, self.tokenizer)
        predictions = sum(stop - start + 1 for start, stop in tokens.spans)
        each = self.tokenizer.unit != "character"
        return {name: _figures(value, length, predictions, each) for name, value in nats.items()}

    # Beyond the protocol

    @overload
    def generate(self, prompt: str = ..., length: int = ..., *, stream: Literal[True], **how: Any) -> Iterator[str]: ...
    @overload
    def generate(self, prompt: str = ..., length: int = ..., *, stream: Literal[False] = ..., **how: Any) -> str: ...
    @overload
    def generate(
        self, prompt: Sequence[str], length: int = ..., *, stream: Literal[True], **how: Any
    ) -> Iterator[tuple[int, str]]: ...
    @overload
    def generate(
        self, prompt: Sequence[str], length: int = ..., *, stream: Literal[False] = ..., **how: Any
    ) -> list[str]: ...
    def generate(
        self,
        prompt: str | Sequence[str] = "",
        length: int = PREDICTED,
        *,
        stream: bool = False,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        **how: Any,
    ) -> Any:
        """Write what comes after a prompt, or after each of several.

        A text depends on its own prompt, the options and the seed alone, whatever other prompts there are; equal
        prompts get different texts.

        Args:
            prompt: a text, or a list of texts; "" for the beginning of a document. length: tokens at most; a text ends
                before where the model says so. stream: give the text as it is written. stop: texts before which a text
                ends. seed: same seed, same text. how: ``temperature``, ``top_k``, ``top_p``, ``min_p`` and
                ``repetition_penalty``, see ``gatewise.tasks.language.sampling.Sampling``.

        Returns:
            A text without its prompt, or a list of them. With ``stream`` an iterator of pieces, or of pairs of the
            number of a prompt and a piece.

        Raises:
            InputError: for a value out of range, or a prompt with characters that the model does not know.
        """
        check_integer("length", length, 1, MOST)
        check_integer("seed", seed, 0, MOST_SEED)
        unknown = how.keys() - vars(Sampling())
        if unknown:
            raise InputError(f"generate has no option {min(unknown)!r}; it has {', '.join(vars(Sampling()))}")
        prompts, stops = _texts("prompt", prompt), _texts("stop", stop)
        pieces = generate(self.network, self.tokenizer, prompts, length, Sampling(**how), seed, stops)
        alone = isinstance(prompt, str)
        if stream:
            return (piece for _, piece in pieces) if alone else pieces
        found = [""] * len(prompts)
        for number, piece in pieces:
            found[number] += piece
        return found[0] if alone else found

    def likeliest(
        self, prompt: str = "", length: int = PREDICTED, *, beam: int = 5, length_penalty: float = 1.0
    ) -> list[tuple[str, float]]:
        """Beam search: the likeliest texts that come after a prompt, the best first, with their log-probabilities.

        Args:
            prompt: see ``generate``. length: tokens at most. beam: texts that are kept at each step, and returned at
                most. length_penalty: texts are compared by their log-probability divided by their number of tokens to
                the power of this.
        """
        check_integer("length", length, 1, MOST)
        check_integer("beam", beam, 1, 1000)
        return likeliest(self.network, self.tokenizer, _text("prompt", prompt), length, beam, length_penalty)

    def logprobs(self, text: str) -> NDArray[np.float64]:
        """The log-probability, in nats, of each token of a text, given those before it: (tokens,).

        Raises:
            InputError: for characters that the model does not know.
        """
        return -self._surprises(text)[1].nats

    def surprises(self, text: str) -> dict[str, Any]:
        """How the text looked to the model, token by token.

        Returns:
            Columns by name, with an entry for each token: ``token`` as people read it; ``nats``, −log of its
            probability; ``entropy`` of the prediction, what was expected on average, in nats; ``rank``, its place among
            all tokens by probability, 1 for the likeliest.
        """
        ids, found = self._surprises(text)
        columns = {"nats": found.nats, "entropy": found.entropy, "rank": found.rank}
        return {"token": [self.tokenizer.looks(int(token)) for token in ids], **columns}

    def _surprises(self, text: str) -> tuple[Ids, Surprises]:
        """Without the end of the document, which nobody said it has."""
        ids = self.tokenizer.encode(_text("text", text))
        network, end = self.network, self.tokenizer.end
        tokens = Tokens(np.concatenate([[end], ids]).astype(self.tokenizer.dtype), end)
        found = surprises(network, tokens)
        return ids, Surprises(*(column[: len(ids)] for column in vars(found).values()))

    @property
    def network(self) -> LanguageNetwork:
        module = self.fitted()
        assert isinstance(module, LanguageNetwork)
        return module

    @property
    def tokenizer(self) -> Tokenizer:
        """What cuts text into tokens.

        Raises:
            InputError: before ``fit``, ``resume`` or ``load``.
        """
        return self._texts.tokenizer

    @property
    def _texts(self) -> Corpus:
        if self.corpus is None:
            self.fitted()  # raises
        assert self.corpus is not None
        return self.corpus

    def _parts(self) -> tuple[Tokens, Tokens]:
        return self._texts.parts(self.options.held_out)

    def _tokens_of(self, data: Any) -> Tokens:
        return tokens_of(sources(data, self.options.separator), self.tokenizer)

    def _prompts(self, data: Any) -> list[str]:
        if data is not None:
            return _texts("data", data)
        return [self.held_out_text(READ)]

    def held_out_text(self, length: int) -> str:
        """The first tokens of the held-out text, ``length`` of them at most."""
        held = self._parts()[1]
        start, stop = held.spans[0]
        return self.tokenizer.decode(held.ids[start : min(stop, start + length)])


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise InputError(f"{name} must be a text, got {given!r}")
    return given


def _texts(name: str, given: Any) -> list[str]:
    """One text or several."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{name} must be a text or a list of texts, got {given!r}")
    return list(texts)


def _figures(nats: float, length: int, predictions: int, each: bool) -> dict[str, float]:
    """The metrics of a text by its nats."""
    token, bit = nats / predictions, math.log(2)
    per_token = {"nats/token": token, "bits/token": token / bit} if each else {}
    return {"nats": nats / length, "bits": nats / length / bit, **per_token, "perplexity": math.exp(min(token, 700))}
