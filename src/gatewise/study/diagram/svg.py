"""The drawing of a cell as one SVG file: readable on light and dark paper, told apart with any colour vision."""

from __future__ import annotations

import itertools
from html import escape

from gatewise.compiler import Cell
from gatewise.study.diagram.graph import Line, Vertex, drawing
from gatewise.study.diagram.layout import place

MARGIN, LINE_HEIGHT, LONGEST = 28.0, 19.0, 100
_STYLE = """
.cell { --ink: #1f2933; --soft: #8a94a0; --paper: #ffffff; --body: #f3f5f8; --state: #0072b2; --input: #6b7480;
  --sigmoid: #fbd9a5; --tanh: #bfe0f5; --relu: #b5e3d2; --other: #e3e6ea; }
@media (prefers-color-scheme: dark) { .cell { --ink: #e8ecf1; --soft: #8a94a0; --paper: #14181d; --body: #1d232b;
  --state: #56b4e9; --input: #a3acb8; --sigmoid: #7a5310; --tanh: #1d5273; --relu: #0b5a45; --other: #3a424d; } }
.cell text { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 15px; fill: var(--ink);
  text-anchor: middle; dominant-baseline: central; }
.cell .paper { fill: var(--paper); }
.cell .body { fill: var(--body); stroke: var(--soft); stroke-width: 1; }
.cell .line { fill: none; stroke: var(--input); stroke-width: 1.6; }
.cell .state { stroke: var(--state); stroke-width: 3.4; }
.cell .diagonal { stroke-dasharray: 5 4; }
.cell .head { fill: var(--input); }
.cell .head-state { fill: var(--state); }
.cell .box { stroke: var(--ink); stroke-width: 1.2; fill: var(--other); }
.cell .sigmoid, .cell .hard_sigmoid { fill: var(--sigmoid); }
.cell .tanh { fill: var(--tanh); }
.cell .relu, .cell .softplus { fill: var(--relu); }
.cell .round { stroke: var(--ink); stroke-width: 1.2; fill: var(--paper); }
.cell .end { font-style: italic; font-size: 18px; font-weight: 600; }
.cell .name { font-style: italic; font-size: 14px; font-weight: 600; }
.cell .port, .cell .legend { font-size: 12px; fill: var(--input); }
.cell .port { stroke: var(--body); stroke-width: 4; paint-order: stroke; text-anchor: end; font-weight: 600; }
.cell .equation { font-family: "DejaVu Sans Mono", ui-monospace, monospace; font-size: 13.5px; text-anchor: start; }
.cell .title { font-size: 17px; font-weight: 600; text-anchor: start; }
.cell .legend { text-anchor: start; }
"""
_LEGEND = (
    "box: a gate or a function, its gate's name below; circle: element by element",
    "thick line: a state through the step; dashed: an element-wise weight; a gate adds W x + U h + b of what enters",
)


def diagram(cell: Cell) -> str:
    """An SVG document with the diagram of a cell and its equations; every built-in cell, and any other."""
    drawn = drawing(cell)
    width, height = place(drawn)
    equations = [part for line in cell.equations().splitlines() for part in _folded(line)]
    top = MARGIN + 36.0
    below = top + height + 2 * MARGIN
    full_height = below + LINE_HEIGHT * (len(equations) + len(_LEGEND)) + 2 * MARGIN
    longest = max(8.3 * max(map(len, equations)), 6.1 * max(map(len, _LEGEND)))
    full_width = max(width + 2 * MARGIN, longest + 2 * MARGIN)
    shift = (full_width - width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cell" role="img" width="{full_width:.0f}" '
        f'height="{full_height:.0f}" viewBox="0 0 {full_width:.0f} {full_height:.0f}">',
        f"<title>The cell {escape(cell.name)}</title>",
        f"<desc>{escape(cell.equations())}</desc>",
        f"<style>{_STYLE}</style>",
        _MARKERS,
        f'<rect class="paper" width="{full_width:.0f}" height="{full_height:.0f}"/>',
        f'<text class="title" x="{MARGIN}" y="{MARGIN}">{escape(cell.name)}</text>',
        f'<g transform="translate({shift:.1f} {top + MARGIN / 2:.1f})">',
        _body(drawn.vertices, width, height),
        *(_line(line, drawn.lines) for line in sorted(drawn.lines, key=lambda line: line.spine)),
        *(_port(line, drawn.lines) for line in drawn.lines if line.label),
        *(_vertex(vertex) for vertex in drawn.vertices),
        "</g>",
    ]
    y = below + MARGIN / 2
    for line in equations:
        parts.append(f'<text class="equation" xml:space="preserve" x="{MARGIN}" y="{y:.1f}">{escape(line)}</text>')
        y += LINE_HEIGHT
    for line in _LEGEND:
        y += LINE_HEIGHT if line is _LEGEND[1] else LINE_HEIGHT / 2
        parts.append(f'<text class="legend" x="{MARGIN}" y="{y:.1f}">{escape(line)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


_MARKERS = "<defs>" + "".join(
    f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" markerHeight="{size}" '
    f'markerUnits="userSpaceOnUse" orient="auto"><path class="{name}" d="M0 0 L8 4 L0 8 z"/></marker>'
    for name, size in (("head", 9), ("head-state", 13))
) + "</defs>"  # fmt: skip


def _folded(line: str) -> list[str]:
    """A long equation on several lines, broken before a sum or a product."""
    parts = [""]
    for word in line.split(" "):
        if len(parts[-1]) + len(word) > LONGEST and word in "+−⊙·":
            parts.append("    ")
        parts[-1] += ("" if not parts[-1].strip() else " ") + word
    return parts


def _body(vertices: list[Vertex], width: float, height: float) -> str:
    """The rounded frame of the cell: what enters stands on its left edge, what leaves on its right."""
    left = max((v.x + v.width / 2 for v in vertices if v.kind == "source"), default=0.0)
    right = min(v.x - v.width / 2 for v in vertices if v.kind == "sink")
    return (
        f'<rect class="body" x="{left + 4:.1f}" y="-14" width="{max(8.0, right - left - 8):.1f}" '
        f'height="{height + 28:.1f}" rx="16"/>'
    )


def _vertex(v: Vertex) -> str:
    if v.kind in ("source", "sink"):
        return f'<text class="end" x="{v.x:.1f}" y="{v.y:.1f}">{escape(v.label)}</text>'
    x, y = v.x - v.width / 2, v.y - v.height / 2
    if v.kind == "operation":
        shape = f'<rect class="round" x="{x:.1f}" y="{y:.1f}" width="{v.width}" height="{v.height}" rx="14"/>'
        return shape + f'<text x="{v.x:.1f}" y="{v.y:.1f}">{escape(v.label)}</text>' + _beside(v)
    shape = f'<rect class="box {v.function}" x="{x:.1f}" y="{y:.1f}" width="{v.width}" height="{v.height}" rx="6"/>'
    if not v.name:
        return shape + f'<text x="{v.x:.1f}" y="{v.y:.1f}">{escape(v.label)}</text>'
    label = f'<text x="{v.x:.1f}" y="{v.y - 10:.1f}">{escape(v.label)}</text>'
    return shape + label + f'<text class="name" x="{v.x:.1f}" y="{v.y + 13:.1f}">{escape(v.name)}</text>'


def _beside(v: Vertex) -> str:
    """The name of a gate whose value is plain arithmetic, below its circle."""
    y = v.y + v.height / 2 + 9
    return f'<text class="name" x="{v.x:.1f}" y="{y:.1f}">{escape(v.name)}</text>' if v.name else ""


def _entry(line: Line, lines: list[Line]) -> tuple[float, float]:
    """Where a line enters its end: one below the other, in the order in which lines come."""
    into = sorted((o for o in lines if o.end is line.end), key=lambda o: (o.bends[-1] if o.bends else o.start).y)
    room = line.end.height * (0.7 if line.end.kind in ("gate", "function") else 0.55)
    straight = line.spine or line.end.kind == "sink"
    slot = 0.0 if straight else (into.index(line) + 0.5) / len(into) * room - room / 2
    x = line.end.x - line.end.width / 2
    if line.end.kind == "operation":  # the circle is further right away from its middle
        x += 14.0 - (14.0**2 - slot**2) ** 0.5
    return x, line.end.y + slot


def _line(line: Line, lines: list[Line]) -> str:
    """A smooth curve through the bends."""
    end_x, end_y = _entry(line, lines)
    points = [(line.start.x + line.start.width / 2, line.start.y)]
    for bend in line.bends:
        points += [(bend.x - 20, bend.y), (bend.x + 20, bend.y)]
    points.append((end_x - 2, end_y))
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        if abs(ay - by) < 0.05:
            path.append(f"L{bx:.1f} {by:.1f}")
            continue
        middle = (ax + bx) / 2
        path.append(f"C{middle:.1f} {ay:.1f} {middle:.1f} {by:.1f} {bx:.1f} {by:.1f}")
    kinds = " ".join(["line", *(["state"] if line.spine else []), *([line.weight] if line.weight else [])])
    head = "head-state" if line.spine else "head"
    return f'<path class="{kinds}" d="{" ".join(path)}" marker-end="url(#{head})"/>'


def _port(line: Line, lines: list[Line]) -> str:
    """What a line is to an operation whose operands differ."""
    x, y = _entry(line, lines)
    return f'<text class="port" x="{x - 12:.1f}" y="{y - 6:.1f}">{escape(line.label)}</text>'
