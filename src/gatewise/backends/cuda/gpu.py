"""A card as a machine that runs kernels: loaded once, launched on torch's current stream, never waited for."""

from __future__ import annotations

import ctypes
import functools

import torch

from gatewise.backends.cuda import driver, nvrtc
from gatewise.backends.cuda.arguments import Arguments
from gatewise.backends.cuda.card import Card, architecture
from gatewise.backends.cuda.code import code, fitting
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Exchange, Layout, Number
from gatewise.backends.cuda.source import ENTRY

_PROBE = 'extern "C" __global__ void probe() {}'
_RESERVED = 1024
"""Bytes of a block's shared memory that cards from Hopper on keep for themselves."""
_REASONS = {
    1: "block {} waited in vain for the values of event {} of step {} from its cluster",
    2: "block {} waited in vain for vector {} of step {} from other blocks",
}


class Gpu:
    """See ``sequence.Machine``."""

    def __init__(self, index: int) -> None:
        self.index = index
        with torch.cuda.device(index):
            self.card = _card(index)
            # A kernel that gives up says why here, since nothing else can be read from a card that has failed.
            self._report = torch.zeros(4, dtype=torch.int32, pin_memory=True)
        self._functions: dict[tuple[Design, Layout], tuple[driver.Function, int]] = {}

    def layout(self, design: Design, number: Number, units: int, rows: int) -> Layout:
        return fitting(design, number, units, rows, self.card)[0]

    def launch(self, design: Design, layout: Layout, arguments: Arguments) -> None:
        self._raise_what_was_reported()
        with torch.cuda.device(self.index):
            function, sets = self._loaded(design, layout)
            stream = torch.cuda.current_stream(self.index).cuda_stream
            # Blocks that poll memory must all run: what does not fit at once is another launch.
            step = sets if layout.exchange is Exchange.CACHE else arguments.sets
            for first in range(0, arguments.sets, step):
                blocks = min(step, arguments.sets - first) * layout.blocks
                function(blocks, arguments.packed(design, first, self._report.data_ptr()), stream)

    def _loaded(self, design: Design, layout: Layout) -> tuple[driver.Function, int]:
        """The kernel, and how many sets of its blocks run at once."""
        known = self._functions.get((design, layout))
        if known is None:
            cluster = layout.blocks if layout.exchange is Exchange.CLUSTER else 1
            together = layout.exchange is Exchange.CACHE
            launch = driver.Launch(layout.threads, layout.shared(design), cluster, together)
            function = driver.Function(code(design, layout, self.card.architecture).cubin, ENTRY, launch)
            known = function, function.at_once(self.card.multiprocessors) // layout.blocks
            if known[1] == 0:
                raise RuntimeError(f"the {layout.blocks} blocks of a set do not run at once on this card")
            self._functions[design, layout] = known
        return known

    def _raise_what_was_reported(self) -> None:
        words = (ctypes.c_uint32 * 4).from_address(self._report.data_ptr())
        reason, block, step, event = words
        if reason:
            raise RuntimeError(f"a kernel on this GPU gave up: {_REASONS[reason].format(block, event, step)}")


@functools.lru_cache(maxsize=64)
def _card(index: int) -> Card:
    """What the driver says of a card; its context must be current."""
    capability, multiprocessors, shared = driver.attributes(index)
    name = architecture(*capability)
    clusters = {}
    if capability >= (9, 0):
        shared -= _RESERVED
        cubin, _ = nvrtc.compiled(_PROBE, {}, name)
        for size in (2, 4, 8, 16):
            # With all shared memory for each block, so that a multiprocessor has one.
            count = driver.Function(cubin, "probe", driver.Launch(32, shared, size)).at_once(multiprocessors)
            if count:
                clusters[size] = count // size
    return Card(name, multiprocessors, shared, clusters)


@functools.lru_cache(maxsize=64)
def gpu(index: int) -> Gpu:
    return Gpu(index)
