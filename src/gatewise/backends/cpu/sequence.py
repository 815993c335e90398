"""A cell over a sequence on the cpu backend: which memory each array of a plan is, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gatewise.backends.cpu import launch
from gatewise.backends.cpu.launch import Block, Place, Target
from gatewise.compiler.cell import Cell, Use
from gatewise.compiler.plan import Plan, Plans, input_operands, make_plans

CHUNK = 512
"""Rows of the input products that are worked on together, so that they stay in the second-level cache."""


@dataclass
class Call:
    """One application of a cell: its tensors, contiguous, (T, B, width) or (B, width); and where they lie."""

    cell: Cell
    to: Target
    operands: Sequence[Tensor]
    """The input-like operands of the affine maps, in the order of ``input_operands``."""
    inputs: Mapping[str, Tensor]
    """Keyword inputs that are used element-wise."""
    states: Sequence[Tensor]
    parameters: Mapping[str, Tensor]
    reverse: bool
    steps: int
    plans: Plans = field(init=False)

    def __post_init__(self) -> None:
        self.plans = make_plans(self.cell)
        self.rows, self.units = self.states[0].shape
        self.operands = [o.contiguous() for o in self.operands]
        self.inputs = {name: value.contiguous() for name, value in self.inputs.items()}
        self.states = [s if s.stride(-1) == 1 or s.shape[-1] == 1 else s.contiguous() for s in self.states]
        self.parameters = {name: p.contiguous() for name, p in self.parameters.items()}
        bias = self.parameters.get("bias_hh")
        redundant = bias is not None and len(bias) != len(self.cell.rows("bias_hh")) * self.units
        self.bias_hh_rows = self.cell.rows("weight_hh") if redundant else self.cell.rows("bias_hh")
        self.projected = [i for i, use in enumerate(self.cell.uses) if use.inputs]
        self.alive: list[Tensor] = []

    def empty(self, *shape: int) -> Tensor:
        return launch.empty(shape, self.states[0])

    def hold(self, tensor: Tensor) -> Tensor:
        """Keep memory that a kernel reads alive until the call ends."""
        self.alive.append(tensor)
        return tensor

    # Where things lie

    def over_time(self, tensor: Tensor, *, backward: bool = False, slab: int = 0) -> Place:
        """An array of one slice per step, walked in the order of the forward or the backward."""
        size, stride = tensor.element_size(), tensor.stride()
        base, step = tensor.data_ptr() + slab * self.units * size, stride[0] * size
        if self.reverse != backward:
            base, step = base + (self.steps - 1) * step, -step
        return Place(base, step, stride[1] * size)

    def carried(self, tensor: Tensor, initial: Tensor, *, whole: bool) -> Place:
        """A state, or its gradient on the way back: every step reads what the step before wrote."""
        size = tensor.element_size()
        p = self.over_time(tensor) if whole else Place(tensor.data_ptr(), tensor.stride(0) * size, mask=1)
        row, first = tensor.stride(1) * size, initial.data_ptr()
        return Place(p.base, p.stride, row, p.mask, -1, 0, first, initial.stride(0) * size)

    def vector(self, tensor: Tensor) -> Place:
        return Place(self.hold(tensor).data_ptr())

    def scratch(self, plan: Plan) -> dict[str, Place]:
        """Memory for values that later phases of a step read; operands of products have two slices in turn."""
        places = {}
        for name in plan.kept:
            slices = 2 if name in plan.operands else 1
            memory = self.hold(self.empty(slices, self.rows, self.units))
            row = self.units * self.to.size
            places[name] = Place(memory.data_ptr(), self.rows * row, row, mask=slices - 1)
        return places

    def element_wise(self, *, backward: bool = False) -> dict[str, Place]:
        places = {f"in.{name}": self.over_time(value, backward=backward) for name, value in self.inputs.items()}
        diagonal = self.parameters.get("weight_diagonal")
        if diagonal is not None:
            places |= {f"weight_diagonal.{k}": self.vector(diagonal[k]) for k in range(len(diagonal))}
        return places

    # Weights

    def rows_of(self, parameter: str) -> tuple[str, ...]:
        return self.bias_hh_rows if parameter == "bias_hh" else self.cell.rows(parameter)

    def block(self, parameter: str, gate: str) -> slice:
        k = self.rows_of(parameter).index(gate)
        return slice(k * self.units, (k + 1) * self.units)

    def weight(self, parameter: str, gate: str, *, transposed: bool) -> Block:
        matrix = self.parameters[parameter]
        row = matrix.shape[1] * matrix.element_size()
        return Block(matrix.data_ptr() + self.block(parameter, gate).start * row, row, transposed)

    def blocks(self, *, transposed: bool) -> dict[str, Block]:
        """Every weight block by its name in the plans: of the forward (rows = units), or of the backward."""
        end = "" if transposed else "t"
        found = {}
        operands = {node: k for k, (_, node) in enumerate(input_operands(self.cell))}
        for i, use in enumerate(self.cell.uses):
            if use.state is not None:
                found[f"u{end}.{i}"] = self.weight("weight_hh", use.gate, transposed=transposed)
            for owner, node in use.inputs:
                name = weight_name(owner)
                found[f"w{end}.{operands[node]}.{i}"] = self.weight(name, use.gate, transposed=transposed)
        return found

    def owned_biases(self, use: Use) -> list[tuple[str, slice]]:
        """The bias blocks that a use adds; none without biases."""
        owned = [("bias_ih", use.has_input_half), ("bias_hh", use.state is not None or not use.has_input_half)]
        return [
            (name, self.block(name, use.gate))
            for name, owns in owned
            if owns and name in self.parameters and use.gate in self.rows_of(name)
        ]

    def bias(self, use: Use) -> Place:
        parts = [self.parameters[name][rows] for name, rows in self.owned_biases(use)]
        if not parts:
            return self.vector(torch.zeros(self.units, dtype=self.to.dtype))
        return self.vector(parts[0] if len(parts) == 1 else parts[0] + parts[1])

    def run(self, name: str, plan: Plan, places: Mapping[str, Place], **sizes: object) -> None:
        """Run a plan by its name among this cell's plans."""
        launch.run(f"{self.cell.text}{name}", plan, self.to, places=places, **sizes)  # type: ignore[arg-type]

    def widths(self) -> dict[str, int]:
        return {f"operand.{k}": o.shape[-1] for k, o in enumerate(self.operands)}


def weight_name(owner: str) -> str:
    """The parameter that multiplies an input."""
    return "weight_ih" if owner == "x" else f"weight_{owner}"


def forward(call: Call, *, training: bool) -> tuple[Tensor, list[Tensor], Tensor]:
    """The output (T, B, H), the final states, and what the backward needs: (slabs, T, B, H)."""
    plans, cell = call.plans, call.cell
    y = call.empty(call.steps, call.rows, call.units)
    slabs = [*plans.saved, *plans.histories] if training else []
    saved = call.empty(len(slabs), *y.shape)
    if y.numel() == 0:
        return y, [s.clone() for s in call.states], saved
    plan = plans.training if training else plans.forward
    values = {s: saved[slabs.index(s)] for s in slabs if s in plans.histories}
    values[cell.states[0]] = y
    places = call.element_wise() | call.scratch(plan) | _project(call)
    places |= {name: call.over_time(saved[k]) for k, name in enumerate(slabs) if name in plans.saved}
    for state, initial in zip(cell.states, call.states, strict=True):
        whole = state in values
        if not whole:  # nobody asks for its past: two slices in turn
            values[state] = call.empty(2, call.rows, call.units)
        places[f"state.{state}"] = call.carried(values[state], initial, whole=whole)
    sizes = {"steps": call.steps, "rows": call.rows, "units": call.units}
    name = "training" if training else "forward"
    call.run(name, plan, places, blocks=call.blocks(transposed=True), widths={}, **sizes)
    last = 0 if call.reverse else call.steps - 1
    slots = [last if s in slabs or s == cell.states[0] else (call.steps - 1) & 1 for s in cell.states]
    return y, [values[s][slot].clone() for s, slot in zip(cell.states, slots, strict=True)], saved


def _project(call: Call) -> dict[str, Place]:
    """Bias and input products of every step, and the biases of the uses that have none."""
    places = {f"bias.{i}": call.bias(use) for i, use in enumerate(call.cell.uses)}
    hoisted = {f"gx.{i}": places[f"bias.{i}"] for i in range(len(call.cell.uses)) if i not in call.projected}
    if call.plans.project is None:
        return places | hoisted
    gx = call.hold(call.empty(call.steps, call.rows, len(call.projected) * call.units))
    hoisted |= {f"gx.{i}": call.over_time(gx, slab=k) for k, i in enumerate(call.projected)}
    size = call.to.size
    row = gx.stride(1) * size
    rows = {f"operand.{k}": Place(o.data_ptr(), row=o.shape[-1] * size) for k, o in enumerate(call.operands)}
    rows |= {f"gx.{i}": Place(gx.data_ptr() + k * call.units * size, row=row) for k, i in enumerate(call.projected)}
    blocks = call.blocks(transposed=True)
    by_rows(call, "project", call.plans.project, rows | places, blocks, call.units, call.widths())
    return places | hoisted


def by_rows(
    call: Call,
    name: str,
    plan: Plan,
    places: Mapping[str, Place],
    blocks: Mapping[str, Block],
    units: int,
    widths: Mapping[str, int],
) -> None:
    """Run a plan without recurrence over all rows of all steps, some rows at a time: each run of rows is a step."""
    total = call.steps * call.rows
    whole, rest = divmod(total, CHUNK)
    for first, steps, rows in ((0, whole, CHUNK), (whole * CHUNK, 1, rest)):
        if steps == 0 or rows == 0:
            continue
        moved = {n: Place(p.base + first * p.row, rows * p.row, p.row) for n, p in places.items()}
        call.run(name, plan, moved, blocks=blocks, widths=widths, steps=steps, rows=rows, units=units)
