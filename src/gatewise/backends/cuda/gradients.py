"""The backward of a cell over a sequence: one kernel for what recurs, then large products through torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from gatewise.backends.cuda.arguments import Arguments, Place, Slab
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Exchange
from gatewise.backends.cuda.sequence import Call, Kept, Machine, as_dtype, in_lanes
from gatewise.backends.kernels.layout import Run, gradient_order, runs, written_terms
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import make_plans


@dataclass
class Gradients:
    operands: list[Tensor]
    inputs: dict[str, Tensor]
    """Unit by unit, (T, B, units), of those whose gradient is not zero; of an input that is one number wide their sum
    is the gradient."""
    states: list[Tensor]
    parameters: dict[str, Tensor]


@lru_cache(maxsize=256)
def backward_design(cell: Cell) -> Design:
    return Design(make_plans(cell).backward, frozenset())


def backward(
    machine: Machine,
    call: Call,
    kept: Kept,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    operands: bool = True,
) -> Gradients:
    """The gradients of everything, from those of the output, (T, B, units), and of the final states.

    Args:
        operands: whether those of the operands are wanted.
    """
    return _Backward(machine, call, kept).run(dy, finals, operands)


class _Backward:
    def __init__(self, machine: Machine, call: Call, kept: Kept) -> None:
        self.machine, self.call, self.kept = machine, call, kept
        self.plans, self.used = make_plans(call.cell), gradient_order(call.cell)
        self.design = backward_design(call.cell)
        self.initial = [as_dtype(state, call.number.dtype).contiguous() for state in call.states]

    def run(self, dy: Tensor | None, finals: Sequence[Tensor | None], operands: bool) -> Gradients:
        call, cell, design = self.call, self.call.cell, self.design
        layout = self.machine.layout(design, call.number, call.units, call.rows)
        marked = layout.exchange is Exchange.CACHE
        # Gradients of pre-activations lie side by side, as the large products want them: (T, B, use, told).
        self.d = call.new(call.steps, call.rows, len(self.used), call.told)
        if marked:
            self.d.view(torch.uint8).fill_(0xFF)
        terms = {name: call.new(call.steps, call.rows, call.units) for name in written_terms(cell)}
        outputs = {f"d.{i}": Place.of(self.d[:, :, k], not call.reverse) for k, i in enumerate(self.used)}
        outputs |= {f"term.{name}": Place.of(term, not call.reverse) for name, term in terms.items()}
        vectors = {}
        for v in design.vectors:
            if v.name in outputs:
                vectors[v.name, v.carried] = outputs[v.name]
            elif marked:
                memory = call.exchanged(call.steps + 1, None, True)
                call.alive.append(memory)
                vectors[v.name, v.carried] = Place.of(memory)
        named = list(zip([f"adjoint.{s}" for s in cell.states], finals, strict=True))
        results = {name: call.new(call.rows, call.units, dtype=call.number.real) for name, _ in named}
        arguments = Arguments(
            steps=call.steps,
            rows=call.rows,
            share=min(layout.share or layout.rows, call.rows),
            weights=call.packed(self.machine, design, layout),
            constants=call.constants(design),
            inputs=self._inputs(dy),
            outputs=outputs,
            vectors=vectors,
            initial={n: as_dtype(t, call.number.real).contiguous() for n, t in named if t is not None},
            final=results,
        )
        self.machine.launch(design, layout, arguments)
        parameters = {name: self._parameter(name, like) for name, like in call.parameters.items()}
        return Gradients(self._operands() if operands else [], terms, list(results.values()), parameters)

    def _inputs(self, dy: Tensor | None) -> dict[str, Slab]:
        """What the kernel reads, from the last step of the forward to its first."""
        call, last = self.call, self.call.steps - 1
        found = {name: slab.turned(last) for name, slab in call.element_wise().items()}
        for name, memory in zip(self.plans.saved, self.kept.saved, strict=False):
            found[name] = Slab.of(memory, memory, call.reverse).turned(last)
        for s, initial in zip(call.cell.states, self.initial, strict=True):
            values = self._history(s)
            if values is not None:
                now = Slab.of(values, values, call.reverse)
                found |= {f"now.{s}": now.turned(last), f"state.{s}": now.before(initial).turned(last)}
        if dy is None:
            dy = call.states[0].new_zeros(call.units).expand(call.steps, call.rows, -1)
        dy = as_dtype(dy, call.number.dtype)
        dy = in_lanes(dy)
        call.alive.append(dy)
        return found | {"dy": Slab.of(dy, dy, call.reverse).turned(last)}

    def _history(self, state: str) -> Tensor | None:
        """The values of a state behind each step, where the forward kept them."""
        if state == self.call.cell.states[0]:
            return self.kept.y
        histories = self.plans.histories
        return self.kept.saved[len(self.plans.saved) + histories.index(state)] if state in histories else None

    # Sums over time and batch

    def _values(self, source: str) -> list[Tensor]:
        """(T·B, width) of an array by its name in the plans; of a state before the steps in two pieces."""
        call = self.call
        kind, _, name = source.partition(".")
        if kind == "operand":
            return [call.operands[int(name)].flatten(0, 1)]
        if kind == "in":
            return [call.inputs[name].flatten(0, 1)]
        if kind not in ("state", "now"):
            return [self.kept.saved[self.plans.saved.index(source)].flatten(0, 1)]
        values = self._history(name)
        assert values is not None
        if kind == "now":
            return [values.flatten(0, 1)]
        initial = self.initial[call.cell.states.index(name)]
        if call.reverse:
            return [values[1:].flatten(0, 1), initial]
        return [initial, values[:-1].flatten(0, 1)]

    def _delta(self, slab: int, blocks: int) -> Tensor:
        """(T·B, blocks, units) of neighbouring uses."""
        return self.d.flatten(0, 1)[:, slab : slab + blocks, : self.call.units]

    def _parameter(self, name: str, like: Tensor) -> Tensor:
        """The gradient of a parameter."""
        if name == "weight_diagonal":
            return self._diagonals(like)
        found = runs(self.call.cell, self.call.held, name)
        if len(found) == 1 and found[0].blocks * self.call.units == len(like):
            return self._run(found[0])
        if [run.first for run in found] == list(accumulate([0, *[run.blocks for run in found[:-1]]])):
            whole = torch.cat([self._run(run) for run in found])
            if len(whole) == len(like):
                return whole
        total = torch.zeros_like(like)
        for run in found:
            part = self._run(run)
            total[run.first * self.call.units :][: len(part)] += part
        return total

    def _run(self, run: Run) -> Tensor:
        """Neighbouring blocks of it: the sum over time and batch of gradients, times values where it is a weight."""
        if not run.source:
            part = self._totals[run.slab : run.slab + run.blocks, : self.call.units]
            # Never a view: gradients that share memory would be added up twice by whoever accumulates them.
            return part.clone(memory_format=torch.contiguous_format).flatten()
        delta = self._delta(run.slab, run.blocks).flatten(1)
        total: Tensor | None = None
        values = self._values(run.source)
        for part, value in zip(delta.split([len(v) for v in values]), values, strict=True):
            total = part.T @ value if total is None else torch.addmm(total, part.T, value)
        assert total is not None
        return total

    @cached_property
    def _totals(self) -> Tensor:
        """(use, told): sums over time and batch, which all biases are taken from."""
        total: Tensor = self.d.flatten(0, 1).sum(0, dtype=self.call.number.real)
        return total

    def _diagonals(self, like: Tensor) -> Tensor:
        total = torch.zeros_like(like)
        for row, (i, _) in enumerate(self.call.cell.diagonals):
            if i in self.used:
                delta = self._delta(self.used.index(i), 1)[:, 0]
                values = self._values(self.plans.diagonal_of[row])
                for part, value in zip(delta.split([len(v) for v in values]), values, strict=True):
                    total[row] += (part * value).sum(0, dtype=self.call.number.real)
        return total

    def _operands(self) -> list[Tensor]:
        """dx = Σ δ · W over the uses of each operand: one product over all from its first use to its last."""
        call, found = self.call, []
        for k, operand in enumerate(call.operands):
            held = [j for j, i in enumerate(self.used) if f"w.{k}.{i}" in call.layout.weights]
            if not held:
                found.append(torch.zeros_like(operand))
                continue
            between = self.used[held[0] : held[-1] + 1]
            delta = self._delta(held[0], len(between)).flatten(1)
            if len(held) == len(between):
                weight = call.weights([f"w.{k}.{i}" for i in between])
            else:
                zeros = operand.new_zeros(call.units, operand.shape[-1])
                names = [f"w.{k}.{i}" for i in between]
                weight = torch.cat([call.weights([n]) if n in call.layout.weights else zeros for n in names])
            found.append((delta @ weight).view(operand.shape))
        return found
