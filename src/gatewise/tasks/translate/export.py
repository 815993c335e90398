"""A translator for other programs: an encoder of sentences, and a decoder that says one piece after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.tasks.exporting import Export
from gatewise.tasks.parts import Pair, Part, Parts, Port, Run, carried, states
from gatewise.tasks.text.vocabulary import END, PAD, SPECIAL, START, UNKNOWN
from gatewise.tasks.translate.network import TranslationNetwork
from gatewise.tasks.translate.translator import Translator

PLAYED = 4
"""Held-out sentences that are compared."""
LAYERS = ("first", "second")


class Encoder(nn.Module):
    """Sentences to what the decoder reads: outputs, keys of the attention where there is one, and its states."""

    def __init__(self, network: TranslationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        encoded, starts = self.network.encode(source, lengths)
        found = () if self.network.ask is None else (self.network.ask(encoded), encoded)
        return *found, *_flat(starts[0]), *_flat(starts[1])


class Decoder(nn.Module):
    """A piece and the states before it to log-probabilities of the next, the states behind it and the attention."""

    def __init__(self, network: TranslationNetwork) -> None:
        super().__init__()
        self.network, self.count = network, network.states

    def forward(self, pieces: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        network, count = self.network, self.count
        first, one = network.first(network.target(pieces).unsqueeze(0), _state(given[:count]))
        seen: list[Tensor] = [first]
        looked: tuple[Tensor, ...] = ()
        if network.ask is not None:
            keys, values, source = given[2 * count :]
            context, weights = network.attend(first, keys, values, source == PAD)
            seen, looked = [first, context], (weights.squeeze(1),)
        second, two = network.second(torch.cat(seen, -1), _state(given[count : 2 * count]))
        found = torch.tanh(network.out(torch.cat([second, *seen[1:]], -1))).squeeze(0)
        logits = torch.nn.functional.linear(found, network.target.weight, network.bias)
        return logits.log_softmax(-1), *_flat(one), *_flat(two), *looked


def _flat(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def _state(parts: tuple[Tensor, ...]) -> Any:
    return parts[0] if len(parts) == 1 else parts


@dataclass(frozen=True, kw_only=True)
class ExportTranslation(Export):
    """Write the model in another format: an encoder of sentences, and a step of the decoder, attention included; the
    vocabularies stand in export.json."""

    def parts(self, task: Translator) -> Parts:
        source, target = task.vocabulary
        about = {
            "use": "pieces of prepared texts go into the encoder; the decoder begins with the piece <s>, takes the one "
            "that was chosen last, and ends with </s>; of a beam every hypothesis is a row of its own",
            "special": dict(zip(SPECIAL, (PAD, START, END, UNKNOWN), strict=True)),
            "lowercase": task.options.lowercase,
            "normalise": task.options.normalise,
            "vocabulary": {"source": source.to_json(), "target": target.to_json()},
        }
        network = task.network
        ports = _Ports(network, task.cell.states)
        generator = torch.Generator().manual_seed(0)
        sources = [_sentences(len(source), words, rows, generator) for words, rows in ((5, 3), (1, 1), (7, 2))]
        encoder, decoder = Encoder(network).eval(), Decoder(network).eval()
        steps = []
        for given, lengths in sources:
            with torch.no_grad():
                encoded = encoder(given, lengths)
            attention = len(ports.attention)
            pieces = torch.randint(len(target), (len(given),), generator=generator)
            beside = (*encoded[:attention], given) if attention else ()
            steps.append((pieces, *encoded[attention:], *beside))
        parts = (
            Part("encoder", encoder, ports.source, (*ports.attention, *ports.before), tuple(sources)),
            Part("decoder", decoder, ports.step, ports.said, tuple(steps), carried(ports.before, ports.behind)),
        )
        return Parts(parts, about, lambda run: _played(task, run))


class _Ports:
    def __init__(self, network: TranslationNetwork, names: tuple[str, ...]) -> None:
        units, size, width = network.first.hidden_size, network.target.num_embeddings, network.bridge.in_features
        width //= network.states
        source = Port("source", ("batch", "words"), "pieces of sentences, int64, filled up with <pad>")
        self.source = source, Port("lengths", ("batch",), "pieces of each sentence")
        self.attention: tuple[Port, ...] = ()
        looked: tuple[Port, ...] = ()
        if network.attends:
            keys = Port("keys", ("words", "batch", units), "what the attention compares with")
            self.attention = keys, Port("values", ("words", "batch", width), "what it finds")
            looked = (Port("attention", ("batch", "words"), "how much each piece of the source was looked at"),)
        both = [states(names, (1, "batch", units), f"{layer}_") for layer in LAYERS]
        self.before = [port for before, _ in both for port in before]
        self.behind = [port for _, behind in both for port in behind]
        pieces = Port("pieces", ("batch",), "the pieces that were said last, <s> at the beginning")
        self.step = pieces, *self.before, *self.attention, *((source,) if network.attends else ())
        said = Port("log_probabilities", ("batch", size), "natural logarithms of those of the next piece")
        self.said = said, *self.behind, *looked


def _sentences(size: int, words: int, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random pieces of random length, one of which fills all words."""
    lengths = torch.randint(1, words + 1, (rows,), generator=generator)
    lengths[-1] = words
    pieces = torch.randint(len(SPECIAL), max(size, len(SPECIAL) + 1), (rows, words), generator=generator)
    pieces = pieces.clamp(max=size - 1)
    return pieces.where(torch.arange(words) < lengths[:, None], PAD), lengths


def _played(task: Translator, run: Run) -> Iterator[Pair]:
    """The log-probabilities of greedy translations of held-out sentences, each said piece by piece."""
    texts = task.texts()[:PLAYED]
    best = [found[0] for found in task.translations(texts, beam_size=1)]
    coded = [one.ids for one in task.encoded(texts)]
    said = [_log_probability(task, run, ids, one.ids) for ids, one in zip(coded, best, strict=True)]
    expected = np.array([one.log_probability for one in best])
    yield "the log-probabilities of translations", expected, np.array(said)


def _log_probability(task: Translator, run: Run, source: list[int], target: tuple[int, ...]) -> float:
    given = np.array([source], np.int64)
    found = run("encoder", {"source": given, "lengths": np.array([len(source)], np.int64)})
    names = [f"{layer}_{name}" for layer in LAYERS for name in task.cell.states]
    state = {f"{name}_0": found[f"{name}_0"] for name in names}
    fixed = {name: value for name, value in found.items() if name in ("keys", "values")}
    if task.network.attends:
        fixed["source"] = given
    total = 0.0
    for last, following in zip([START, *target], [*target, END], strict=True):
        step = run("decoder", {"pieces": np.array([last], np.int64), **state, **fixed})
        state = {f"{name}_0": step[f"{name}_n"] for name in names}
        total += float(step["log_probabilities"][0, following])
    return total
