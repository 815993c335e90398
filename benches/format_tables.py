"""The table of gate orders in docs/formats.md, from the code: ``python -m benches.format_tables`` writes it there."""

from __future__ import annotations

from pathlib import Path

from gatewise.formats.blocks import apart
from gatewise.formats.layouts import LAYOUTS, Array, Layout

PAGE = Path(__file__).parent.parent / "docs" / "formats.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
HEAD = ("layout", "formula", "arrays: parts of gates, in their order", "biases")
WHERE = {"x": "input", "h": "state", "bx": "bias", "bh": "second bias", "p": "peephole", "r": "projection"}


def table() -> str:
    """As Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *(_row(layout) for layout in LAYOUTS.values())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(layout: Layout) -> tuple[str, ...]:
    arrays = "<br>".join(_array(a) for a in layout.arrays)
    name = f"[{layout.name}]({layout.source})" if "//" in layout.source else layout.name
    return name, layout.formula, arrays, _biases(layout)


def _array(array: Array) -> str:
    parts = (" beside " if not array.is_vector else ", then ").join(WHERE[p] for p in array.parts)
    gates = " ".join(g.replace("-", "−") for g in array.gates if g)
    shape = "ᵀ" if array.transposed else f" in {array.rows} rows" if array.rows else ""
    return f"`{array.name}`{shape}: {parts} {gates}".rstrip()


def _biases(layout: Layout) -> str:
    """Whose two biases may become one, and whether there must be any."""
    two = [g for g in ("r", "z", "n", "i", "f", "g", "o") if layout.holds("bx", g) and layout.holds("bh", g)]
    said = "one" if not two else "two" if not apart(layout.formula) or len(two) > 1 else f"one, of {two[0]} two"
    kept = f"; {', '.join(apart(layout.formula))} needs both" if apart(layout.formula) else ""
    return said + kept + ("; always" if layout.always_biases else "")


def page() -> str:
    """The page with the table of now."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page())
