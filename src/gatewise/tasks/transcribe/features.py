"""What a network hears: the logarithm of the energy in 80 bands of the mel scale, every 10 ms over 25 ms.

The same sound gives the same numbers: no dither is added, and a recording that comes in pieces gives the frames of the
whole one to the bit. Frames are rounded to 11 bits (float16), a step of 0.03 dB, since so they are kept on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import need
from gatewise.tasks.transcribe.sound import EXTRA, Samples

Frames = NDArray[np.float32]
"""(frames, bands)."""
BANDS = 80
SHIFT, LENGTH = 0.010, 0.025
"""Seconds from frame to frame, and of one."""
NORMALISE = ("utterance", "speaker", "running")
LEAST_SPREAD = 0.1
"""Standard deviation by which a band is divided at least: one of digital silence has none."""
FLOOR = float(np.float16(np.log(np.finfo(np.float32).eps)))
"""What every band of digital silence has."""
PRIOR = 100
"""Frames that the mean of the training counts as in a running one: a second."""


class Listener:
    """Frames from samples that come in pieces of any length."""

    def __init__(self, rate: int) -> None:
        library = need("kaldi_native_fbank", EXTRA)
        options = library.FbankOptions()
        options.frame_opts.dither = 0.0
        options.frame_opts.samp_freq = float(rate)
        options.mel_opts.num_bins = BANDS
        self.rate, self._bank, self._taken = rate, library.OnlineFbank(options), 0
        self._missing = round(LENGTH * rate)

    def push(self, samples: Samples) -> Frames:
        """The frames that are complete with these samples."""
        if len(samples):
            self._missing -= len(samples)
            self._bank.accept_waveform(self.rate, samples)
        return self._new()

    def finish(self) -> Frames:
        """What is left at the end: a sound that is shorter than a frame is one, with silence behind it."""
        if self._missing > 0:
            return self.push(np.zeros(self._missing, np.float32))
        return self._new()

    def _new(self) -> Frames:
        ready = self._bank.num_frames_ready
        found = np.empty((ready - self._taken, BANDS), np.float32)
        for k in range(self._taken, ready):
            found[k - self._taken] = self._bank.get_frame(k)
        self._bank.pop(ready - self._taken)
        self._taken = ready
        return found.astype(np.float16).astype(np.float32)


def log_mel(samples: Samples, rate: int) -> Frames:
    """The frames of a whole sound, at least one."""
    listener = Listener(rate)
    return np.concatenate([listener.push(samples), listener.finish()])


class Statistics:
    """Mean and standard deviation of each band over some frames, (bands,) each."""

    def __init__(self, mean: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
        self.mean, self.spread = mean, np.maximum(spread, LEAST_SPREAD)

    @classmethod
    def of(cls, parts: Iterable[NDArray[Any]]) -> Statistics:
        """Of all frames of some sounds together, at least one."""
        count, sums = 0, np.zeros((2, BANDS))
        for part in parts:
            wide = part.astype(np.float64)
            count, sums = count + len(part), sums + np.stack([wide.sum(0), (wide**2).sum(0)])
        mean, square = sums / count
        return cls(mean, np.sqrt(np.maximum(square - mean**2, 0.0)))

    def normalised(self, frames: NDArray[Any]) -> Frames:
        """Frames as the network reads them: in standard deviations from the mean."""
        return ((frames - self.mean) / self.spread).astype(np.float32)

    def to_json(self) -> dict[str, list[float]]:
        return {"mean": self.mean.tolist(), "spread": self.spread.tolist()}

    @classmethod
    def from_json(cls, value: Any) -> Statistics:
        """Raises KeyError, TypeError or ValueError for what ``to_json`` did not write."""
        mean, spread = (np.array(value[name], np.float64) for name in ("mean", "spread"))
        if mean.shape != (BANDS,) or spread.shape != (BANDS,) or not np.isfinite(mean + spread).all():
            raise ValueError("not the statistics of bands")
        return cls(mean, spread)


class Running:
    """Normalises frames as they come: by the mean so far, which begins as that of the training, and its spread.

    Digital silence does not count: a muted microphone says nothing about the voice and the room that come behind it.
    Sums are taken frame by frame, so that pieces of any length give the bits of the whole.
    """

    def __init__(self, start: Statistics) -> None:
        self._spread = start.spread
        self._sum, self._count = PRIOR * start.mean, PRIOR

    def push(self, frames: Frames) -> Frames:
        heard: NDArray[np.bool_] = frames.max(1) > FLOOR
        sums = np.cumsum(np.concatenate([self._sum[None], np.where(heard[:, None], frames, 0).astype(np.float64)]), 0)
        counts = self._count + np.cumsum(heard)
        self._sum, self._count = sums[-1], self._count + int(heard.sum())
        found: Frames = ((frames - sums[1:] / counts[:, None]) / self._spread).astype(np.float32)
        return found
