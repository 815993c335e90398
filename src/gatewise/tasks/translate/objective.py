"""What a translator trains for, and how it is validated while it does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import Tensor

from gatewise.tasks.training import Objective
from gatewise.tasks.translate.batches import Batch, batches
from gatewise.tasks.translate.metrics import bleu
from gatewise.tasks.translate.network import TranslationNetwork

SAMPLES = 2
Translate = Callable[[TranslationNetwork, Sequence[str]], list[str]]


class TranslationObjective(Objective):
    """Cross-entropy per piece; BLEU of the translations of validation texts.

    Args:
        module: the network. source, target: training pairs in pieces. batch_size: pairs of a step.
        smoothing: share of the probability that is wanted on all pieces alike.
        translate: translates texts by a network. validation: texts and their translations.
    """

    metric = "BLEU"
    higher_is_better = True
    unit = "tokens"

    def __init__(
        self,
        module: TranslationNetwork,
        source: Sequence[list[int]],
        target: Sequence[list[int]],
        batch_size: int,
        smoothing: float,
        translate: Translate,
        validation: tuple[list[str], list[str]],
    ) -> None:
        self.module: TranslationNetwork = module
        self.source, self.target = source, target
        self.batch_size, self.smoothing = batch_size, smoothing
        self.translate, self.validation = translate, validation

    def batches(self, generator: np.random.Generator) -> Iterator[Batch]:
        return batches(self.source, self.target, self.batch_size, generator)

    def loss(self, forward: Callable[..., Tensor], batch: Batch) -> Tensor:
        return forward(batch, self.smoothing)

    def size(self, batch: Batch) -> int:
        return int(batch.counts.sum())

    def share(self, batch: Batch, rank: int, world: int) -> Batch:
        return batch.share(rank, world)

    def validate(self) -> float:
        texts, wanted = self.validation
        # Translations are searched for on the processor, as they will be once it is trained.
        network = self.module if self.device.type == "cpu" else copy.deepcopy(self.module).cpu()
        found = self.translate(network, texts)
        shown = zip(texts[:SAMPLES], found[:SAMPLES], strict=True)
        self.note = "\n".join(f"  {text}\n  → {translation}" for text, translation in shown)
        return bleu(found, wanted)
