"""From a cell to what is drawn: boxes for gates and functions, circles for arithmetic, and the lines between them."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

from gatewise.compiler import Cell
from gatewise.compiler.expression import ARITHMETIC, COMPARISONS, UNARY_FUNCTIONS, Node, float_of, postorder

SYMBOLS = {"sigmoid": "σ", "relu": "ReLU", "hard_sigmoid": "hard σ", "add": "+", "sub": "+", "mul": "×", "div": "÷"}
SYMBOLS |= {"minimum": "min", "maximum": "max", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "neg": "−"}
_PORTS = {"where": ("if", "then", "else"), "sub": ("", "−"), "div": ("", "÷"), "lt": ("", "than"), "le": ("", "than")}
_PORTS |= {"gt": ("", "than"), "ge": ("", "than")}


@dataclass(eq=False)
class Vertex:
    """Something drawn. ``kind`` is source, sink, gate, function, operation, or bend (a point that a line passes)."""

    kind: str
    label: str = ""
    name: str = ""
    """The name of the gate whose value this is."""
    function: str = ""
    spine: int | None = None
    """The state, by its place in the cell, on whose line this lies."""
    layer: int = 0
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        if self.kind == "bend":
            return 0.0
        if self.kind in ("gate", "function"):
            return max(54.0, 24.0 + 9.0 * len(self.label))
        letter = 11.5 if self.kind in ("source", "sink") else 9.0  # ends are written larger
        return max(28.0, 14.0 + letter * len(self.label))

    @property
    def height(self) -> float:
        if self.function == "where":
            return 66.0  # room for the names of its three lines
        return {"bend": 4.0, "gate": 52.0, "function": 34.0}.get(self.kind, 28.0)


@dataclass(eq=False)
class Line:
    """From one vertex to another; ``weight`` is how it enters a gate: matrix, diagonal, or none of both."""

    start: Vertex
    end: Vertex
    weight: str = ""
    label: str = ""
    spine: bool = False
    bends: list[Vertex] = field(default_factory=list)


@dataclass
class Drawing:
    vertices: list[Vertex]
    lines: list[Line]


def drawing(cell: Cell) -> Drawing:
    """The vertices and lines of a cell, without places."""
    return _Builder(cell).build()


class _Builder:
    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.nodes = postorder(cell.outputs)
        self.users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for arg in node.args:
                self.users[arg].append(node)
        taken = {*cell.states, *cell.leaf_widths}
        self.names = {cell.gate_value(g): g + "\u0303" if g in taken else g for g in cell.gates}
        self.uses = {use.node: use for use in cell.uses}
        self.spines = {k: path for k in range(len(cell.states)) if (path := self._spine(k))}
        self.at: dict[Node, Vertex] = {}
        self.lines: list[Line] = []

    def build(self) -> Drawing:
        for node in self._sources():
            self.at[node] = Vertex("source", str(node.attr))
        for node in self.nodes:
            if node in self.at or node.op in ("const", "diagonal") or self._merged(node):
                continue
            self._add(node)
        sinks = [Vertex("sink", f"{state}'") for state in self.cell.states]
        for k, (sink, output) in enumerate(zip(sinks, self.cell.outputs, strict=True)):
            self.lines.append(Line(self._vertex(output), sink))
            if k in self.spines:
                sink.spine = k
        self._mark_spines(sinks)
        return Drawing([*self.at.values(), *sinks], self.lines)

    def _sources(self) -> list[Node]:
        """States whose line runs through the cell, other states, then x, the keyword inputs and the vectors."""
        leaves = [n for n in self.nodes if n.op in ("input", "vector", "state")]
        places = {name: k for k, name in enumerate(self.cell.states)}
        rank = {name: len(places) + k for k, name in enumerate(self.cell.leaf_widths)}

        def key(node: Node) -> tuple[bool, int]:
            k = places.get(str(node.attr)) if node.op == "state" else None
            return (k not in self.spines, rank[str(node.attr)] if k is None else k)

        return sorted(leaves, key=key)

    def _spine(self, k: int) -> list[Node]:
        """The shortest element-wise way from a state to its new value, through no gate; empty where there is none."""
        before: dict[Node, Node | None] = {self.cell.outputs[k]: None}
        waiting = deque([self.cell.outputs[k]])
        while waiting:
            node = waiting.popleft()
            if node.op == "state" and node.attr == self.cell.states[k]:
                path = [node]
                while (following := before[path[-1]]) is not None:
                    path.append(following)
                return path
            for arg in node.args if node.op in ARITHMETIC or node.op in ("minimum", "maximum", "where") else ():
                if arg not in before:
                    before[arg] = node
                    waiting.append(arg)
        return []

    def _mark_spines(self, sinks: list[Vertex]) -> None:
        for k, path in self.spines.items():
            vertices = [self._vertex(node) for node in path] + [sinks[k]]
            for vertex in vertices:
                vertex.spine = k if vertex.spine is None else vertex.spine
            for start, end in itertools.pairwise(vertices):
                for line in self.lines:
                    line.spine |= line.start is start and line.end is end

    def _merged(self, node: Node) -> bool:
        """An affine map that only one function reads is drawn as one box with it."""
        users = self.users[node]
        return node.op == "affine" and len(users) == 1 and users[0].op in UNARY_FUNCTIONS

    def _vertex(self, node: Node) -> Vertex:
        if node not in self.at:  # a number that is an operand of its own, or a new state
            self.at[node] = Vertex("source", f"{float_of(node):g}")
        return self.at[node]

    def _add(self, node: Node) -> None:
        label = SYMBOLS.get(node.op, node.op)
        operands = list(node.args)
        affine = node if node.op == "affine" else operands[0] if operands and self._merged(operands[0]) else None
        if affine is not None:
            use = self.uses[affine]
            letters = [f"W_{use.gate}"] * use.has_input_half + [f"U_{use.gate}"] * (use.state is not None)
            label = label if node is not affine else ", ".join(letters) or f"b_{use.gate}"
            self._place(node, Vertex("gate", label, self.names.get(node, ""), node.op))
            for operand in affine.args:
                weight = "diagonal" if operand.op == "diagonal" else "matrix"
                inner = operand.args[0] if operand.op == "diagonal" else operand
                self.lines.append(Line(self._vertex(inner), self.at[node], weight))
            return
        ports = _PORTS.get(node.op, ("",) * len(operands))
        numbers = [k for k, operand in enumerate(operands) if operand.op == "const"]
        if len(numbers) == 1 and len(operands) == 2:
            label = _with_number(node.op, float_of(operands[numbers[0]]), numbers[0])
            operands, ports = [operands[1 - numbers[0]]], ("",)
        function = node.op not in ARITHMETIC and node.op not in COMPARISONS and node.op != "neg"
        kind = "function" if function else "operation"
        self._place(node, Vertex(kind, label, self.names.get(node, ""), node.op if function else ""))
        for operand, port in zip(operands, ports, strict=True):
            self.lines.append(Line(self._vertex(operand), self.at[node], "", port))

    def _place(self, node: Node, vertex: Vertex) -> None:
        if vertex.name and vertex.kind != "gate":
            vertex.kind = "gate" if vertex.kind == "function" else vertex.kind
        self.at[node] = vertex


def _with_number(op: str, value: float, place: int) -> str:
    """What an operation with one number does to its other operand."""
    number = f"{value:g}".replace("-", "−")
    if op in ("sub", "div") and place == 0:
        return f"{number} {'−' if op == 'sub' else '÷'}"
    if op in ("add", "mul"):
        return f"{'+' if op == 'add' else '×'} {number}"
    if op in COMPARISONS and place == 0:
        op = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}[op]
    return f"{'−' if op == 'sub' else SYMBOLS[op]} {number}"
