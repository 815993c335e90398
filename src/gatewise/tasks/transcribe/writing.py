"""From frames to transcripts: many recordings at once, each with the text that it would have alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gatewise.tasks.transcribe.batches import cut_by_duration, joined
from gatewise.tasks.transcribe.features import SHIFT, Frames
from gatewise.tasks.transcribe.guide import Guide
from gatewise.tasks.transcribe.network import SpeechNetwork, emissions
from gatewise.tasks.transcribe.search import Emission, Span, aligned, greedy, searched
from gatewise.tasks.transcribe.units import Units

MOST_FRAMES = 1 << 15
"""Of a batch, with padding: 33 MB of windows."""


@dataclass(frozen=True)
class Word:
    """A word and when it is said, in seconds from the beginning: where the network writes its first letter, and where
    it has written its last, which may be some tenths of a second late."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """A text, its log-probability in nats with what a language model adds, and its words with their times."""

    text: str
    score: float
    words: tuple[Word, ...] = ()


def emitted(network: SpeechNetwork, recordings: Sequence[Frames]) -> list[Emission]:
    """The log-probabilities of each of some normalised recordings."""
    lengths = np.array([len(one) for one in recordings], np.int64)
    found: dict[int, Emission] = {}
    device = network.head.weight.device
    for chosen in cut_by_duration(np.argsort(lengths, kind="stable"), lengths, MOST_FRAMES):
        frames, counts = joined([recordings[k] for k in chosen])
        logs = emissions(network, frames.to(device), counts).cpu().numpy()
        for row, k in enumerate(chosen):
            found[int(k)] = logs[: int(network.steps(counts)[row]), row]
    return [found[k] for k in range(len(recordings))]


def likeliest(network: SpeechNetwork, units: Units, recordings: Sequence[Frames]) -> list[str]:
    """The text of the likeliest token at each step, of each recording."""
    return [units.decode(greedy(one)[0]) for one in emitted(network, recordings)]


def transcripts(
    emission: Emission, guide: Guide, beam: int, count: int, seconds: float, times: bool = True
) -> list[Transcript]:
    """The best texts of a recording; without a beam and a model the likeliest letters.

    Args:
        beam: prefixes that are kept; 1 with a guide of no opinion for the likeliest letters. count: texts at most.
        seconds: of a step. times: whether the times of words are wanted, which behind a search takes memory.
    """
    units = guide.units
    if beam == 1 and guide.free:
        tokens, spans = greedy(emission)
        score = float(emission.max(1).sum(dtype=np.float64))
        return [Transcript(units.decode(tokens), score, words(tokens, spans, units, seconds) if times else ())]
    found = []
    for one in searched(emission, guide, beam, count):
        timed = words(one.tokens, aligned(emission, one.tokens), units, seconds) if times else ()
        found.append(Transcript(units.decode(one.tokens), one.score, timed))
    return found


def words(tokens: Sequence[int], spans: Sequence[Span], units: Units, seconds: float) -> tuple[Word, ...]:
    """The words of a text with their times."""
    found: list[Word] = []
    word, first, last = "", 0, 0
    for token, (start, stop) in zip(tokens, spans, strict=True):
        for character in units.pieces[token] or "":
            if character == " ":
                if word:
                    found.append(_timed(word, first, last, seconds))
                word = ""
            else:
                first, last, word = first if word else start, stop, word + character
    return (*found, _timed(word, first, last, seconds)) if word else tuple(found)


def _timed(word: str, first: int, last: int, seconds: float) -> Word:
    return Word(word, round(first * seconds, 3), round((last + 1) * seconds, 3))


def step_seconds(network: SpeechNetwork) -> float:
    """From one step of the layers to the next."""
    return network.stride * SHIFT
