"""The backward of a sequence: kernels for what recurs, then sums over time and batch.

A long sequence is taken in parts, so that the gradients of the pre-activations of one part are still in cache when they
are summed, and never lie in memory for all steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from gatewise.backends.kernels.layout import Run, gradient_order, runs
from gatewise.backends.kernels.memory import Memory, Place, Rows
from gatewise.backends.kernels.program import Job, Program
from gatewise.backends.kernels.sequence import Call, OverRows, packed, parts, turns
from gatewise.compiler.plan import make_plans

PART = 4 << 20
"""Bytes of gradients of pre-activations that are worked on together: they stay in the third-level cache."""


@dataclass
class Given:
    """What the forward left, and what arrives: gradients of the output, (T, B, H), and of the final states."""

    y: Memory
    saved: Memory
    dy: Memory | None
    finals: Sequence[Memory | None]


@dataclass
class Wanted:
    """Where the gradients go; every array is dense."""

    operands: Sequence[Memory]
    """(T, B, width) each, or none."""
    terms: Mapping[str, Memory]
    """Of keyword inputs before they are summed over units, (T, B, H)."""
    states: Sequence[Memory | None]
    parameters: Mapping[str, Memory] = field(default_factory=dict)


def backward(program: Program, call: Call, given: Given, wanted: Wanted, fresh: bool = True) -> None:
    """Write the gradients; see ``Backward``."""
    own = Backward(program, call, given, wanted, fresh=fresh)
    for first, steps in own.parts:
        own.run(first, steps)
    own.finish()


def of_nothing(program: Program, call: Call, given: Given, wanted: Wanted) -> None:
    """Gradients where there is no step or no row: zeros, but what arrives at the final states."""
    for total in (*wanted.operands, *wanted.terms.values(), *wanted.parameters.values()):
        program.flat("clear", total.base, total.numbers)
    for result, arriving in zip(wanted.states, given.finals, strict=True):
        if result is not None and arriving is None:
            program.flat("clear", result.base, result.numbers)
        elif result is not None and arriving is not None:
            program.flat("copy", result.base, result.numbers, arriving.base)


class Backward:
    """A backward made ready for the steps of a call: ``run`` does some of them, in the order of the way back.

    Args:
        size: steps of a part that ``run`` will be asked for, a multiple of four; without, those of ``PART`` bytes.
        fresh: whether the gradients of parameters are memory that nobody has written; else they are added to what is
            there.
    """

    def __init__(
        self, program: Program, call: Call, given: Given, wanted: Wanted, size: int = 0, fresh: bool = True
    ) -> None:
        self.program, self.call, self.given, self.wanted = program, call, given, wanted
        self.plans, self.used = make_plans(call.cell), gradient_order(call.cell)
        self.written: set[str] = set()
        """Parameters whose gradients need not be cleared before the first sum."""
        step_bytes = call.rows * len(self.used) * call.units * program.size
        self.spans = parts(call.steps, call.rows, step_bytes, PART)
        cuts = [(first + at, steps - at) for first, steps in self.spans for at in range(0, steps, size or steps)]
        self.parts = [(first, min(size or left, left)) for first, left in cuts]
        self.biases = self._bias_sums()
        if fresh:
            self._clear()
        self.code = packed(program, call, "backward", self.plans.backward, transposed=False)
        self.inputs = self._input_kernels()
        self.places, self.adjoints = self._places()
        self.d = program.take(self.spans[0][1], call.rows, len(self.used), call.units)

    def run(self, first: int, steps: int) -> None:
        """The recurrence of a part and the gradients of its operands; behind the last part of a span, the sums."""
        call, (begin, length) = self.call, next(s for s in self.spans if s[0] <= first < sum(s))
        ahead = first - begin if call.reverse else begin + length - first - steps
        own = self.d.some(ahead, ahead + steps)
        moved = {name: p.later(first) for name, p in self.places.items()}
        for k, i in enumerate(self.used):
            moved[f"d.{i}"] = call.over_time(own, backward=True, slab=k)
        self.program.run(self.code, steps=steps, places=moved)
        self._operands(self.inputs, own, self._in_time(first, steps))
        if first + steps == begin + length < call.steps:
            self._sums(begin, length)

    def finish(self) -> None:
        """The last sums, and the gradients of the initial states, when all steps were run."""
        self._sums(*self.spans[-1])
        self._add_biases()
        for adjoint, result in zip(self.adjoints, self.wanted.states, strict=True):
            if result is not None:
                slot = (self.call.steps - 1) & (adjoint.shape[0] - 1)
                self.program.flat("copy", result.base, result.numbers, adjoint.at(slot).base)

    def _sums(self, first: int, steps: int) -> None:
        with self.program.temporary():
            self._parameters(self.d.some(0, steps), self._in_time(first, steps), first == 0)

    def _in_time(self, first: int, steps: int) -> int:
        """The first in time of some steps that are counted on the way back."""
        return first if self.call.reverse else self.call.steps - first - steps

    # The recurrence

    def _places(self) -> tuple[dict[str, Place], list[Memory]]:
        """Every array of the backward's plan but the gradients of pre-activations; and the gradients of the states."""
        call, given, plan, size = self.call, self.given, self.plans.backward, self.program.size
        zero = Memory(self.program.zeros(call.units), (call.steps, call.rows, call.units), (0, 0, size))
        places = call.element_wise(backward=True) | call.scratch(plan)
        places["dy"] = call.over_time(given.dy or zero, backward=True)
        saved = given.saved
        places |= {name: call.over_time(saved.at(k), backward=True) for k, name in enumerate(self.plans.saved)}
        places |= {f"term.{name}": call.over_time(t, backward=True) for name, t in self.wanted.terms.items()}
        for state, initial in zip(call.cell.states, call.states, strict=True):
            values = self._history(state)
            if values is not None:
                now = call.over_time(values, backward=True)
                places[f"now.{state}"] = now
                # The value before a step is that after the step before it, which comes next on the way back.
                special = (call.steps - 1, initial.base, initial.strides[0])
                places[f"state.{state}"] = Place(now.base + now.stride, now.stride, now.row, -1, 0, *special)
        adjoints = []
        for state, arriving in zip(call.cell.states, given.finals, strict=True):
            adjoints.append(self.program.take(turns(plan, f"adjoint.{state}"), call.rows, call.units))
            places[f"adjoint.{state}"] = call.carried(adjoints[-1], arriving or zero.at(0), whole=False)
        return places, adjoints

    def _history(self, state: str) -> Memory | None:
        if state == self.call.cell.states[0]:
            return self.given.y
        histories = self.plans.histories
        return self.given.saved.at(len(self.plans.saved) + histories.index(state)) if state in histories else None

    # Gradients of the operands: dx = Σ δ W over the uses

    def _input_kernels(self) -> list[OverRows | None]:
        call, kernels = self.call, list[OverRows | None]()
        counts = [steps * call.rows for _, steps in self.parts]
        widths = {f"d.{i}": call.units for i in self.used}
        for k, result in enumerate(self.wanted.operands):
            plan, width = self.plans.inputs[k], call.operands[k].shape[-1]
            if not plan.phases[-1].products:
                self.program.flat("clear", result.base, result.numbers)
                kernels.append(None)
            else:
                kernels.append(OverRows(self.program, call, f"input {k}", plan, False, width, widths, counts))
        return kernels

    def _operands(self, kernels: Sequence[OverRows | None], d: Memory, begin: int) -> None:
        for kernel, result in zip(kernels, self.wanted.operands, strict=True):
            if kernel is not None:
                places = {f"d.{i}": Place(d.base + j * d.strides[2], 0, d.strides[1]) for j, i in enumerate(self.used)}
                places["dx"] = Place(result.at(begin).base, 0, result.strides[1])
                kernel.run(d.shape[0] * d.shape[1], places)

    # Gradients of the parameters: sums over time and batch

    def _runs(self, name: str) -> tuple[Run, ...]:
        return runs(self.call.cell, self.call.bias_blocks, name)

    def _is_matrix(self, name: str) -> bool:
        return name != "weight_diagonal" and len(self.wanted.parameters[name].shape) == 2

    def _clear(self) -> None:
        """All but the matrices of which every block gets one sum: the first part of that is written, not added."""
        for name, total in self.wanted.parameters.items():
            summed = (range(run.first, run.first + run.blocks) for run in self._runs(name))
            if self._is_matrix(name) and sorted(chain(*summed)) == list(range(total.shape[0] // self.call.units)):
                self.written.add(name)
            else:
                self.program.flat("clear", total.base, total.numbers)

    def _bias_sums(self) -> Memory | None:
        """Where the gradients of all pre-activations are summed: biases share them."""
        if not any(name.startswith("bias") for name in self.wanted.parameters):
            return None
        return self.program.take(len(self.used) * self.call.units, 1)

    def _add_biases(self) -> None:
        for name, total in self.wanted.parameters.items():
            if self.biases is not None and name.startswith("bias"):
                for run in self._runs(name):
                    out = total.some(run.first * self.call.units, (run.first + run.blocks) * self.call.units)
                    self.program.flat(
                        "add", out.base, out.numbers, out.base, self.biases.at(run.slab * self.call.units).base
                    )

    def _parameters(self, d: Memory, begin: int, first: bool) -> None:
        """Add what some steps contribute; ``begin`` is the first of them in time, ``first`` says that no others have
        contributed yet."""
        units, rows = self.call.units, d.shape[0] * d.shape[1]
        flat = Memory(d.base, (rows, len(self.used), units), d.strides[1:])
        jobs = [] if self.biases is None else [Job(0, self.biases, (), first)]
        for name, total in self.wanted.parameters.items():
            if self._is_matrix(name):
                for run in self._runs(name):
                    out = total.some(run.first * units, (run.first + run.blocks) * units)
                    values = tuple(self._values(run.source, begin, d.shape[0]))
                    jobs.append(Job(run.slab * units, out, values, first and name in self.written))
        if jobs:
            together = Memory(d.base, (rows, len(self.used) * units), (d.strides[1], d.strides[3]))
            self.program.reduce(together, jobs)
        diagonal = self.wanted.parameters.get("weight_diagonal")
        if diagonal is not None:
            self._diagonals(diagonal, flat, begin, d.shape[0])

    def _diagonals(self, total: Memory, d: Memory, begin: int, steps: int) -> None:
        for row, (i, _) in enumerate(self.call.cell.diagonals):
            if i in self.used:
                source, delta = self.plans.diagonal_of[row], d.base + self.used.index(i) * d.strides[1]
                broadcast = source.startswith("in.") and self.call.inputs[source[3:]].shape[-1] == 1
                for base, stride, count in self._values(source, begin, steps):
                    self.program.sums(
                        "scaled_sums" if broadcast else "product_sums",
                        total.at(row).base,
                        self.call.units,
                        count,
                        (delta, d.strides[0]),
                        (base, stride),
                    )
                    delta += count * d.strides[0]

    def _values(self, source: str, begin: int, steps: int) -> list[Rows]:
        """An array by its name in the plans, its rows over some steps; of a state, the values before these steps."""
        call = self.call
        kind, _, name = source.partition(".")
        if kind == "operand":
            return _rows(call.operands[int(name)].some(begin, begin + steps))
        if kind == "in":
            return _rows(call.inputs[name].some(begin, begin + steps))
        if kind not in ("state", "now"):
            return _rows(self.given.saved.at(self.plans.saved.index(source)).some(begin, begin + steps))
        values, initial = self._history(name), call.states[call.cell.states.index(name)]
        assert values is not None
        start = (initial.base, initial.strides[0], call.rows)
        if kind == "now":
            return _rows(values.some(begin, begin + steps))
        if call.reverse:
            last = begin + steps == call.steps
            return [*_rows(values.some(begin + 1, begin + steps + (not last))), *([start] if last else [])]
        return [*([start] if begin == 0 else []), *_rows(values.some(begin - (begin > 0), begin + steps - 1))]


def _rows(memory: Memory) -> list[Rows]:
    """(T, B, …), dense, as rows."""
    steps, rows = memory.shape[:2]
    return [(memory.base, memory.strides[1], steps * rows)] if steps else []
