"""Kernels that poll memory never run beside each other, by a model of streams and events."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from gatewise.backends.cuda.turns import Turns


class Stream:
    def __init__(self) -> None:
        self.ended: set[int] = set()
        """Kernels that have ended before what the stream is given next begins."""


class Event:
    def __init__(self) -> None:
        self.ended: set[int] = set()

    def record(self, stream: Stream) -> None:
        self.ended = set(stream.ended)

    def wait(self, stream: Stream) -> None:
        stream.ended |= self.ended


class Card:
    """Counts kernels that may run beside an earlier one."""

    def __init__(self) -> None:
        self.launched: list[int] = []
        self.beside = 0

    def launch(self, stream: Stream) -> None:
        self.beside += not stream.ended.issuperset(self.launched)
        number = len(self.launched)
        self.launched.append(number)
        stream.ended.add(number)


def beside(turns: Turns | None, threads: int, launches: int) -> int:
    card, streams = Card(), [Stream() for _ in range(4)]

    def work(seed: int) -> None:
        drawn = random.Random(seed)
        for _ in range(launches):
            stream = drawn.choice(streams) if threads == 1 else streams[seed]
            with nullcontext() if turns is None else turns.turn(stream):
                for _ in range(drawn.randint(1, 3)):  # more rows than fit at once are several launches
                    card.launch(stream)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return card.beside


def test_one_after_the_other_on_any_streams() -> None:
    assert beside(None, 1, 50) > 0
    assert beside(Turns(Event()), 1, 50) == 0


def test_from_several_threads() -> None:
    assert beside(Turns(Event()), 4, 100) == 0


def test_a_launch_that_fails_ends_its_turn() -> None:
    turns, stream, card = Turns(Event()), Stream(), Card()

    def failing() -> None:
        with turns.turn(stream):
            card.launch(stream)
            raise RuntimeError("the second launch failed")

    with pytest.raises(RuntimeError, match="the second"):
        failing()
    other = Stream()
    with turns.turn(other):
        card.launch(other)
    assert card.beside == 0
