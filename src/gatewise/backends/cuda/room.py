"""Whether a card has room for a cell, before anything of a call is made."""

from __future__ import annotations

from functools import lru_cache

from gatewise.backends.cuda.card import Card
from gatewise.backends.cuda.choice import candidates, too_large
from gatewise.backends.cuda.design import UnsuitableError
from gatewise.backends.cuda.gradients import backward_design
from gatewise.backends.cuda.layout import Number
from gatewise.backends.cuda.sequence import TRAINING, forward_design
from gatewise.compiler.cell import Cell


@lru_cache(maxsize=256)
def problem(cell: Cell, number: Number, units: int, card: Card) -> str:
    """Why the card cannot run a cell of so many units, forward and backward; empty where it can. Rows do not matter:
    what has no room for one has none for more, and a set of blocks takes eight at a time where it must."""
    try:
        designs = forward_design(cell, TRAINING), backward_design(cell)
    except UnsuitableError as error:
        return f"the cuda backend has no kernel for cell {cell.name}: {error}"
    large = [design for design in designs if not candidates(design, number, units, 1, card)]
    return f"the cuda backend has no kernel for this size: {too_large(large[0], units)}" if large else ""
