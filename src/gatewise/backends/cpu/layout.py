"""Which rows of which parameter each use of a gate multiplies by or adds: worked out once per cell."""

from __future__ import annotations

from functools import lru_cache

from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import input_operands


def weight_name(owner: str) -> str:
    """The parameter that multiplies an input."""
    return "weight_ih" if owner == "x" else f"weight_{owner}"


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
