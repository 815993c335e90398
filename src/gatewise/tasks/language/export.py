"""A language model for other programs: tokens and the states before them in, log-probabilities and states out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.tasks.exporting import Export
from gatewise.tasks.language.language_model import LanguageModel
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.parts import Pair, Part, Parts, Port, Run, carried, states

PLAYED = 128
"""Tokens of the held-out text that are compared."""


class Continuation(nn.Module):
    """The network with its states, (layers, batch, hidden_size) each, outside."""

    def __init__(self, network: LanguageNetwork) -> None:
        super().__init__()
        self.network, self.count = network, len(network.layers)

    def forward(self, tokens: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        each = [tuple(state[k : k + 1] for state in before) for k in range(self.count)]
        own = [state[0] if len(state) == 1 else state for state in each]
        seen, behind = self.network.run(tokens, own)
        said = self.network.log_probabilities(seen.flatten(0, 1))
        new = [state if isinstance(state, tuple) else (state,) for state in behind]
        return said.unflatten(0, tokens.shape), *(torch.cat(parts) for parts in zip(*new, strict=True))


@dataclass(frozen=True, kw_only=True)
class ExportLanguage(Export):
    """Write the model in another format: tokens and the states before them in, log-probabilities of what follows each
    of them out; its vocabulary stands in export.json."""

    def parts(self, task: LanguageModel) -> Parts:
        network, tokenizer = task.network, task.tokenizer
        layers, units = len(network.layers), task.options.hidden_size
        before, behind = states(task.cell.states, (layers, "batch", units))
        generator = torch.Generator().manual_seed(0)

        def example(steps: int, rows: int) -> tuple[Tensor, ...]:
            tokens = torch.randint(tokenizer.size, (steps, rows), generator=generator)
            return tokens, *(torch.randn(layers, rows, units, generator=generator) for _ in before)

        said = "natural logarithms of the probabilities of the tokens that follow"
        part = Part(
            "steps",
            Continuation(network).eval(),
            (Port("tokens", ("time", "batch"), "numbers of tokens; one step or several"), *before),
            (Port("log_probabilities", ("time", "batch", tokenizer.size), said), *behind),
            tuple(example(*sizes) for sizes in ((4, 3), (1, 1), (7, 2))),
            carried(before, behind),
        )
        about = {
            "start": "a text begins with the token end and states of zeros; it ends where end comes again",
            "end": tokenizer.end,
            "tokenizer": tokenizer.to_json(),
        }
        return Parts((part,), about, lambda run: _played(task, run))


def _played(task: LanguageModel, run: Run) -> Iterator[Pair]:
    """The log-probabilities of the beginning of the held-out text, token by token."""
    text = task.held_out_text(PLAYED)
    network, ids = task.network, task.tokenizer.encode(text)
    shape = len(network.layers), 1, task.options.hidden_size
    given = {f"{name}_0": np.zeros(shape, np.float32) for name in task.cell.states}
    said = []
    for token, following in zip([task.tokenizer.end, *ids[:-1]], ids, strict=True):
        found = run("steps", {"tokens": np.array([[token]], np.int64), **given})
        given = {f"{name}_0": found[f"{name}_n"] for name in task.cell.states}
        said.append(found["log_probabilities"][0, 0, following])
    yield "the log-probabilities of a text, token by token", task.logprobs(text), np.array(said)
