"""The canonical text of a cell: a restricted Python function in which every gate and every value used twice has a line
of its own."""

from __future__ import annotations

import math

from gatewise.compiler.definition import Definition
from gatewise.compiler.expression import ARITHMETIC, COMPARISONS, Node, float_of, postorder

_MAX_DEPTH = 60
"""Python's parser refuses some 200 nested parentheses; a deeper value is printed over several lines."""


def print_cell(cell: Definition) -> str:
    """The canonical text: gates in their order, then the values used more than once, then the new states."""
    return _Printer(cell).text()


class _Printer:
    def __init__(self, cell: Definition) -> None:
        self.cell = cell
        self.names: dict[Node, str] = {}
        self.users: dict[Node, int] = {}
        for node in postorder(cell.outputs):
            for arg in node.args:
                self.users[arg] = self.users.get(arg, 0) + 1
        for output in cell.outputs:
            self.users[output] = self.users.get(output, 0) + 1

    def text(self) -> str:
        lines: list[str] = []
        depths: dict[Node, int] = {}
        for node in postorder([*self.cell.affines, *self.cell.outputs]):
            depths[node] = 1 + max((depths[a] for a in node.args if a not in self.names), default=0)
            shared = node.op == "affine" or self.users[node] > 1 or depths[node] > _MAX_DEPTH
            if node.args and shared:
                expression = self.expression(node)
                self.names[node] = f"_{len(self.names)}"
                lines.append(f"{self.names[node]} = {expression}")
        results = ", ".join([self.value(o) for o in self.cell.outputs])
        declared = "".join(f", {name}: {width!r}" for name, width in self.cell.inputs)
        declared += "".join(f", {name}: vector({width!r})" for name, width in self.cell.vectors)
        arguments = ", ".join(["gate", "x", *self.cell.states]) + (", *" + declared if declared else "")
        body = "".join(f"    {line}\n" for line in [*lines, f"return {results}"])
        return f"def {self.cell.name}({arguments}):\n{body}"

    def value(self, node: Node) -> str:
        if node in self.names:
            return self.names[node]
        if node.op in ("input", "vector", "state"):
            return str(node.attr)
        if node.op == "const":
            return repr(float_of(node)) if math.copysign(1.0, float_of(node)) > 0 else f"({float_of(node)!r})"
        return self.expression(node)

    def expression(self, node: Node) -> str:
        args = [self.value(a) for a in node.args]
        if node.op == "affine":
            return f"gate.{node.attr}({', '.join(args)})"
        if node.op in ARITHMETIC:
            return f"({args[0]} {ARITHMETIC[node.op]} {args[1]})"
        if node.op in COMPARISONS:
            return f"({args[0]} {COMPARISONS[node.op]} {args[1]})"
        if node.op == "neg":
            return f"(-{args[0]})"
        extra = [repr(v) for v in node.attr] if isinstance(node.attr, tuple) else []
        return f"{node.op}({', '.join([*args, *extra])})"
