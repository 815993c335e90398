"""What plans mean: each is run in torch, step by step, from its phases, products, loads and stores alone.

Slow and plain, for those who write a backend and for tests: no tiles, no threads, no packing, and memory in which every
slice has a place of its own. It is a dictionary of tensors by the names of ``compiler.plan``: a ``step`` array is
(T, rows, width), a ``carry`` (T + 1, rows, units), with the value before step t at t and that after it at t + 1, a
``vector`` (width,). What nobody has written is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.backends.eager import evaluate
from gatewise.compiler.cell import Cell, vector_name
from gatewise.compiler.definition import weight_name
from gatewise.compiler.plan import Plans, input_operands
from gatewise.compiler.schedule import Phase, Plan, Ref

Memory = dict[str, Tensor]


def order(plan: Plan, steps: int) -> Iterator[tuple[int, Phase]]:
    """Steps and phases as kernels run them: phase 0 of a step right behind the last phase of the step before."""
    first, *others = plan.phases
    yield from ((0, first) for _ in range(min(1, steps)))
    for t in range(steps):
        yield from ((t, phase) for phase in others)
        if t + 1 < steps:
            yield t + 1, first


def run(plan: Plan, memory: Memory, weights: Mapping[str, Tensor], like: Tensor) -> None:
    """Run a plan over all steps; ``like``, (T, rows, units), tells the sizes, and of what dtype its own memory is."""
    kinds = {array.name: array.kind for array in plan.arrays}
    for name, kind in kinds.items():
        if name not in memory:
            memory[name] = unwritten(like.shape[0] + (kind == "carry"), like)

    def read(ref: Ref, t: int) -> Tensor:
        whole = memory[ref.name]
        return whole if kinds[ref.name] == "vector" else whole[t + (kinds[ref.name] == "carry" and ref.after)]

    for t, phase in order(plan, like.shape[0]):
        zero = torch.zeros_like(like[t])
        sums = [zero if start is None else zero + read(start, t) for start in phase.starts]
        for product in phase.products:
            for j, weight in zip(product.accumulators, product.weights, strict=True):
                sums[j] = sums[j] + read(product.operand, t) @ weights[weight].T
        values = {node: read(ref, t) for node, ref in phase.loads.items()}
        values |= {node: sums[j] for node, j in phase.sums.items()}
        results = evaluate([node for _, node in phase.stores], values)
        for (name, _), result in zip(phase.stores, results, strict=True):
            memory[name][t + (kinds[name] == "carry")] = result


def unwritten(slices: int, like: Tensor) -> Tensor:
    return like.new_full((slices, *like.shape[1:]), math.nan)


def carry(first: Tensor, steps: int) -> Tensor:
    """The memory of a carry, with what it holds before the first step."""
    return torch.cat([first[None], unwritten(steps, first[None])])


@dataclass
class Gradients:
    operands: list[Tensor]
    """Of ``operand.k``."""
    inputs: dict[str, Tensor]
    """Of ``in.m``, by the name of the keyword input or vector."""
    states: list[Tensor]
    """Of the initial states."""
    parameters: dict[str, Tensor]
    """Of weights and biases. Those of vectors are sums of what is in ``inputs``."""


class Interpreter:
    """A cell's plans on parameters, which have the names and shapes of ``Cell.parameter_shapes``."""

    def __init__(self, cell: Cell, plans: Plans, parameters: Mapping[str, Tensor], units: int) -> None:
        self.cell, self.plans, self.parameters, self.units = cell, plans, parameters, units
        self.indices = {node: k for k, (_, node) in enumerate(input_operands(cell))}
        self.weights: dict[str, Tensor] = {}
        rows = range(len(cell.diagonals))
        self.vectors: Memory = {f"weight_diagonal.{k}": parameters["weight_diagonal"][k] for k in rows}
        for i, use in enumerate(cell.uses):
            self.vectors[f"bias.{i}"] = self.rows(parameters, "bias_ih" if use.inputs else "bias_hh", i)
            if use.state is not None:
                u = self.rows(parameters, "weight_hh", i)
                self.weights |= {f"u.{i}": u, f"ut.{i}": u.T}
            for owner, node in use.inputs:
                w, k = self.rows(parameters, weight_name(owner), i), self.indices[node]
                self.weights |= {f"w.{k}.{i}": w, f"wt.{k}.{i}": w.T}

    def rows(self, parameters: Mapping[str, Tensor], name: str, i: int) -> Tensor:
        """Those of a parameter that belong to the gate of a use."""
        k = self.cell.rows(name).index(self.cell.uses[i].gate)
        return parameters[name][k * self.units : (k + 1) * self.units]

    def forward(
        self, plan: Plan, steps: int, operands: Sequence[Tensor], inputs: Mapping[str, Tensor], states: Sequence[Tensor]
    ) -> Memory:
        """All memory of a plan of the forward: ``Plans.forward``, ``Plans.training`` or ``plan.traced``.

        Args:
            operands: (T, rows, width) each, in the order of ``input_operands``. ``inputs``: those of
                ``Plans.input_terms``, vectors too, (T, rows, width). ``states``: the initial ones, (rows, units).
        """
        bare = [i for i, use in enumerate(self.cell.uses) if not use.inputs]
        memory = self.vectors | {f"gx.{i}": self.vectors[f"bias.{i}"] for i in bare}
        memory |= {f"operand.{k}": value for k, value in enumerate(operands)}
        memory |= {f"in.{name}": value for name, value in inputs.items()}
        memory |= {f"state.{s}": carry(v, steps) for s, v in zip(self.cell.states, states, strict=True)}
        like = memory[f"state.{self.cell.states[0]}"][1:]
        if self.plans.project is not None:
            run(self.plans.project, memory, self.weights, like)
        run(plan, memory, self.weights, like)
        return memory

    def backward(self, forward: Memory, dy: Tensor, finals: Sequence[Tensor]) -> Gradients:
        """The gradients, from what ``Plans.training`` has left and the gradients of its results.

        Args:
            forward: of its memory the inputs, what ``Plans`` calls ``saved``, the first state and the ``histories``.
            dy: of the first state after every step, (T, rows, units). ``finals``: of the final states.
        """
        cell, plans, steps = self.cell, self.plans, dy.shape[0]
        given = (*plans.saved, *(f"in.{name}" for name in plans.input_terms))
        memory = self.vectors | {name: forward[name].flip(0) for name in given} | {"dy": dy.flip(0)}
        for s in (cell.states[0], *plans.histories):
            memory[f"state.{s}"] = forward[f"state.{s}"][:-1].flip(0)
            memory[f"now.{s}"] = forward[f"state.{s}"][1:].flip(0)
        memory |= {f"adjoint.{s}": carry(v, steps) for s, v in zip(cell.states, finals, strict=True)}
        run(plans.backward, memory, self.weights, dy)
        d = {f"d.{i}": memory[f"d.{i}"].flip(0) for i in plans.used}
        operands = [forward[f"operand.{k}"] for k in range(len(plans.inputs))]
        vectors = {vector_name(name) for name, _ in cell.vectors}
        gradients = Gradients(
            [self._of_operand(plan, d, like) for plan, like in zip(plans.inputs, operands, strict=True)],
            {name: _of_input(forward[f"in.{name}"], memory.get(f"term.{name}")) for name in plans.input_terms},
            [memory[f"adjoint.{s}"][-1] for s in cell.states],
            {name: torch.zeros_like(value) for name, value in self.parameters.items() if name not in vectors},
        )
        self._sum(gradients.parameters, forward, d)
        return gradients

    def _of_operand(self, plan: Plan, d: Memory, like: Tensor) -> Tensor:
        memory = dict(d)
        run(plan, memory, self.weights, like)
        return memory["dx"]

    def _sum(self, totals: Mapping[str, Tensor], forward: Memory, d: Memory) -> None:
        """The gradients of the parameters: sums over steps and rows."""

        def source(name: str) -> Tensor:
            kind, _, state = name.partition(".")
            steps = {"state": slice(None, -1), "now": slice(1, None)}
            return forward[f"state.{state}"][steps[kind]] if kind in steps else forward[name]

        for i in self.plans.used:
            use, delta = self.cell.uses[i], d[f"d.{i}"]
            multiplied = [(weight_name(owner), f"operand.{self.indices[node]}") for owner, node in use.inputs]
            multiplied += [] if use.state is None else [("weight_hh", self.plans.operand_of[i])]
            for name, operand in multiplied:
                self.rows(totals, name, i).add_(torch.einsum("tbu,tbk->uk", delta, source(operand)))
            self.rows(totals, "bias_ih" if use.inputs else "bias_hh", i).add_(delta.sum((0, 1)))
        for k, (i, _) in enumerate(self.cell.diagonals):
            if i in self.plans.used:
                totals["weight_diagonal"][k] = (d[f"d.{i}"] * source(self.plans.diagonal_of[k])).sum((0, 1))


def _of_input(value: Tensor, term: Tensor | None) -> Tensor:
    """The gradient of a keyword input from its terms, backward in time; they are summed where it is one number wide."""
    if term is None:
        return torch.zeros_like(value)
    return term.flip(0) if value.shape[-1] != 1 else term.flip(0).sum(-1, keepdim=True)
