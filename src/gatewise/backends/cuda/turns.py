"""Kernels whose blocks poll memory take turns on a card, whichever streams and threads they come from.

Such a block holds its multiprocessor until blocks of the same kernel have answered. Two such kernels that share a card
in parts, each waiting for multiprocessors that the other holds, would wait for ever. A kernel has no more blocks than
the card has room for at once; so while no second one is on the card, every block that has not begun finds room as soon
as kernels that wait for nobody have ended, and the kernel ends. So an event stands behind each, and the next one's
stream waits for it; the host never does.

It is not so for kernels of a CUDA graph, whose events mean nothing outside of it: these keep the order of their graph.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


class Event(Protocol[S_contra]):
    """As ``torch.cuda.Event``."""

    def record(self, stream: S_contra) -> None:
        """Stand behind all that the stream was given so far."""

    def wait(self, stream: S_contra) -> None:
        """What the stream is given from now on comes after the event; nothing, for one that was never recorded."""


class Turns(Generic[S]):
    """The order of such kernels on one card."""

    def __init__(self, event: Event[S]) -> None:
        self._event, self._lock = event, threading.Lock()

    @contextmanager
    def turn(self, stream: S) -> Iterator[None]:
        """What is put into the stream within comes after all that was put into any stream within an earlier turn."""
        with self._lock:  # between two threads' waits and launches the event would be that of neither
            self._event.wait(stream)
            try:
                yield
            finally:
                self._event.record(stream)
