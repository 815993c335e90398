"""The equations of a cell in Unicode, as a paper prints them.

Notation: W_g, U_g are the matrices of gate g on x and on a state, V_g that on a keyword input (V_{g,m} where the cell
has several), p_g an element-wise weight (a peephole), b_g its bias; vector parameters have names of their own. Where
the two halves of a gate are applied separately, as in torch's GRU, b_g is the bias of the inputs' half and c_g that of
the state's. ⊙ multiplies vectors element by element, · a vector by a number, σ is the logistic sigmoid, and h' is the
new value of the state h.
"""

from __future__ import annotations

from collections import Counter
from itertools import count

from gatewise.compiler.definition import Definition, Use
from gatewise.compiler.expression import COMPARISONS, Node, float_of, postorder

_FUNCTIONS = {"sigmoid": "σ", "relu": "ReLU", "minimum": "min", "maximum": "max"}
_COMPARISONS = {"lt": "<", "le": "≤", "gt": ">", "ge": "≥"}
_USUAL = (1 / 6, 0.5)
"""Slope and offset of hard_sigmoid; others are printed behind a semicolon."""
_NAMELESS = frozenset([*COMPARISONS, "diagonal"])
_MAX_DEPTH = 60
_SUM, _PRODUCT, _ATOM = 1, 2, 3
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def render(cell: Definition) -> str:
    """One line per gate value, in the order of the gates, then one per new state; what is used is defined first.

    The value of a gate is ``Cell.gate_value``. A longer value that is neither a gate nor a state and is used more than
    once, or is very deep, gets a name of its own, s₁, s₂ and so on.
    """
    return "\n".join(_Renderer(cell).lines())


class _Renderer:
    def __init__(self, cell: Definition) -> None:
        self.cell = cell
        self.uses = {use.node: use for use in cell.uses}
        self.times = Counter(use.gate for use in cell.uses)
        self.weighted = [name for name in cell.weighted_inputs if name != "x"]
        self.names: dict[Node, str] = {}
        taken = {*cell.states, *cell.leaf_widths}
        for gate in cell.gates:
            # A gate h beside a state h is the candidate h̃ of the papers.
            self.names.setdefault(cell.gate_value(gate), gate + "\u0303" if gate in taken else gate)
        for state, output in zip(cell.states, cell.outputs, strict=True):
            if output.args:
                self.names.setdefault(output, f"{state}'")
        self._name_shared()

    def _name_shared(self) -> None:
        """Names for what would otherwise be written out in full more than once."""
        users: dict[Node, int] = {}
        size: dict[Node, int] = {}
        depth: dict[Node, int] = {}
        nodes = postorder(self.cell.outputs)
        for node in reversed(nodes):
            # A comparison cannot have a name, so what it compares is written as often as the comparison is.
            written = users.get(node, 1) if node.op in _NAMELESS else 1
            for arg in node.args:
                users[arg] = users.get(arg, 0) + written
        count = 0
        for node in nodes:
            size[node] = (node.op in self.uses or bool(node.args)) + sum(
                0 if arg in self.names else size[arg] for arg in node.args
            )
            depth[node] = 1 + max((depth[arg] for arg in node.args if arg not in self.names), default=0)
            shared = users.get(node, 0) > 1 and (node.op == "affine" or size[node] > 1)
            nameless = node in self.names or node.op in _NAMELESS
            if (shared or depth[node] > _MAX_DEPTH) and not nameless:
                count += 1
                self.names[node] = "s" + str(count).translate(_SUBSCRIPTS)

    def lines(self) -> list[str]:
        cell = self.cell
        # A state that another new state is made of comes first, whatever the order of the states.
        roots = [*(cell.gate_value(gate) for gate in cell.gates), *(output for output in cell.outputs if output.args)]
        lines = [f"{self.names[n]} = {self._expression(n)[0]}" for n in postorder(roots) if n in self.names]
        for state, output in zip(cell.states, cell.outputs, strict=True):
            name = f"{state}'"
            if self.names.get(output) != name:
                lines.append(f"{name} = {self._text(output, 0)}")
        return lines

    def _text(self, node: Node, floor: int) -> str:
        """A value in a place where what binds more loosely than ``floor`` needs parentheses."""
        if node in self.names:
            return self.names[node]
        text, strength = self._expression(node)
        return f"({text})" if strength < floor else text

    def _expression(self, node: Node) -> tuple[str, int]:
        """A value written out, and how strongly its outermost operation binds."""
        op, args = node.op, node.args
        if op in ("input", "vector", "state"):
            return str(node.attr), _ATOM
        if op == "const":
            value = float_of(node)
            return _number(value), _SUM if value < 0 else _ATOM
        if op == "affine":
            return self._affine(self.uses[node]), _SUM
        if op == "neg":
            return f"−{self._text(args[0], _PRODUCT)}", _SUM
        if op == "add":
            right = self._text(args[1], _PRODUCT if _leads_with_minus(args[1]) else _SUM)
            return f"{self._text(args[0], _SUM)} + {right}", _SUM
        if op == "sub":
            return f"{self._text(args[0], _SUM)} − {self._text(args[1], _PRODUCT)}", _SUM
        if op == "mul":
            sign = "·" if 1 in (args[0].width, args[1].width) else "⊙"
            left, right = (self._text(a, _ATOM if a.op == "div" else _PRODUCT) for a in args)
            return f"{left} {sign} {right}", _PRODUCT
        if op == "div":
            return f"{self._text(args[0], _PRODUCT)} / {self._text(args[1], _ATOM)}", _PRODUCT
        inner = [self._text(a, 0) for a in args]
        if op in _COMPARISONS:
            return f" {_COMPARISONS[op]} ".join(inner), 0
        if isinstance(node.attr, tuple) and node.attr != _USUAL:
            inner[-1] += f"; {', '.join(_number(float(v)) for v in node.attr)}"
        return f"{_FUNCTIONS.get(op, op)}({', '.join(inner)})", _ATOM

    def _affine(self, use: Use) -> str:
        owners = {operand: name for name, operand in use.inputs}
        diagonals = count(1)
        terms = []
        for operand in use.node.args:
            if operand.op == "diagonal":
                mark = f"{{{use.gate},{next(diagonals)}}}" if len(use.diagonals) > 1 else use.gate
                terms.append(f"p_{mark} ⊙ {self._text(operand.args[0], _PRODUCT)}")
                continue
            letter, mark = "U", use.gate
            if operand in owners:
                letter = "W" if owners[operand] == "x" else "V"
                if letter == "V" and len(self.weighted) > 1:
                    mark = f"{{{use.gate},{owners[operand]}}}"
            terms.append(f"{letter}_{mark} {self._text(operand, _ATOM)}")
        second = not use.has_input_half and self.times[use.gate] > 1
        return " + ".join([*terms, f"{'c' if second else 'b'}_{use.gate}"])


def _leads_with_minus(node: Node) -> bool:
    while node.op in ("add", "sub", "mul", "div"):
        node = node.args[0]
    return node.op == "neg" or (node.op == "const" and float_of(node) < 0)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0").replace("-", "−")
