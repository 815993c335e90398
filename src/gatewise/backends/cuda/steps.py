"""The steps of a stream on a GPU: one step of all layers is recorded once and replayed.

A step alone is a few dozen small operations of torch, whose launches take longer than they do. They are recorded as a
CUDA graph, which one call of the driver runs. What it reads and writes has its place in memory for good: a step copies
x there, and its result from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gatewise.backends import eager
from gatewise.compiler.cell import Cell

Record = Callable[[Callable[[], object]], Callable[[], object]]
"""Records what a function asks of the device. It may run the function any number of times; what it gives asks for the
same again, of the same memory."""
Parameters = Sequence[Mapping[str, Tensor]]


def by_graph(device: torch.device) -> Record:
    """Recorded as CUDA graphs on this device. Recording waits for the card, replaying does not."""

    def record(work: Callable[[], object]) -> Callable[[], object]:
        with torch.cuda.device(device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                work()  # libraries load their kernels and take their memory, which cannot be recorded
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                work()

        def replay() -> None:
            with torch.cuda.device(device):
                graph.replay()

        return replay

    return record


class Steps:
    """See ``base.Engine``.

    Args:
        sizes: columns of x, rows of the batch, units. parameters: of every layer. like: of the device and dtype of all.
    """

    remark = ", each step a CUDA graph of torch's operations"

    def __init__(
        self, cell: Cell, sizes: tuple[int, int, int], parameters: Parameters, like: Tensor, record: Record
    ) -> None:
        width, rows, units = sizes
        columns = {"input": width, "hidden": units}
        widths = {name: columns.get(str(size)) or int(size) for name, size in cell.inputs}
        self.cell = cell
        self.states = like.new_zeros(len(cell.states), len(parameters), rows, units)
        self._x, self._out = like.new_zeros(1, rows, width), like.new_zeros(rows, units)
        self._given = {name: like.new_zeros(1, rows, size) for name, size in widths.items()}
        self._parameters = [{name: p.detach().clone() for name, p in own.items()} for own in parameters]
        self._replay = record(self._work)
        self.states.zero_()

    def pack(self, parameters: Parameters) -> None:
        """Take over weights, into the memory that the recorded step reads."""
        for own, given in zip(self._parameters, parameters, strict=True):
            for name, memory in own.items():
                memory.copy_(given[name])

    def step(self, x: Tensor, out: Tensor, given: Sequence[Tensor]) -> None:
        self._x.copy_(x.view(self._x.shape))
        for memory, value in zip(self._given.values(), given, strict=True):
            memory.copy_(value.view(memory.shape))
        self._replay()
        out.copy_(self._out.view(out.shape))

    def _work(self) -> None:
        y = self._x
        with torch.no_grad(), torch.autocast(y.device.type, enabled=False):
            for k, own in enumerate(self._parameters):
                y, final = eager.sequence(self.cell, y, self._given, list(self.states[:, k]), own)
                for state, value in zip(self.states[:, k], final, strict=True):
                    state.copy_(value)
            self._out.copy_(y[0])
