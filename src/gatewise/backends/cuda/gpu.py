"""A card as a machine that runs kernels: loaded once, launched on torch's current stream, never waited for."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from dataclasses import replace

import torch
from torch import Tensor

from gatewise.backends.cuda import driver, nvrtc
from gatewise.backends.cuda.arguments import Arguments
from gatewise.backends.cuda.card import TOO_OLD, Card, architecture
from gatewise.backends.cuda.code import code, fitting, packing_code
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Exchange, Layout, Number
from gatewise.backends.cuda.pack import THREADS, Weights
from gatewise.backends.cuda.source import ENTRY
from gatewise.backends.cuda.turns import Turns

_PROBE = 'extern "C" __global__ void probe() {}'
_RESERVED = 1024
"""Bytes of a block's shared memory that cards from Hopper on keep for themselves."""
_REASONS = {
    1: "block {} waited in vain for the values of event {} of step {} from its cluster",
    2: "block {} waited in vain for vector {} of step {} from other blocks",
}


class OldCardError(RuntimeError):
    """A card that the kernels were not written for, beside one that they were."""


class Gpu:
    """See ``sequence.Machine``."""

    def __init__(self, index: int) -> None:
        self.index = index
        with torch.cuda.device(index):
            driver.ensure_context(index)
            self.card = _card(index)
            # A kernel that gives up says why here, since nothing else can be read from a card that has failed.
            self._report = torch.zeros(4, dtype=torch.int32, pin_memory=True)
            self._words = (ctypes.c_uint32 * 4).from_address(self._report.data_ptr())
            self._turns = Turns(torch.cuda.Event())
        self._functions: dict[tuple[Design, Layout], tuple[driver.Function, int]] = {}
        self._packing: dict[Number, driver.Function] = {}

    def layout(self, design: Design, number: Number, units: int, rows: int) -> Layout:
        found = fitting(design, number, units, rows, self.card)[0]
        if _without_rows(design, found) not in self._functions:
            with torch.cuda.device(self.index):
                recording = torch.cuda.is_current_stream_capturing()
            if recording:
                raise RuntimeError(
                    "a kernel cannot be loaded while a CUDA graph is recorded; make the same call once before that"
                )
        return found

    def pack(self, weights: Weights, layout: Layout) -> Tensor:
        number = layout.number
        with torch.cuda.device(self.index):
            function = self._packing.get(number)
            if function is None:  # then no cell's kernel is loaded either, and ``layout`` has refused to record a graph
                cubin = packing_code(number, self.card.architecture).cubin
                function = self._packing[number] = driver.Function(cubin, ENTRY, driver.Launch(THREADS, 0))
            size = weights.tiles * layout.pieces * number.chunk
            packed = torch.empty(size, dtype=number.dtype, device="cuda")
            stream = torch.cuda.current_stream(self.index).cuda_stream
            for blocks, given in weights.launches(layout, packed.data_ptr()):
                function(blocks, given, stream)
        return packed

    def launch(self, design: Design, layout: Layout, arguments: Arguments) -> None:
        with torch.cuda.device(self.index):
            function, sets = self._loaded(design, layout)
            stream = torch.cuda.current_stream(self.index)
            # Blocks that poll memory must all run: what does not fit at once is another launch.
            polls = layout.exchange is Exchange.CACHE
            step = sets if polls else arguments.sets
            with self._turn(stream) if polls else contextlib.nullcontext():
                for first in range(0, arguments.sets, step):
                    blocks = min(step, arguments.sets - first) * layout.blocks
                    given = arguments.packed(design, first, ctypes.addressof(self._words))
                    function(blocks, given, stream.cuda_stream)

    def _turn(self, stream: torch.cuda.Stream) -> contextlib.AbstractContextManager[None]:
        recording = torch.cuda.is_current_stream_capturing()
        return contextlib.nullcontext() if recording else self._turns.turn(stream)

    def _loaded(self, design: Design, layout: Layout) -> tuple[driver.Function, int]:
        """The kernel, and how many sets of its blocks run at once."""
        key = _without_rows(design, layout)
        known = self._functions.get(key)
        if known is None:
            cluster = layout.blocks if layout.exchange is Exchange.CLUSTER else 1
            together = layout.exchange is Exchange.CACHE
            launch = driver.Launch(layout.threads, layout.shared(design), cluster, together)
            function = driver.Function(code(design, layout, self.card.architecture).cubin, ENTRY, launch)
            known = function, function.at_once(self.card.multiprocessors) // layout.blocks
            if known[1] == 0:
                raise RuntimeError(f"the {layout.blocks} blocks of a set do not run at once on this card")
            self._functions[key] = known
        return known

    def raise_what_was_reported(self) -> None:
        """What a kernel said before it ended with an error, of which torch says no more than that there was one.

        Raises:
            RuntimeError: with that reason; the process has lost this card.
        """
        if self._words[0]:
            reason, block, step, event = self._words
            raise RuntimeError(f"a kernel on this GPU gave up: {_REASONS[reason].format(block, event, step)}")


@functools.lru_cache(maxsize=1024)
def _without_rows(design: Design, layout: Layout) -> tuple[Design, Layout]:
    """What a loaded kernel depends on: batches of any size share it."""
    return design, replace(layout, share=0)


@functools.lru_cache(maxsize=64)
def _card(index: int) -> Card:
    """What the driver says of a card; its context must be current."""
    capability, multiprocessors, shared = driver.attributes(index)
    name = architecture(*capability)
    if not name:
        raise OldCardError(TOO_OLD.format(*capability))
    clusters: dict[int, int] = {}
    if capability >= (9, 0):
        shared -= _RESERVED
        cubin, _ = nvrtc.compiled(_PROBE, {}, name)
        for size in (2, 4, 8, 16):
            # With all shared memory for each block, so that a multiprocessor has one. A size that the driver refuses
            # is one that the card has no clusters of.
            with contextlib.suppress(driver.DriverError):
                count = driver.Function(cubin, "probe", driver.Launch(32, shared, size)).at_once(multiprocessors)
                clusters |= {size: count // size} if count else {}
    return Card(name, multiprocessors, shared, clusters)


@functools.lru_cache(maxsize=64)
def gpu(index: int) -> Gpu:
    return Gpu(index)
