"""A cell over a sequence: which memory each array of a plan is, and in which order plans run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from gatewise.backends.kernels.layout import layout
from gatewise.backends.kernels.memory import Memory, Place, portions
from gatewise.backends.kernels.program import Packed, Program
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import gate_arrays, make_plans, traced
from gatewise.compiler.schedule import Plan, Ref

ROWS_AT_ONCE = 512
"""Rows of products over all steps that are worked on together, so that they stay in the second-level cache."""
HOISTED = 1 << 20
"""Bytes of hoisted input products that are computed before the steps that read them."""
PARTS = 16
"""Parts at most that a sequence is taken in: each costs frames and barriers."""


class Space(Protocol):
    """Where a call's own memory comes from: a program, or memory that is there now."""

    @property
    def size(self) -> int: ...  # bytes of a number

    def take(self, *shape: int) -> Memory: ...

    def zeros(self, count: int) -> int: ...

    def add(self, count: int, a: int, b: int) -> int: ...


class Call:
    """One application of a cell: its arrays, and where they lie.

    Args:
        operands: the input-like operands of the affine maps, (T, B, width), in the order of ``input_operands``; dense.
        inputs: keyword inputs that are used element-wise, (T, B, width), with any strides in T and B.
        states: (B, hidden_size) each, with any stride in B.
        parameters: by the names of ``Cell.parameter_shapes``; biases may be absent; dense.
    """

    def __init__(
        self,
        cell: Cell,
        space: Space,
        operands: Sequence[Memory],
        inputs: Mapping[str, Memory],
        states: Sequence[Memory],
        parameters: Mapping[str, Memory],
        reverse: bool,
        steps: int,
    ) -> None:
        self.cell, self.space, self.reverse, self.steps = cell, space, reverse, steps
        self.rows, self.units = states[0].shape
        self.operands, self.inputs, self.states, self.parameters = operands, inputs, states, parameters
        bias = parameters.get("bias_hh")
        blocks = 0 if bias is None else bias.shape[0] // self.units
        self.bias_blocks, self.layout = blocks, layout(cell, blocks)

    def over_time(self, memory: Memory, *, backward: bool = False, slab: int = 0) -> Place:
        """An array of one slice per step, walked in the order of the forward or the backward."""
        base, step, row = memory.base + slab * self.units * self.space.size, *memory.strides[:2]
        if self.reverse != backward:
            return Place(base + (memory.shape[0] - 1) * step, -step, row)
        return Place(base, step, row)

    def carried(self, memory: Memory, initial: Memory, *, whole: bool) -> Place:
        """A state, or its gradient on the way back: every step reads what the step before wrote. The array has a slice
        for every step (``whole``) or a few that are used in turn."""
        walked = self.over_time(memory)
        base, step = (walked.base, walked.stride) if whole else (memory.base, memory.strides[0])
        mask = -1 if whole else memory.shape[0] - 1
        return Place(base, step, memory.strides[1], mask, -1, 0, initial.base, initial.strides[0])

    def scratch(self, plan: Plan) -> dict[str, Place]:
        """Memory for values that later phases of a step read; operands of products have two slices in turn."""
        places = {}
        for name in plan.kept:
            slices = 2 if name in plan.operands else 1
            memory = self.space.take(slices, self.rows, self.units)
            places[name] = Place(memory.base, memory.strides[0], memory.strides[1], slices - 1)
        return places

    def element_wise(self, *, backward: bool = False) -> dict[str, Place]:
        places = {f"in.{name}": self.over_time(value, backward=backward) for name, value in self.inputs.items()}
        diagonal = self.parameters.get("weight_diagonal")
        if diagonal is not None:
            places |= {f"weight_diagonal.{k}": Place(diagonal.at(k).base) for k in range(diagonal.shape[0])}
        return places

    def weight(self, name: str) -> tuple[int, int]:
        """Address and bytes per row of a weight by its name in the plans."""
        parameter, block = self.layout.weights[name]
        matrix = self.parameters[parameter]
        return matrix.at(block * self.units).base, matrix.strides[0]

    def biases(self) -> dict[str, Place]:
        """Where each use's bias lies; the sum of two where a use has both."""
        places = {}
        zero = 0
        for i, owned in enumerate(self.layout.biases):
            found = [self.parameters[n].at(block * self.units).base for n, block in owned if n in self.parameters]
            if not found:
                zero = zero or self.space.zeros(self.units)
            address = self.space.add(self.units, *found) if len(found) == 2 else (*found, zero)[0]
            places[f"bias.{i}"] = Place(address)
        return places

    def widths(self) -> dict[str, int]:
        return {f"operand.{k}": o.shape[-1] for k, o in enumerate(self.operands)}


def turns(plan: Plan, carry: str) -> int:
    """Slices of a carry whose past nobody asks for. Two serve in turn, unless phase 0, which runs a step ahead, writes
    the next value while a product still reads the value before."""
    ahead = any(name == carry for name, _ in plan.phases[0].stores)
    return 4 if ahead and any(p.operand == Ref(carry) for phase in plan.phases for p in phase.products) else 2


RESIDENT = 2 << 20
"""Bytes of weights that a step may read again: about a second-level cache. On 2 threads a step of 8 rows with 512
inputs and units ran at 102 GFLOP/s with the input product inside (6 MB), at 154 without."""


def hoists(call: Call, weight_size: int) -> bool:
    """Whether the input products of all steps are computed beforehand.

    Not for a single step; and not with rows enough to fill a tile and weights that stay in cache, where writing the
    products out and reading them back costs more than reading the weights again.
    """
    if call.steps == 1:
        return False
    columns = sum(u.state is not None for u in call.cell.uses) * call.units
    columns += sum(len(u.inputs) for u in call.cell.uses) * max((o.shape[-1] for o in call.operands), default=0)
    return call.rows < 8 or weight_size * call.units * columns > RESIDENT


def packed(
    program: Program,
    call: Call,
    name: str,
    plan: Plan,
    *,
    transposed: bool,
    steps: int = 0,
    rows: int = 0,
    units: int = 0,
    widths: Mapping[str, int] | None = None,
    like: Packed | None = None,
) -> Packed:
    """A plan of the cell, by its name among them, for the steps, rows and units of the call or others."""
    return program.packed(
        f"{call.cell.text}{name}",
        plan,
        steps=steps or call.steps,
        rows=rows or call.rows,
        units=units or call.units,
        widths=call.widths() if widths is None else widths,
        weights=call.weight,
        transposed=transposed,
        like=like,
    )


def parts(steps: int, rows: int, step_bytes: int, wanted: int) -> list[tuple[int, int]]:
    """A sequence in parts of about so many bytes: (first step, steps) of each.

    Values of which a few slices serve in turn go on from part to part, so all but the last are a multiple of four steps
    long; and of 256 rows, which sums over rows take together.
    """
    multiple = max(4, 256 // math.gcd(rows, 256))
    size = max(wanted // max(step_bytes, 1), -(-ROWS_AT_ONCE // rows), -(-steps // PARTS), 1)
    size = -(-size // multiple) * multiple
    return [(first, min(size, steps - first)) for first in range(0, steps, size)]


class OverRows:
    """A plan without recurrence over all rows of some steps, some rows at a time: a run of rows is a step."""

    def __init__(
        self,
        program: Program,
        call: Call,
        name: str,
        plan: Plan,
        transposed: bool,
        units: int,
        widths: Mapping[str, int],
        counts: Sequence[int],
    ) -> None:
        """counts: the numbers of rows that ``run`` will be asked for."""
        self.program, self.codes = program, dict[int, Packed]()
        first: Packed | None = None
        taken = dict[int, int]()
        for _, steps, rows in (portion for count in counts for portion in portions(count, ROWS_AT_ONCE)):
            taken[rows] = taken.get(rows, 0) + steps
        for rows, steps in taken.items():
            sizes = {"steps": steps, "rows": rows, "units": units}
            code = packed(program, call, name, plan, transposed=transposed, widths=widths, like=first, **sizes)
            self.codes[rows] = code
            first = first or code

    def run(self, count: int, places: Mapping[str, Place]) -> None:
        for first, steps, rows in portions(count, ROWS_AT_ONCE):
            moved = {n: Place(p.base + first * p.row, rows * p.row, p.row) for n, p in places.items()}
            self.program.run(self.codes[rows], steps=steps, places=moved)


class Recurrence:
    """A plan of the forward made ready for the steps of a call: ``run`` does some of them, in their order.

    Args:
        slabs: which arrays are kept in ``saved``, (slab, T, B, H); some may be states.
        spans: the parts that ``run`` will be asked for, (first step, steps) of each, all but the last a multiple of
            four steps long; without, those that suit the caches.
    """

    def __init__(
        self,
        program: Program,
        call: Call,
        plan: Plan,
        name: str,
        hoist: bool,
        y: Memory,
        slabs: Sequence[str],
        saved: Memory,
        spans: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.program, self.call = program, call
        cell = call.cell
        self.values = {s: saved.at(slabs.index(s)) for s in cell.states if s in slabs}
        self.values[cell.states[0]] = y
        self.whole = whole = frozenset(self.values)  # the other states' past nobody asks for
        places = call.element_wise() | call.scratch(plan) | call.biases()
        places |= {f"operand.{k}": call.over_time(operand) for k, operand in enumerate(call.operands)}
        bare = [i for i in range(len(cell.uses)) if i not in call.layout.projected]
        places |= {f"gx.{i}": places[f"bias.{i}"] for i in bare}
        places |= {slab: call.over_time(saved.at(k)) for k, slab in enumerate(slabs) if slab not in whole}
        for state, initial in zip(cell.states, call.states, strict=True):
            if state not in whole:
                self.values[state] = call.space.take(turns(plan, f"state.{state}"), call.rows, call.units)
            places[f"state.{state}"] = call.carried(self.values[state], initial, whole=state in whole)
        self.places = places
        self.code = packed(program, call, f"{name}{' hoisted' if hoist else ''}", plan, transposed=True)
        self.spans = list(spans) or [(0, call.steps)]
        self.over: OverRows | None = None
        project = make_plans(cell, hoist).project if hoist else None
        if project is not None:
            self._hoist(project, spans)

    def _hoist(self, project: Plan, spans: Sequence[tuple[int, int]]) -> None:
        call = self.call
        width = len(call.layout.projected) * call.units
        self.spans = list(spans) or parts(call.steps, call.rows, call.rows * width * self.program.size, HOISTED)
        counts = [count * call.rows for _, count in self.spans]
        self.over = OverRows(self.program, call, "project", project, True, call.units, call.widths(), counts)
        self.gx = self.program.take(self.spans[0][1], call.rows, width)

    def run(self, first: int, steps: int) -> None:
        """Some steps, behind those before them."""
        moved = {name: p.later(first) for name, p in self.places.items()}
        if self.over is not None:
            moved |= self._projected(self.over, first, steps)
        self.program.run(self.code, steps=steps, places=moved)

    def _projected(self, over: OverRows, first: int, steps: int) -> dict[str, Place]:
        """Where the input products of some steps lie, which are computed now."""
        call, gx, projected = self.call, self.gx, self.call.layout.projected
        begin = call.steps - first - steps if call.reverse else first
        rows = {f"operand.{k}": Place(o.at(begin).base, 0, o.strides[1]) for k, o in enumerate(call.operands)}
        size = call.units * self.program.size
        rows |= {f"gx.{i}": Place(gx.base + k * size, 0, gx.strides[1]) for k, i in enumerate(projected)}
        rows |= {f"bias.{i}": self.places[f"bias.{i}"] for i in projected}
        over.run(steps * call.rows, rows)
        own = gx.some(0, steps)
        return {f"gx.{i}": call.over_time(own, slab=k) for k, i in enumerate(projected)}

    def finish(self, finals: Sequence[Memory]) -> None:
        """Write the final states, when all steps were run."""
        call = self.call
        last = 0 if call.reverse else call.steps - 1
        for state, final in zip(call.cell.states, finals, strict=True):
            values = self.values[state]
            slot = last if state in self.whole else (call.steps - 1) & (values.shape[0] - 1)
            self.program.flat("copy", final.base, final.numbers, values.at(slot).base)


def forward(
    program: Program,
    call: Call,
    y: Memory,
    finals: Sequence[Memory],
    slabs: Sequence[str],
    saved: Memory,
    *,
    training: bool,
) -> None:
    """Write the output (T, B, H), the final states, and what is kept, (slab, T, B, H): states, or ``gate_slabs``."""
    if y.numbers == 0:
        _of_nothing(program, call, finals)
        return
    recurrence = begin(program, call, y, slabs, saved, training=training)
    for first, steps in recurrence.spans:
        recurrence.run(first, steps)
    recurrence.finish(finals)


def begin(
    program: Program,
    call: Call,
    y: Memory,
    slabs: Sequence[str],
    saved: Memory,
    *,
    training: bool,
    spans: Sequence[tuple[int, int]] = (),
) -> Recurrence:
    """As ``forward``, of whose steps none is run yet."""
    hoist = hoists(call, program.weight_size)
    plans = make_plans(call.cell, hoist)
    plan, name = (plans.training, "training") if training else (plans.forward, "forward")
    return Recurrence(program, call, plan, name, hoist, y, slabs, saved, spans)


def trace(program: Program, call: Call, y: Memory, finals: Sequence[Memory], gates: Memory) -> None:
    """Write the output, the final states and the gates' values, (gate, T, B, H)."""
    if y.numbers == 0:
        _of_nothing(program, call, finals)
        return
    hoist = hoists(call, program.weight_size)
    plan = traced(call.cell, hoist)
    recurrence = Recurrence(program, call, plan, "trace", hoist, y, gate_arrays(call.cell), gates)
    for first, steps in recurrence.spans:
        recurrence.run(first, steps)
    recurrence.finish(finals)


def _of_nothing(program: Program, call: Call, finals: Sequence[Memory]) -> None:
    for final, initial in zip(finals, call.states, strict=True):
        program.flat("copy", final.base, final.numbers, initial.base)  # both dense where nothing is computed


def gate_slabs(cell: Cell) -> tuple[str, ...]:
    """All that the backward reads, in order; the same whether input products are hoisted or not."""
    plans = make_plans(cell)
    return (*plans.saved, *plans.histories)
