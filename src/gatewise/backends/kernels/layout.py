"""Which rows of which parameter each use of a gate multiplies by or adds: worked out once per cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gatewise.compiler.cell import Cell
from gatewise.compiler.definition import weight_name
from gatewise.compiler.plan import input_operands, make_plans


class Layout:
    """Blocks are counted in units of ``hidden_size`` rows."""

    def __init__(self, cell: Cell, blocks: int) -> None:
        redundant = blocks not in (0, len(cell.rows("bias_hh")))
        hh = cell.rows("weight_hh") if redundant else cell.rows("bias_hh")
        ih = cell.rows("bias_ih")
        self.operands = [node for _, node in input_operands(cell)]
        self.weights: dict[str, tuple[str, int]] = {}
        """By the names in plans: ``u.i`` and ``ut.i`` of use i, ``w.k.i`` and ``wt.k.i`` of operand k in use i."""
        self.biases: list[list[tuple[str, int]]] = []
        """The bias blocks that each use adds."""
        self.projected = [i for i, use in enumerate(cell.uses) if use.inputs]
        for i, use in enumerate(cell.uses):
            if use.state is not None:
                block = ("weight_hh", cell.rows("weight_hh").index(use.gate))
                self.weights |= {f"u.{i}": block, f"ut.{i}": block}
            for owner, node in use.inputs:
                name, k = weight_name(owner), self.operands.index(node)
                block = (name, cell.rows(name).index(use.gate))
                self.weights |= {f"w.{k}.{i}": block, f"wt.{k}.{i}": block}
            owned = [("bias_ih", ih.index(use.gate))] if use.has_input_half else []
            if (use.state is not None or not use.has_input_half) and use.gate in hh:
                owned.append(("bias_hh", hh.index(use.gate)))
            self.biases.append(owned)


@lru_cache(maxsize=256)
def layout(cell: Cell, blocks: int) -> Layout:
    """The layout of a cell's parameters whose ``bias_hh`` has so many blocks: those that the cell needs, or, as in
    torch, one for every block of ``weight_hh``."""
    return Layout(cell, blocks)


@dataclass(frozen=True)
class Run:
    """Neighbouring blocks of a parameter's gradient that one sum over time and batch gives."""

    first: int
    blocks: int
    slab: int
    """Where the gradients of their pre-activations begin; see ``gradient_order``."""
    source: str
    """The array that they are multiplied with, by its name in the plans; empty for a bias."""


@lru_cache(maxsize=256)
def gradient_order(cell: Cell) -> tuple[int, ...]:
    """The uses whose pre-activations get a gradient, as they lie side by side: those with inputs first."""
    return tuple(sorted(make_plans(cell).used, key=lambda i: (not cell.uses[i].inputs, i)))


@lru_cache(maxsize=256)
def written_terms(cell: Cell) -> tuple[str, ...]:
    """The keyword inputs whose gradients the backward writes; that of an input which only decides is zero."""
    plans = make_plans(cell)
    written = {a.name for a in plans.backward.arrays}
    return tuple(name for name in plans.input_terms if f"term.{name}" in written)


@lru_cache(maxsize=256)
def runs(cell: Cell, blocks: int, parameter: str) -> tuple[Run, ...]:
    """How the gradient of a weight matrix or a bias is put together."""
    runs: list[Run] = []
    for slab, i in enumerate(gradient_order(cell)):
        for first, source in _owned(cell, blocks, parameter, i):
            last = runs[-1] if runs else Run(-1, 0, -1, "")
            follows = (last.first + last.blocks, last.slab + last.blocks, last.source) == (first, slab, source)
            if follows and runs:
                runs[-1] = Run(last.first, last.blocks + 1, last.slab, source)
            else:
                runs.append(Run(first, 1, slab, source))
    return tuple(runs)


def _owned(cell: Cell, blocks: int, parameter: str, i: int) -> list[tuple[int, str]]:
    """The blocks of a parameter that a use owns, and what multiplies them."""
    use, places = cell.uses[i], layout(cell, blocks)
    if parameter.startswith("bias"):
        return [(block, "") for name, block in places.biases[i] if name == parameter]
    if parameter == "weight_hh":
        return [(places.weights[f"u.{i}"][1], make_plans(cell).operand_of[i])] if use.state is not None else []
    indices = [places.operands.index(node) for owner, node in use.inputs if weight_name(owner) == parameter]
    return [(places.weights[f"w.{k}.{i}"][1], f"operand.{k}") for k in indices]
