"""Colours of figures: one for each cell, the same in every figure of a page or picture."""

from __future__ import annotations

from collections.abc import Iterable

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe & Ito's, told apart with any colour vision; lines differ in their marks too."""
FIXED = {"gru": COLOURS[0], "lstm": COLOURS[1], "rnn": COLOURS[2]}
"""Cells that keep their colour whatever stands beside them."""


def cell_of(name: str) -> str:
    """The cell that the name of a line begins with: ``"gru, chrono"`` is a line of ``gru``."""
    return name.split(",")[0].strip()


def by_cell(names: Iterable[str]) -> dict[str, str]:
    """Name of a line → colour: lines of one cell share it; cells without a fixed one take what is left, in turn."""
    cells = list(dict.fromkeys(map(cell_of, names)))
    taken = {FIXED[cell] for cell in cells if cell in FIXED}
    free = [colour for colour in COLOURS if colour not in taken] or list(COLOURS)
    others = [cell for cell in cells if cell not in FIXED]
    found = FIXED | {cell: free[k % len(free)] for k, cell in enumerate(others)}
    return {name: found[cell_of(name)] for name in names}
