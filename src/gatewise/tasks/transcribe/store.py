"""The frames of all recordings in one file that is mapped into memory: computed once, read by any number of processes.

``features.bin`` holds the frames of one recording after another, float16, little-endian, (frames, 80).
``features.json`` says how many each has, with the file's SHA-256. While it is written it is called
``features.partial``, and ``features.progress.json`` says how far it is good, so that a process that was killed is gone
on from there.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError, reason
from gatewise.tasks.folder import read_json
from gatewise.tasks.stored import Stored, files
from gatewise.tasks.transcribe import sound
from gatewise.tasks.transcribe.features import BANDS, Frames, log_mel
from gatewise.tasks.transcribe.sound import Clip

NAME = "features"
STORED, ABOUT, PARTIAL, PROGRESS = FILES = files(NAME)
SAVED = 256
"""Recordings after which what was written is brought to the disk and noted."""
TYPE = np.dtype("<f2")
Faults = list[tuple[str, str]]
"""Names of recordings, and what is wrong with their sound."""
VERSION = 1
"""Of what a frame is; part of the mark."""


@dataclass(frozen=True)
class Item:
    """A recording at a speed."""

    name: str
    clip: Clip
    speed: float = 1.0


@dataclass(frozen=True)
class Store:
    """The frames of recordings, by number."""

    path: Path
    counts: tuple[int, ...]
    faults: tuple[tuple[str, str], ...] = ()
    keep: Any = field(default=None, repr=False, compare=False)
    """What must live as long: the folder of a temporary file."""

    def __post_init__(self) -> None:
        rows = sum(self.counts)
        object.__setattr__(self, "_frames", np.memmap(self.path, TYPE, "r", shape=(rows, BANDS)).view(np.ndarray))
        object.__setattr__(self, "_ends", np.cumsum(np.array([0, *self.counts])))

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes map the file for themselves."""
        return Store, (self.path, self.counts, self.faults)

    def __getitem__(self, number: int) -> Frames:
        frames: NDArray[Any] = vars(self)["_frames"]
        ends: NDArray[np.int64] = vars(self)["_ends"]
        return frames[ends[number] : ends[number + 1]].astype(np.float32)


def mark_of(items: Sequence[Item], rate: int) -> str:
    """Changes when a recording does, or what is made of it."""
    whole = repr((VERSION, rate, [(item.clip.mark, item.speed) for item in items]))
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def stored(items: Sequence[Item], rate: int, folder: Path | None = None) -> Store:
    """The frames of all recordings; goes on where an interrupted call for the same ones stopped.

    Args:
        items: what to read. rate: samples a second that all are brought to. folder: gets the files; None for a
            temporary one.

    Raises:
        InputError: for sound that cannot be read. WriteError: when the folder cannot be written.
    """
    if folder is None:
        kept = tempfile.TemporaryDirectory(prefix="gatewise-features-", ignore_cleanup_errors=True)
        return replace(stored(items, rate, Path(kept.name)), keep=kept)
    place, mark = Stored(folder, NAME), mark_of(items, rate)
    if place.whole(mark):
        return opened(folder)
    _write(place, items, rate, mark)
    return opened(folder, verify=False)


def opened(folder: Path, verify: bool = True) -> Store:
    """Open what ``stored`` wrote; the file is mapped, not read.

    Args:
        verify: whether the file is read once, about a second for 1 GB, to see that it is as it was written.

    Raises:
        InputError: when it is missing or damaged.
    """
    place, about = Stored(folder, NAME), read_json(folder / ABOUT)
    counts, faults = about.get("frames"), about.get("faults")
    if not isinstance(counts, list) or not all(type(n) is int and n > 0 for n in counts):
        raise InputError(f"{folder / ABOUT} is damaged: expected the number of frames of each recording")
    if not isinstance(faults, list) or not all(isinstance(one, list) and len(one) == 2 for one in faults):
        raise InputError(f"{folder / ABOUT} is damaged: expected what is wrong with recordings")
    place.check(about, sum(counts) * BANDS * TYPE.itemsize, verify)
    try:
        return Store(place.path, tuple(counts), tuple((str(name), str(fault)) for name, fault in faults))
    except OSError as error:
        raise InputError(f"{place.path} cannot be read: {reason(error)}") from None


def copied(store: Store, folder: Path) -> None:
    """Write the files of a store to another folder.

    Raises:
        WriteError: when it cannot be written.
    """
    Stored(folder, NAME).copied(store.path)


def _write(place: Stored, items: Sequence[Item], rate: int, mark: str) -> None:
    begun = place.begun(mark)
    counts: list[int] = list(begun.get("frames", ()))
    faults: Faults = list(begun.get("faults", ()))
    with place.opened(sum(counts) * BANDS * TYPE.itemsize) as file:
        for item in items[len(counts) :]:
            samples = sound.read(item.clip, rate, item.speed)
            frames = log_mel(samples, rate)
            file.write(frames.astype(TYPE).tobytes())
            counts.append(len(frames))
            faults += [(item.name, fault) for fault in sound.faults(samples) if item.speed == 1]
            if len(counts) % SAVED == 0:
                place.note(mark, {"frames": counts, "faults": faults}, file)
        place.note(mark, {"frames": counts, "faults": faults}, file)
        written = os.fstat(file.fileno())
    place.seal(mark, {"frames": counts, "faults": faults}, written)
