"""An optional search: the first layouts of the order are timed on the card at hand, and the fastest is kept.

Nothing searches by itself. Who will train for hours with one shape calls ``search`` once; later calls of that shape, in
later processes too, take what it found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from gatewise.backends.cuda import kept
from gatewise.backends.cuda.arguments import Arguments
from gatewise.backends.cuda.card import Card
from gatewise.backends.cuda.choice import candidates, too_large
from gatewise.backends.cuda.code import TRIED, fitting
from gatewise.backends.cuda.design import Design, UnsuitableError
from gatewise.backends.cuda.gpu import Gpu, gpu
from gatewise.backends.cuda.gradients import backward, backward_design
from gatewise.backends.cuda.layout import Layout, Number
from gatewise.backends.cuda.pack import Weights
from gatewise.backends.cuda.sequence import INFERENCE, TRAINING, Call, Machine, forward, forward_design
from gatewise.backends.cuda.steps import by_graph
from gatewise.backends.kernels.layout import layout as rows_of
from gatewise.compiler.cell import Cell
from gatewise.compiler.definition import weight_name
from gatewise.compiler.plan import make_plans

REPEATS = 7
Clock = Callable[[Layout], float]
"""How long a run in a layout takes, in any unit."""


def fastest(design: Design, number: Number, units: int, rows: int, card: Card, clock: Clock) -> Layout:
    """The fastest of the first layouts, kept for ``code.fitting``. Those that spill are timed as well: a few bytes on
    the stack cost little, and one such layout was the fastest for its shape.

    Raises:
        UnsuitableError: where the card has no room for the weights.
    """
    tried = candidates(design, number, units, rows, card)[:TRIED]
    if not tried:
        raise UnsuitableError(too_large(design, units))
    found = min(tried, key=clock)
    kept.keep(design, tried, rows, card, found)
    fitting.cache_clear()
    return found


@dataclass
class Fixed:
    """A machine that runs one design in a given layout."""

    machine: Machine
    design: Design
    fixed: Layout

    def layout(self, design: Design, number: Number, units: int, rows: int) -> Layout:
        return self.fixed if design == self.design else self.machine.layout(design, number, units, rows)

    def pack(self, weights: Weights, layout: Layout) -> Tensor:
        return self.machine.pack(weights, layout)

    def launch(self, design: Design, layout: Layout, arguments: Arguments) -> None:
        self.machine.launch(design, layout, arguments)


Run = Callable[[Machine], object]


def search(cell: Cell, number: Number, units: int, rows: int, steps: int = 100, device: int = 0) -> list[Layout]:
    """Time the layouts of a cell on a card, for prediction, training and the backward, and keep the fastest of each.

    It waits for the card. Times are of whole calls on random numbers, recorded as CUDA graphs so that the host's time
    is none of them, with products outside of the kernel, which are the same for every layout.
    """
    machine = gpu(device)
    with torch.no_grad(), torch.cuda.device(device):
        call = random_call(cell, number, units, rows, steps, torch.device("cuda", device))
        return [
            fastest(design, number, units, rows, machine.card, _clock(machine, design, run))
            for design, run in runs(machine, call)
        ]


def runs(machine: Machine, call: Call) -> list[tuple[Design, Run]]:
    """The kernels of a cell, and what runs each with all that belongs to it."""
    saved = forward(machine, call, TRAINING)
    finals = [None] * len(call.cell.states)
    return [
        (forward_design(call.cell, INFERENCE), lambda on: forward(on, call, INFERENCE)),
        (forward_design(call.cell, TRAINING), lambda on: forward(on, call, TRAINING)),
        (backward_design(call.cell), lambda on: backward(on, call, saved, saved.y, finals)),
    ]


def random_call(cell: Cell, number: Number, units: int, rows: int, steps: int, device: torch.device) -> Call:
    """A call with as many inputs as units."""
    like = torch.empty(0, device=device, dtype=number.dtype)
    shapes = cell.parameter_shapes(units, units)
    parameters = {name: like.new_empty(shape).normal_(std=units**-0.5) for name, shape in shapes.items()}
    columns = {"input": units, "hidden": units}
    widths = {name: int(columns.get(str(width), width)) for name, width in (*cell.inputs, *cell.vectors)}
    inputs = {
        name: like.new_empty(steps, rows, widths.get(name, units)).uniform_() for name in make_plans(cell).input_terms
    }
    read = {node: shapes[weight_name(name)][1] for use in cell.uses for name, node in use.inputs}
    operands = [like.new_empty(steps, rows, read[node]).uniform_() for node in rows_of(cell, 0).operands]
    states = [like.new_zeros(rows, units) for _ in cell.states]
    return Call(cell, number, operands, inputs, states, parameters, steps)


def _clock(machine: Gpu, design: Design, run: Run) -> Clock:
    record = by_graph(torch.device("cuda", machine.index))

    def milliseconds(layout: Layout) -> float:
        replay, found = record(lambda: run(Fixed(machine, design, layout))), []
        for _ in range(1 + REPEATS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            replay()
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end))
        return float(median(found[1:]))

    return milliseconds
