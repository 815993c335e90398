"""What a language model trains for, and how it is validated while it does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from gatewise.tasks.language.generate import generate
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.language.sampling import Sampling
from gatewise.tasks.language.scoring import characters, total_nats
from gatewise.tasks.language.store import Tokens
from gatewise.tasks.language.streams import Streams, Window
from gatewise.tasks.objective import CarriedObjective
from gatewise.tasks.text.tokenizers import Tokenizer

SAMPLE = 160
"""Tokens that the network writes at a validation, to be shown."""
HOW = Sampling(temperature=0.8)


class LanguageObjective(CarriedObjective):
    """Cross-entropy of the next token over streams of text; nats per character of the validation text.

    Args:
        module: the network. training, validation: tokens. tokenizer: theirs. batch_size: streams. steps: of a window.
    """

    metric = "nats"

    def __init__(
        self,
        module: LanguageNetwork,
        training: Tokens,
        validation: Tokens,
        tokenizer: Tokenizer,
        batch_size: int,
        steps: int,
    ) -> None:
        self.module: LanguageNetwork = module
        self.streams = Streams(training, batch_size, steps)
        self.validation, self.tokenizer = validation, tokenizer
        self.unit = f"{tokenizer.unit}s"
        self.characters = characters(validation, tokenizer)

    def batches(self, generator: np.random.Generator) -> Iterator[Window]:
        return self.streams.passes(generator)

    def carried_loss(self, forward: Callable[..., Any], batch: Window, state: Any) -> tuple[Tensor, Any]:
        loss, state = forward(batch, state)
        return loss, state

    def size(self, batch: Window) -> int:
        return batch.given.numel()

    def share(self, batch: Window, rank: int, world: int) -> Window:
        return batch.share(rank, world)

    def validate(self) -> float:
        nats = total_nats(self.module, self.validation) / self.characters
        sample = printed(self._sample())
        self.note = f"  {nats:.4f} nats, {nats / math.log(2):.4f} bits per character; it writes:\n{sample}"
        return nats

    def _sample(self) -> str:
        network = self.module if self.device.type == "cpu" else copy.deepcopy(self.module).cpu()
        return "".join(piece for _, piece in generate(network, self.tokenizer, [""], SAMPLE, HOW, 0))


def printed(text: str) -> str:
    """A sample between bars, so that it is told from the log around it."""
    return "\n".join(f"  │ {line}" for line in text.splitlines())
