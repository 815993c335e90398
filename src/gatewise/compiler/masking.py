"""Cells that stop at the end of a row or start anew in its middle, as rewritten equations that any backend can run.

Both rewritings leave gates, rows and parameters as they were. What they add are keyword inputs, whose names end in an
underscore: a cell's definition cannot use such names.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import Node, choice, const, make, rewrite

VALID = "valid_"
"""Input of width 1: where it is 1 the step counts, where it is 0 the states stay as they are."""
RESET = "reset_"
"""Input of width 1: where it is 1 the step starts from the initial states, whatever came before."""


def initial(state: str) -> str:
    """The name of the input of hidden width that carries the learned initial value of a state."""
    return f"initial_{state}_"


def _on(name: str) -> Node:
    return make("input", (), name, 1) > 0.5


@lru_cache(maxsize=256)
def with_lengths(cell: Cell) -> Cell:
    """The cell whose states stay, to the bit, where the keyword input ``VALID`` is 0.

    A choice and not an arithmetic blend: what an invalid step computes, even NaN, leaves no trace in the states.
    """
    old = [make("state", (), s, "hidden") for s in cell.states]
    outputs = tuple(choice("where", _on(VALID), o, s) for o, s in zip(cell.outputs, old, strict=True))
    inputs = (*cell.inputs, (VALID, 1))
    return replace(cell, name=f"{cell.name}_lengths", inputs=inputs, outputs=outputs, function=None)


@lru_cache(maxsize=256)
def with_reset(cell: Cell, learned: bool = False) -> Cell:
    """The cell that reads the initial states in place of the old ones where the keyword input ``RESET`` is 1: zero,
    or with ``learned`` what the keyword inputs ``initial(state)`` carry."""
    images: dict[Node, Node] = {}
    for s in cell.states:
        old = make("state", (), s, "hidden")
        start = make("input", (), initial(s), "hidden") if learned else const(0.0)
        images[old] = choice("where", _on(RESET), start, old)
    nodes = rewrite([*cell.outputs, *cell.affines], images)
    outputs, affines = nodes[: len(cell.outputs)], nodes[len(cell.outputs) :]
    starts = tuple((initial(s), "hidden") for s in cell.states) if learned else ()
    inputs = (*cell.inputs, (RESET, 1), *starts)
    return replace(
        cell, name=f"{cell.name}_reset", inputs=inputs, outputs=outputs, affines=tuple(affines), function=None
    )
