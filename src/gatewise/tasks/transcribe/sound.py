"""Sound from files: decoded, mixed down to one channel, resampled; whatever is wrong with it gets a sentence."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError, need, reason

Samples = NDArray[np.float32]
EXTRA = "speech"
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
"""Of sound files that are looked for in a folder."""
BLOCK = 1 << 20
"""Samples that are decoded at once."""
MOST_SAMPLES = 1 << 30
"""Of a file: 6 hours at 48 kHz. A small file can be made that holds more than any memory."""
LOUDEST = 0.999
"""From here on a sample counts as clipped."""
CLIPPED = 1e-3
"""Share of clipped samples from which on it is said."""
SILENT = 1e-4
"""Below this peak, 80 dB below the loudest, a recording counts as silent."""


@dataclass(frozen=True)
class Clip:
    """Where sound lies: in a file, in a member of a tar archive, or in a part of a file, in samples of its rate."""

    path: Path
    member: str | None = None
    start: int = 0
    stop: int | None = None

    @property
    def name(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    @property
    def mark(self) -> str:
        """Changes when the file does."""
        return f"{self.path.resolve()} {_stamp(self.path)} {self.member} {self.start} {self.stop}"


def check(clip: Clip) -> None:
    """Refuse what is no sound file, or an empty one, by its first bytes.

    Raises:
        InputError: with the name of the file.
    """
    if clip.member is None and clip.start == 0 and clip.stop is None:
        with _opened(clip.path, clip.name) as file:
            if file.frames == 0:
                raise InputError(f"{clip.name} is empty: it holds no sound")


def read(clip: Clip, rate: int, speed: float = 1.0) -> Samples:
    """The samples of a clip, (samples,) between −1 and 1, mono, at ``rate`` a second.

    Args:
        speed: 1.1 for sound that is played a tenth faster, and higher by as much.

    Raises:
        InputError: for what is no sound file, an empty one, or samples that are no finite numbers.
    """
    whole, own = _decoded(clip.path, clip.member, _stamp(clip.path))
    return converted(whole[clip.start : clip.stop], own, rate, clip.name, speed)


def converted(samples: NDArray[Any], own: float, rate: int, name: str, speed: float = 1.0) -> Samples:
    """Samples of the rate ``own``, (samples,) or (samples, channels), as ``read`` gives them; ``name`` is whose."""
    if samples.shape[0] == 0:
        raise InputError(f"{name} is empty: it holds no sound")
    mono = samples if samples.ndim == 1 else samples.mean(1)
    bad = np.flatnonzero(~np.isfinite(mono))
    if len(bad):
        raise InputError(f"{name}: sample {bad[0] + 1:,} is {mono[bad[0]]}, expected a finite number")
    mono = np.ascontiguousarray(mono, np.float32)
    if own * speed != rate:
        mono = need("soxr", EXTRA).resample(mono, own * speed, rate)
    return mono


def faults(samples: Samples) -> list[str]:
    """What a listener would say about a recording: that it is silent, or clipped."""
    loud = np.abs(samples)
    found = []
    if loud.max(initial=0) < SILENT:
        found.append("it is silent")
    share = float((loud >= LOUDEST).mean()) if len(loud) else 0.0
    if share >= CLIPPED:
        found.append(f"{100 * share:.1f} % of its samples are clipped")
    return found


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=2)
def _decoded(path: Path, member: str | None, stamp: tuple[int, int]) -> tuple[Samples, float]:
    """A whole file; the last two are kept, since a file may hold many clips one after another.

    Args:
        stamp: of the file, so that one that was written anew is read anew.
    """
    name = Clip(path, member).name
    source: Any = path if member is None else io.BytesIO(_member(path, member))
    with _opened(source, name) as file:
        try:
            blocks = list(_blocks(file, name))
        except RuntimeError as error:
            raise InputError(f"{name} is damaged: {_said(error)}") from None
        return np.concatenate([np.zeros(0, np.float32), *blocks]), float(file.samplerate)


def _blocks(file: Any, name: str) -> Iterator[Samples]:
    """A file's samples, mixed down, a part at a time: what its header says of its length may be wrong by far."""
    count = 0
    while len(block := file.read(BLOCK, dtype="float32")):
        count += len(block)
        if count > MOST_SAMPLES:
            raise InputError(
                f"{name} has more than {MOST_SAMPLES:,} samples, which is more than is read at once; cut it"
            )
        yield block if block.ndim == 1 else block.mean(1)


def _opened(source: Any, name: str) -> Any:
    soundfile = need("soundfile", EXTRA)
    if isinstance(source, Path) and not source.is_file():
        raise InputError(
            f"{name} is a folder, expected a sound file" if source.is_dir() else f"there is no file {name}"
        )
    try:
        if isinstance(source, Path):
            source.open("rb").close()  # the library calls every file that it may not read a broken one
        return soundfile.SoundFile(source)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {reason(error)}") from None
    except RuntimeError as error:
        raise InputError(
            f"{name} is no sound file that can be read, expected WAV, FLAC, OGG or MP3: {_said(error)}"
        ) from None


def _said(error: Exception) -> str:
    """What the library says, without the name of the file, which ours has."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def _member(path: Path, member: str) -> bytes:
    offset, size = _archive(path, _stamp(path))[member]
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None


def members(path: Path) -> list[str]:
    """The names of the files in a tar archive that is not compressed.

    Raises:
        InputError: when it is none.
    """
    return list(_archive(path, _stamp(path)))


@lru_cache(maxsize=8)
def _archive(path: Path, stamp: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Where the files of an archive lie in it, in bytes, and how long they are."""
    try:
        with tarfile.open(path, "r:") as tar:
            return {m.name.removeprefix("./"): (m.offset_data, m.size) for m in tar if m.isfile()}
    except tarfile.TarError:
        raise InputError(f"{path} is no tar archive, or a compressed one, expected one without compression") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
