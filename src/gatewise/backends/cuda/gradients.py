"""The backward of a cell over a sequence: one kernel for what recurs, then large products through torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gatewise.backends.cuda.arguments import Arguments, Place, Slab
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Exchange
from gatewise.backends.cuda.sequence import Call, Kept, Machine
from gatewise.backends.kernels.layout import gradient_order, runs, written_terms
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


def backward(machine: Machine, call: Call, kept: Kept, dy: Tensor | None, finals: Sequence[Tensor | None]) -> Gradients:
    """The gradients of everything, from those of the output, (T, B, units), and of the final states."""
    return _Backward(machine, call, kept).run(dy, finals)


class _Backward:
    def __init__(self, machine: Machine, call: Call, kept: Kept) -> None:
        self.machine, self.call, self.kept = machine, call, kept
        self.plans, self.used = make_plans(call.cell), gradient_order(call.cell)
        self.design = backward_design(call.cell)
        self.initial = [state.to(call.number.dtype).contiguous() for state in call.states]

    def run(self, dy: Tensor | None, finals: Sequence[Tensor | None]) -> Gradients:
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
            initial={name: t.to(call.number.real).contiguous() for name, t in named if t is not None},
            final=results,
        )
        self.machine.launch(design, layout, arguments)
        parameters = {name: torch.zeros_like(p) for name, p in call.parameters.items()}
        self._sum(parameters)
        return Gradients(self._operands(), terms, list(results.values()), parameters)

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
        dy = dy.to(call.number.dtype)
        dy = dy if dy.stride(-1) == 1 or call.units == 1 else dy.contiguous()
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

    def _sum(self, totals: Mapping[str, Tensor]) -> None:
        """Add the gradients of weights and biases to what is there."""
        call = self.call
        for name, total in totals.items():
            if name == "weight_diagonal":
                self._diagonals(total)
                continue
            for run in runs(call.cell, self.bias_blocks, name):
                delta = self._delta(run.slab, run.blocks).flatten(1)
                out = total[run.first * call.units : (run.first + run.blocks) * call.units]
                if not run.source:
                    out += delta.sum(0, dtype=call.number.real)
                    continue
                values = self._values(run.source)
                for part, value in zip(delta.split([len(v) for v in values]), values, strict=True):
                    out += part.T @ value

    @property
    def bias_blocks(self) -> int:
        bias = self.call.parameters.get("bias_hh")
        return 0 if bias is None else bias.shape[0] // self.call.units

    def _diagonals(self, total: Tensor) -> None:
        for row, (i, _) in enumerate(self.call.cell.diagonals):
            if i in self.used:
                delta = self._delta(self.used.index(i), 1)[:, 0]
                values = self._values(self.plans.diagonal_of[row])
                for part, value in zip(delta.split([len(v) for v in values]), values, strict=True):
                    total[row] += (part * value).sum(0, dtype=self.call.number.real)

    def _operands(self) -> list[Tensor]:
        """dx = Σ δ · W over the uses of each operand: one product over all from its first use to its last."""
        call, found = self.call, []
        for k, operand in enumerate(call.operands):
            held = [j for j, i in enumerate(self.used) if f"w.{k}.{i}" in call.layout.weights]
            if not held:
                found.append(torch.zeros_like(operand))
                continue
            between = self.used[held[0] : held[-1] + 1]
            weight = operand.new_zeros(len(between), call.units, operand.shape[-1])
            for j, i in enumerate(between):
                if f"w.{k}.{i}" in call.layout.weights:
                    weight[j] = call.weight(f"w.{k}.{i}")
            delta = self._delta(held[0], len(between)).flatten(1)
            found.append((delta @ weight.flatten(0, 1)).view(operand.shape))
        return found
