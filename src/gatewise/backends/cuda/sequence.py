"""The forward of a cell over a sequence: input products through torch, then one kernel for all steps.

What differs between a card and anything else that runs the kernels' source is a ``Machine``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from gatewise.backends.cuda import pieces
from gatewise.backends.cuda.arguments import Arguments, Place, Slab
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Exchange, Layout, Number
from gatewise.backends.cuda.pack import Weights, squares
from gatewise.backends.kernels.layout import Layout as Rows
from gatewise.backends.kernels.layout import layout as rows_of
from gatewise.backends.kernels.sequence import gate_slabs
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import gate_arrays, make_plans, traced


def as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Asking takes a twentieth of the time of ``Tensor.to``, which changes nothing most of the time."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def in_lanes(tensor: Tensor) -> Tensor:
    """With neighbouring units side by side, and strides that a kernel can hold."""
    lanes = tensor.stride(-1) == 1 or tensor.shape[-1] == 1
    return tensor if lanes and max(tensor.stride()) * tensor.element_size() < 2**31 else tensor.contiguous()


class Machine(Protocol):
    """What runs kernels."""

    def layout(self, design: Design, number: Number, units: int, rows: int) -> Layout:
        """The layout of a design for so many units and rows of the batch."""

    def pack(self, weights: Weights, layout: Layout) -> Tensor:
        """Weights in the order in which the kernel of a layout reads them, or memory that they are queued for."""

    def launch(self, design: Design, layout: Layout, arguments: Arguments) -> None:
        """Run a kernel, or put it into the queue."""


@dataclass
class Call:
    """One application of a cell.

    Args:
        operands: the input-like operands of the affine maps, (T, B, width), in the order of ``input_operands``.
        inputs: keyword inputs and vectors that are used element by element, (T, B, width).
        states: (B, units) each. parameters: by the names of ``Cell.parameter_shapes``; biases may be absent.
    """

    cell: Cell
    number: Number
    operands: Sequence[Tensor]
    inputs: Mapping[str, Tensor]
    states: Sequence[Tensor]
    parameters: Mapping[str, Tensor]
    steps: int
    reverse: bool = False
    alive: list[Tensor] = field(default_factory=list)
    """Tensors whose memory kernels are still to read when they are put into the queue."""

    def __post_init__(self) -> None:
        dtype = self.number.dtype
        self.operands = [as_dtype(o, dtype) for o in self.operands]
        self.inputs = {name: as_dtype(value, dtype) for name, value in self.inputs.items()}
        self.rows, self.units = self.states[0].shape
        whole = self.units % self.number.chunk == 0
        self.told = self.units if whole else -(-self.units // 16) * 16
        """Columns of what blocks tell each other."""
        bias = self.parameters.get("bias_hh")
        self.held = 0 if bias is None else bias.shape[0] // self.units
        """Blocks of ``bias_hh``."""
        self.layout: Rows = rows_of(self.cell, self.held)

    def new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return self.states[0].new_empty(shape, dtype=dtype or self.number.dtype)

    def exchanged(self, steps: int, wanted: Tensor | None, marked: bool) -> Tensor:
        """Memory of values that blocks tell each other, (T, B, told): what is wanted itself, where it lies in whole
        pieces of 16 bytes. ``marked``: as nobody has written it yet."""
        memory = wanted if wanted is not None and self.told == self.units else self.new(steps, self.rows, self.told)
        if marked:
            memory.view(torch.uint8).fill_(0xFF)
        return memory

    def bias(self, uses: Sequence[int], dtype: torch.dtype) -> Tensor | None:
        """Of some uses, one behind another; None where they have none."""
        return pieces.bias(self.cell, self.held, uses, self.parameters, self.units, dtype)

    def weights(self, names: Sequence[str]) -> Tensor:
        """By their names in the plans, not transposed, one under another."""
        blocks = tuple([self.layout.weights[name] for name in names])
        return as_dtype(pieces.joined(self.parameters, blocks, self.units), self.number.dtype)

    def packed(self, machine: Machine, design: Design, layout: Layout) -> Tensor:
        wanted = squares(design, self.layout)
        return machine.pack(Weights.of(wanted, self.parameters, self.units, self.number), layout)

    def constants(self, design: Design) -> Tensor | None:
        """The vectors that a kernel reads, (vector, units)."""
        found, real = [], self.number.real
        for name in design.constants:
            kind, _, k = name.partition(".")
            diagonal = kind == "weight_diagonal"
            one = as_dtype(self.parameters[kind][int(k)], real) if diagonal else self.bias([int(k)], real)
            found.append(self.new(self.units, dtype=real).zero_() if one is None else one)
        return torch.stack(found) if len(found) > 1 else found[0].contiguous() if found else None

    def element_wise(self) -> dict[str, Slab]:
        """Keyword inputs, vectors among them, in the order of the forward."""
        found = {}
        for name, value in self.inputs.items():
            lanes = in_lanes(value)
            self.alive.append(lanes)
            found[f"in.{name}"] = Slab.of(lanes, lanes, self.reverse)
        return found

    def projected(self) -> dict[str, Slab]:
        """``gx.i``, bias and input products of each use that has an input, in the order of the forward."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i in self.layout.projected:
            groups.setdefault(tuple(self.layout.operands.index(n) for _, n in self.cell.uses[i].inputs), []).append(i)
        found: dict[str, Slab] = {}
        dtype = self.number.dtype
        for operands, uses in groups.items():
            bias, whole = self.bias(uses, dtype), None
            for k in operands:
                weight, values = self.weights([f"w.{k}.{i}" for i in uses]), self.operands[k].flatten(0, 1)
                more = bias if whole is None else whole
                whole = values @ weight.T if more is None else torch.addmm(more, values, weight.T)
            assert whole is not None
            shaped = whole.view(self.steps, self.rows, -1)
            found |= {f"gx.{i}": Slab.columns(shaped, j * self.units, self.reverse) for j, i in enumerate(uses)}
            self.alive.append(whole)
        return found


@dataclass
class Kept:
    """What a forward leaves."""

    y: Tensor
    """The output, (T, B, units)."""
    saved: Tensor
    """(slab, T, B, units), by the purpose of the forward."""
    finals: list[Tensor]
    """(B, units), in the dtype of sums."""


INFERENCE, TRAINING, TRACED = "inference", "training", "traced"
"""What a forward keeps: nothing, what ``gate_slabs`` names, or the values of the gates."""


@lru_cache(maxsize=256)
def forward_design(cell: Cell, purpose: str) -> Design:
    plans = make_plans(cell)
    histories = [cell.states[0], *(plans.histories if purpose == TRAINING else ())]
    plan = {INFERENCE: plans.forward, TRAINING: plans.training}.get(purpose) or traced(cell)
    sides = {f"gx.{i}": use.inputs for i, use in enumerate(cell.uses)}  # as ``Call.projected`` puts them together
    return Design(plan, frozenset(f"state.{s}" for s in histories), sides)


def _slabs(cell: Cell, purpose: str) -> Sequence[str]:
    return {INFERENCE: (), TRAINING: gate_slabs(cell)}.get(purpose, gate_arrays(cell))


def forward(machine: Machine, call: Call, purpose: str) -> Kept:
    """Run the cell over at least one step of at least one row."""
    return _Forward(machine, call, purpose).run()


class _Forward:
    def __init__(self, machine: Machine, call: Call, purpose: str) -> None:
        self.machine, self.call = machine, call
        self.design = forward_design(call.cell, purpose)
        self.layout = machine.layout(self.design, call.number, call.units, call.rows)
        self.marked = self.layout.exchange is Exchange.CACHE
        self.slabs = _slabs(call.cell, purpose)
        shape = (call.steps, call.rows, call.units)
        self.y, self.saved = call.new(*shape), call.new(len(self.slabs), *shape)
        self.wanted = {
            f"state.{s}" if s in call.cell.states else s: m for s, m in zip(self.slabs, self.saved, strict=True)
        }
        self.wanted[f"state.{call.cell.states[0]}"] = self.y

    def run(self) -> Kept:
        call, design = self.call, self.design
        named = list(zip([f"state.{s}" for s in call.cell.states], call.states, strict=True))
        initial = {name: as_dtype(state, call.number.real).contiguous() for name, state in named}
        finals = {name: call.new(call.rows, call.units, dtype=call.number.real) for name in initial}
        memory = {v.name: self._memory(v.name) for v in design.vectors if self.marked or v.name in self.wanted}
        vectors = {}
        for v in design.vectors:
            if v.name in memory:
                place = Place.of(memory[v.name], call.reverse)
                first = call.exchanged(1, None, True)[0] if self.marked and v.carried else None
                vectors[v.name, v.carried] = place.before(first) if v.carried else place
                call.alive += [] if first is None else [first]
        arguments = Arguments(
            steps=call.steps,
            rows=call.rows,
            share=min(self.layout.share or self.layout.rows, call.rows),
            weights=call.packed(self.machine, design, self.layout),
            constants=call.constants(design),
            inputs=call.projected() | call.element_wise(),
            outputs={name: Place.of(m, call.reverse) for name, m in self.wanted.items()},
            vectors=vectors,
            initial=initial,
            final=finals,
        )
        self.machine.launch(design, self.layout, arguments)
        for name, used in memory.items():
            if name in self.wanted and used is not self.wanted[name]:
                self.wanted[name].copy_(used[..., : call.units])
        return Kept(self.y, self.saved, list(finals.values()))

    def _memory(self, name: str) -> Tensor:
        return self.call.exchanged(self.call.steps, self.wanted.get(name), self.marked)
