"""What a transcriber trains for, and how it is validated while it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.tasks.objective import Objective
from gatewise.tasks.transcribe.batches import Batch, Masks, batch_of, by_duration, with_noise
from gatewise.tasks.transcribe.features import Frames
from gatewise.tasks.transcribe.metrics import word_errors
from gatewise.tasks.transcribe.network import SpeechNetwork
from gatewise.tasks.transcribe.store import Store
from gatewise.tasks.transcribe.units import BLANK, steps_needed

SAMPLES = 2
Normalise = Callable[[str, Frames], Frames]
"""Takes whose the frames are and the frames."""


@dataclass(frozen=True)
class Example:
    """A recording to train on: whose it is, its numbers in the store, one for each speed, and its tokens."""

    key: str
    items: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Hearing:
    """How recordings are heard in training: ``noise`` is the share that has some, ``batch`` the frames of a step."""

    masks: Masks
    noise: float
    batch: int


class TranscriptionObjective(Objective):
    """Connectionist temporal classification (Graves et al. 2006); the word error rate of validation recordings.

    Args:
        module: the network. store: the frames. examples: to train on, each with at least as many steps as it needs.
        hearing: see there. normalise: frames as the network reads them. write: writes recordings by the module as it
            is. validation: their frames, and what is said in them.
    """

    metric = "WER"
    unit = "frames"

    def __init__(
        self,
        module: SpeechNetwork,
        store: Store,
        examples: Sequence[Example],
        hearing: Hearing,
        normalise: Normalise,
        write: Callable[[Sequence[Frames]], list[str]],
        validation: tuple[Sequence[Frames], Sequence[str]],
    ) -> None:
        self.module, self.store, self.examples, self.hearing = module, store, examples, hearing
        self.normalise, self.write, self.validation = normalise, write, validation
        self.stride = module.stride

    def batches(self, generator: np.random.Generator) -> Iterator[Batch]:
        """Passes over the recordings without end, each time at speeds drawn anew."""
        while True:
            items = np.array([self._item(example, generator) for example in self.examples])
            lengths = np.array([self.store.counts[item] for item in items])
            for chosen in by_duration(lengths, self.hearing.batch, generator):
                own = [self.examples[k] for k in chosen]
                heard = [self._heard(self.examples[k].key, int(items[k]), generator) for k in chosen]
                yield batch_of(heard, [example.tokens for example in own])

    def _item(self, example: Example, generator: np.random.Generator) -> int:
        """A recording at a speed; at its own where the one drawn is too fast for its transcript."""
        item = example.items[int(generator.integers(len(example.items)))]
        steps = -(-self.store.counts[item] // self.stride)
        return item if steps >= steps_needed(example.tokens) else example.items[0]

    def _heard(self, key: str, item: int, generator: np.random.Generator) -> Frames:
        frames = self.store[item]
        if self.hearing.noise and generator.random() < self.hearing.noise:
            frames = with_noise(frames, generator)
        return self.hearing.masks.hide(self.normalise(key, frames), generator)

    def loss(self, forward: Callable[..., Tensor], batch: Batch) -> Tensor:
        """−log of the transcripts' probability, per token: as long ones have more words, they count for more."""
        log_probabilities = forward(batch.frames, batch.lengths)
        steps = -(-batch.lengths // self.stride)
        with torch.autocast(log_probabilities.device.type, enabled=False):
            how = batch.tokens, steps, batch.token_lengths, BLANK, "sum"
            return F.ctc_loss(log_probabilities.float(), *how) / batch.token_lengths.sum()

    def size(self, batch: Batch) -> int:
        return int(batch.lengths.sum())

    def share(self, batch: Batch, rank: int, world: int) -> Batch:
        return batch.share(rank, world)

    def validate(self) -> float:
        frames, said = self.validation
        written = self.write(frames)
        shown = list(zip(said, written, strict=True))[:SAMPLES]
        self.note = "\n".join(f"  {text}\n  → {found}" for text, found in shown)
        return word_errors(said, written).rate
