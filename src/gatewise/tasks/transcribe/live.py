"""Text while the sound arrives: everything is carried from piece to piece, and the text is that of the whole sound, or
of what lies between two pauses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.transcribe.features import BANDS, Frames, Listener, Running, Statistics
from gatewise.tasks.transcribe.guide import Guide
from gatewise.tasks.transcribe.network import SpeechNetwork, ahead, linear_maps
from gatewise.tasks.transcribe.search import Emission, Search
from gatewise.tasks.transcribe.sound import EXTRA, Samples
from gatewise.tasks.transcribe.units import BLANK


class Live:
    """A recording that is still going on.

    Args:
        network: of one direction, in evaluation mode. rate: samples a second that it was trained on.
        start: mean and spread of the training's frames. guide, beam: of the search; with a beam of 1 and a guide of no
            opinion the likeliest letters are taken. own: samples a second of what is pushed.
        pause: steps without a letter behind which another text begins; None for one text.

    Attributes:
        finished: texts that a pause has ended.
    """

    def __init__(
        self,
        network: SpeechNetwork,
        rate: int,
        start: Statistics,
        guide: Guide,
        beam: int,
        own: int | None = None,
        pause: int | None = None,
    ) -> None:
        self.units, self.finished = guide.units, list[str]()
        self._guide, self._beam, self._pause, self._quiet = guide, beam, pause, 0
        self._silent = [token for token in range(len(guide.units)) if not guide.units.decode([token])]
        self._resampler = None if own in (None, rate) else need("soxr", EXTRA).ResampleStream(own, rate, 1)
        self._listener, self._running = Listener(rate), Running(start)
        self._steps = _Steps(network)
        self._finished = False
        self._begin()

    def _begin(self) -> None:
        """With a text."""
        self._search = None if self._beam == 1 and self._guide.free else Search(self._guide, self._beam)
        self._tokens: list[int] = []
        self._last = BLANK

    def push(self, samples: NDArray[Any]) -> str:
        """Take more mono samples between −1 and 1, (samples,), and return the text so far, since the last pause.

        Raises:
            InputError: for samples that are no finite numbers, another shape, or after ``finish``.
        """
        if not isinstance(samples, np.ndarray) or samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise InputError("samples must be an array of floats between -1 and 1, (samples,)")
        samples = np.ascontiguousarray(samples, np.float32)
        if not np.isfinite(samples).all():
            raise InputError("samples must be finite numbers, got some that are not")
        if self._finished:
            raise InputError("the recording is finished: start another one")
        return self._heard(self._resampled(samples, last=False), last=False)

    def finish(self) -> str:
        """The whole text, since the last pause: nothing more comes."""
        if not self._finished:
            self._heard(self._resampled(np.zeros(0, np.float32), last=True), last=True)
            self._finished = True
        return self.text

    @property
    def text(self) -> str:
        """What has been said since the last pause; with a search, later sound may change it."""
        return self.units.decode(self._tokens if self._search is None else self._search.best()[0].tokens)

    def _resampled(self, samples: Samples, last: bool) -> Samples:
        if self._resampler is None:
            return samples
        found: Samples = self._resampler.resample_chunk(samples, last=last)
        return found

    def _heard(self, samples: Samples, last: bool) -> str:
        frames = self._listener.push(samples)
        if last:
            frames = np.concatenate([frames, self._listener.finish()])
        emission = self._steps.push(self._running.push(frames), last)
        begin = 0
        for end in self._pauses(emission):
            self._write(emission[begin:end])
            self.finished += [self.text] if self.text else []
            self._begin()
            begin = end
        self._write(emission[begin:])
        return self.text

    def _pauses(self, emission: Emission) -> list[int]:
        """Steps behind which there was no letter for so long that the text has ended."""
        found = []
        for step, token in enumerate(emission.argmax(1).tolist() if len(emission) else (), 1):
            self._quiet = self._quiet + 1 if token in self._silent else 0
            if self._quiet == self._pause:
                found.append(step)
        return found

    def _write(self, emission: Emission) -> None:
        if self._search is not None:
            self._search.push(emission)
            return
        for token in emission.argmax(1).tolist() if len(emission) else ():
            if token not in (BLANK, self._last):
                self._tokens.append(token)
            self._last = token


class _Steps:
    """The network over frames that come in pieces, with what each part of it still waits for."""

    def __init__(self, network: SpeechNetwork) -> None:
        if network.layers.bidirectional:
            raise InputError(
                "the model reads recordings in both directions, so it cannot write while it listens: fit one with "
                "--direction forward"
            )
        self.network = network
        self._front, self._head = linear_maps(network)
        self._stream = network.layers.stream(1)
        self._frames = np.zeros((network.before, BANDS), np.float32)
        self._count = 0  # of frames that came
        self._done = 0  # of steps that the layers took
        self._seen = torch.zeros(0, 1, network.layers.hidden_size)

    def push(self, frames: Frames, last: bool) -> Emission:
        """The log-probabilities of the steps that nothing later can change, (steps, tokens)."""
        network = self.network
        self._frames, self._count = np.concatenate([self._frames, frames]), self._count + len(frames)
        whole = -(-self._count // network.stride) - self._done
        if last:
            missing = max(0, (whole - 1) * network.stride + network.window - len(self._frames))
            self._frames = np.concatenate([self._frames, np.zeros((missing, BANDS), np.float32)])
        count = min(whole, max(0, (len(self._frames) - network.window) // network.stride + 1))
        with torch.inference_mode():
            self._seen = torch.cat([self._seen, *self._stepped(count)])
            ready, behind = self._seen, network.lookahead
            if last:
                ready = torch.cat([ready, ready.new_zeros(behind, *ready.shape[1:])])
            if len(ready) <= behind:
                return np.zeros((0, len(network.head.bias)), np.float32)
            self._seen = ready[len(ready) - behind :]
            mixed = ready if network.ahead is None else ahead(ready, network.ahead)
            logs: Emission = self._head(mixed).log_softmax(-1)[:, 0].numpy()
        return logs

    def _stepped(self, count: int) -> Sequence[Tensor]:
        """The outputs of the layers for the next steps, (1, 1, hidden_size) each."""
        if count == 0:
            return ()
        stride, window = self.network.stride, self.network.window
        x = np.stack([self._frames[k * stride : k * stride + window].reshape(-1) for k in range(count)])
        self._frames, self._done = self._frames[count * stride :], self._done + count
        given = self._front(torch.from_numpy(x)[:, None])
        return [self._stream.step(row)[None] for row in given]
