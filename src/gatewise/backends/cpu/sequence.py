"""A cell over a sequence on the cpu backend: which memory each array of a plan is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gatewise.backends.cpu import launch
from gatewise.backends.cpu.launch import Place, Target, place
from gatewise.backends.cpu.layout import layout
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import gate_arrays, make_plans, traced
from gatewise.compiler.schedule import Plan

CHUNK = 512
"""Rows of the input products that are worked on together, so that they stay in the second-level cache."""


class Call:
    """One application of a cell: its tensors, and where they lie.

    Args:
        operands: the input-like operands of the affine maps, (T, B, width), in the order of ``input_operands``.
        inputs: keyword inputs that are used element-wise, (T, B, width), with any strides in T and B.
        states: (B, hidden_size) each.
        parameters: by the names of ``Cell.parameter_shapes``; biases may be absent.
    """

    def __init__(
        self,
        cell: Cell,
        to: Target,
        operands: Sequence[Tensor],
        inputs: Mapping[str, Tensor],
        states: Sequence[Tensor],
        parameters: Mapping[str, Tensor],
        reverse: bool,
        steps: int,
    ) -> None:
        self.cell, self.to, self.reverse, self.steps = cell, to, reverse, steps
        self.rows, self.units = states[0].shape
        self.operands = [o.contiguous() for o in operands]
        self.inputs = {name: lanes(value) for name, value in inputs.items()}
        self.states = [lanes(s) for s in states]
        self.parameters = {name: p.contiguous() for name, p in parameters.items()}
        bias = self.parameters.get("bias_hh")
        blocks = 0 if bias is None else len(bias) // self.units
        self.bias_blocks, self.layout = blocks, layout(cell, blocks)
        self.alive: list[Tensor] = []

    def empty(self, *shape: int) -> Tensor:
        return launch.empty(shape, self.states[0])

    def hold(self, tensor: Tensor) -> Tensor:
        """Keep memory that a kernel reads alive until the call ends."""
        self.alive.append(tensor)
        return tensor

    def over_time(self, tensor: Tensor, *, backward: bool = False, slab: int = 0) -> Place:
        """An array of one slice per step, walked in the order of the forward or the backward."""
        size, stride = self.to.size, tensor.stride()
        base, step = tensor.data_ptr() + slab * self.units * size, stride[0] * size
        if self.reverse != backward:
            return place(base + (self.steps - 1) * step, -step, stride[1] * size)
        return place(base, step, stride[1] * size)

    def carried(self, tensor: Tensor, initial: Tensor, *, whole: bool) -> Place:
        """A state, or its gradient on the way back: every step reads what the step before wrote. The tensor has a
        slice for every step (``whole``) or a few that are used in turn."""
        size, strides = self.to.size, tensor.stride()
        base, step = (self.over_time(tensor)[:2]) if whole else (tensor.data_ptr(), strides[0] * size)
        mask = -1 if whole else len(tensor) - 1
        return place(base, step, strides[1] * size, mask, -1, 0, initial.data_ptr(), initial.stride(0) * size)

    def scratch(self, plan: Plan) -> dict[str, Place]:
        """Memory for values that later phases of a step read; operands of products have two slices in turn."""
        places = {}
        row = self.units * self.to.size
        for name in plan.kept:
            slices = 2 if name in plan.operands else 1
            memory = self.hold(self.empty(slices, self.rows, self.units))
            places[name] = place(memory.data_ptr(), self.rows * row, row, slices - 1)
        return places

    def element_wise(self, *, backward: bool = False) -> dict[str, Place]:
        places = {f"in.{name}": self.over_time(value, backward=backward) for name, value in self.inputs.items()}
        diagonal = self.parameters.get("weight_diagonal")
        if diagonal is not None:
            places |= {f"weight_diagonal.{k}": place(row.data_ptr()) for k, row in enumerate(diagonal)}
        return places

    def weight(self, name: str) -> tuple[int, int]:
        """Address and bytes per row of a weight by its name in the plans."""
        parameter, block = self.layout.weights[name]
        matrix = self.parameters[parameter]
        row = matrix.shape[1] * self.to.size
        return matrix.data_ptr() + block * self.units * row, row

    def rows_of(self, block: int) -> slice:
        return slice(block * self.units, (block + 1) * self.units)

    def biases(self) -> dict[str, Place]:
        """Where each use's bias lies; the sum of two where a use has both."""
        places = {}
        zero = 0
        for i, owned in enumerate(self.layout.biases):
            found = [(self.parameters[name], block) for name, block in owned if name in self.parameters]
            if len(found) == 1:
                bias, block = found[0]
                address = bias.data_ptr() + block * self.units * self.to.size
            elif found:
                (a, p), (b, q) = found
                address = self.hold(a[self.rows_of(p)] + b[self.rows_of(q)]).data_ptr()
            else:
                zero = zero or self.hold(torch.zeros(self.units, dtype=self.to.dtype)).data_ptr()
                address = zero
            places[f"bias.{i}"] = place(address)
        return places

    def run(self, name: str, plan: Plan, places: Mapping[str, Place], entry: str) -> None:
        """Run a plan over the sequence, by its name among this cell's plans."""
        launch.run(
            f"{self.cell.text}{name}",
            plan,
            self.to,
            steps=self.steps,
            rows=self.rows,
            units=self.units,
            widths=self.widths(),
            places=places,
            weights=self.weight,
            entry=entry,
        )

    def run_rows(
        self, name: str, plan: Plan, places: Mapping[str, Place], entry: str, units: int, widths: Mapping[str, int]
    ) -> None:
        """Run a plan without recurrence over all rows of all steps, some rows at a time: a run of rows is a step."""
        for first, steps, rows in launch.portions(self.steps * self.rows, CHUNK):
            moved = {n: place(p[0] + first * p[2], rows * p[2], p[2]) for n, p in places.items()}
            launch.run(
                f"{self.cell.text}{name}",
                plan,
                self.to,
                steps=steps,
                rows=rows,
                units=units,
                widths=widths,
                places=moved,
                weights=self.weight,
                entry=entry,
            )

    def widths(self) -> dict[str, int]:
        return {f"operand.{k}": o.shape[-1] for k, o in enumerate(self.operands)}


def lanes(tensor: Tensor) -> Tensor:
    """A tensor whose last dimension is contiguous; the others may have any stride, zero included."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def turns(plan: Plan, carry: str) -> int:
    """Slices of a carry whose past nobody asks for. Two serve in turn, unless phase 0, which runs a step ahead, writes
    the next value while a product still reads the value before."""
    ahead = any(name == carry for name, _ in plan.phases[0].stores)
    return 4 if ahead and any(p.operand == carry for phase in plan.phases for p in phase.products) else 2


RESIDENT = 8 << 20
"""Bytes of weights that a step may read again: beyond a few second-level caches they come too slowly."""


def hoists(call: Call) -> bool:
    """Whether the input products of all steps are computed beforehand.

    Not for a single step; and not with rows enough to fill a tile and weights that stay in cache, where writing the
    products out and reading them back costs more than reading the weights again.
    """
    if call.steps == 1:
        return False
    bytes_read = call.to.size * call.units * sum(u.state is not None for u in call.cell.uses) * call.units
    bytes_read += (
        call.to.size
        * call.units
        * sum(len(u.inputs) for u in call.cell.uses)
        * max((o.shape[-1] for o in call.operands), default=0)
    )
    return call.rows < 8 or bytes_read > RESIDENT


def forward(call: Call, *, training: bool) -> tuple[Tensor, list[Tensor], Tensor]:
    """The output (T, B, H), the final states, and what the backward needs: (slabs, T, B, H)."""
    hoist = hoists(call)
    plans = make_plans(call.cell, hoist)
    slabs = [*plans.saved, *plans.histories] if training else []
    saved = call.empty(len(slabs), call.steps, call.rows, call.units)
    plan = plans.training if training else plans.forward
    y, finals = recur(call, plan, "training" if training else "forward", hoist, slabs, saved)
    return y, finals, saved


def trace(call: Call, gates: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output and the final states; ``gates``, (gate, T, B, H), is filled with the gates' values."""
    hoist = hoists(call)
    return recur(call, traced(call.cell, hoist), "trace", hoist, gate_arrays(call.cell), gates)


def recur(
    call: Call, plan: Plan, name: str, hoist: bool, slabs: Sequence[str], saved: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Run a plan of the forward; ``saved`` holds the arrays named by ``slabs``, some of which may be states."""
    cell = call.cell
    y = call.empty(call.steps, call.rows, call.units)
    if y.numel() == 0:
        return y, [s.clone() for s in call.states]
    values = {s: saved[slabs.index(s)] for s in cell.states if s in slabs}
    values[cell.states[0]] = y
    whole = frozenset(values)  # the other states' past nobody asks for
    places = call.element_wise() | call.scratch(plan)
    places |= _input_halves(call, make_plans(cell, hoist).project if hoist else None)
    places |= {slab: call.over_time(saved[k]) for k, slab in enumerate(slabs) if slab not in whole}
    for state, initial in zip(cell.states, call.states, strict=True):
        if state not in whole:
            values[state] = call.empty(turns(plan, f"state.{state}"), call.rows, call.units)
        places[f"state.{state}"] = call.carried(values[state], initial, whole=state in whole)
    call.run(f"{name}{' hoisted' if hoist else ''}", plan, places, "transposed")
    last = 0 if call.reverse else call.steps - 1
    slots = [last if s in whole else (call.steps - 1) & (len(values[s]) - 1) for s in cell.states]
    return y, [values[s][slot].clone() for s, slot in zip(cell.states, slots, strict=True)]


def _input_halves(call: Call, project: Plan | None) -> dict[str, Place]:
    """The biases, and the input products of all steps where a plan computes them beforehand."""
    places = call.biases()
    for k, operand in enumerate(call.operands):
        places[f"operand.{k}"] = call.over_time(operand)
    bare = [i for i in range(len(call.cell.uses)) if i not in call.layout.projected]
    places |= {f"gx.{i}": places[f"bias.{i}"] for i in bare}
    if project is None:
        return places
    projected, size = call.layout.projected, call.to.size
    gx = call.hold(call.empty(call.steps, call.rows, len(projected) * call.units))
    row = gx.stride(1) * size
    rows = {f"operand.{k}": place(o.data_ptr(), 0, o.shape[-1] * size) for k, o in enumerate(call.operands)}
    rows |= {f"gx.{i}": place(gx.data_ptr() + k * call.units * size, 0, row) for k, i in enumerate(projected)}
    rows |= {f"bias.{i}": places[f"bias.{i}"] for i in projected}
    call.run_rows("project", project, rows, "transposed", call.units, call.widths())
    return places | {f"gx.{i}": call.over_time(gx, slab=k) for k, i in enumerate(projected)}
