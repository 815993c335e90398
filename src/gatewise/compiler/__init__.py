"""Equations in, plans out: plain Python that knows no tensor library and no code generator."""

from gatewise.compiler.cell import Cell
from gatewise.compiler.text import parse
from gatewise.compiler.trace import CellError, cell

__all__ = ["Cell", "CellError", "cell", "parse"]
