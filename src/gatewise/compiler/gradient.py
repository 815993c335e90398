"""Reverse mode on the graph: the backward of one step is another expression graph. Nobody writes a backward by hand.

Two node kinds appear here beside those of the forward: ``adjoint`` (attr: state) is the gradient that arrives at the
new value of a state, and ``transposed`` (attr: indices of uses, args: the gradients of their pre-activations) is
Σ Uᵀ·δ over the uses that multiply one operand by a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import Node, const, make, postorder, simplified


@dataclass(frozen=True)
class Gradient:
    """What one backward step computes, as expressions of adjoints, saved forward values and states before the step."""

    states: tuple[Node, ...]
    """Gradient of each state before the step."""
    affines: tuple[Node, ...]
    """Gradient of each use's pre-activation, in the order of ``Cell.uses``: per-step terms of weights and inputs."""
    inputs: tuple[tuple[str, Node], ...]
    """Per-step terms of inputs and vectors used outside affine maps, of hidden width; one of width 1 sums them over
    units."""


def adjoint_leaf(state: str) -> Node:
    return make("adjoint", (), state, "hidden")


class _Adjoints:
    def __init__(self) -> None:
        self.terms: dict[Node, Node] = {}

    def add(self, node: Node, term: Node) -> None:
        if node.op == "const":
            return
        earlier = self.terms.get(node)
        self.terms[node] = term if earlier is None else _plus(earlier, term)


def gradient(cell: Cell) -> Gradient:
    """The backward of one step of a cell whose affine operands need no prologue.

    Gradients at kinks are torch's: relu and hard_sigmoid 0, minimum and maximum half to each side.
    """
    adjoints = _Adjoints()
    for state, output in zip(cell.states, cell.outputs, strict=True):
        adjoints.add(output, adjoint_leaf(state))
    index = {use.node: i for i, use in enumerate(cell.uses)}
    operands: dict[Node, list[int]] = {}
    for i, use in enumerate(cell.uses):
        if use.state is not None:
            operands.setdefault(use.state, []).append(i)
    affines: list[Node] = [const(0.0)] * len(cell.uses)
    nodes = postorder(cell.outputs)
    variable: set[Node] = set()
    for node in nodes:
        if node.op in ("state", "affine", "input", "vector") or any(arg in variable for arg in node.args):
            variable.add(node)
    for node in reversed(nodes):
        if node in operands:
            uses = [i for i in operands[node] if affines[i].op != "const"]
            if uses:
                product = make("transposed", tuple(affines[i] for i in uses), tuple(uses), "hidden")
                adjoints.add(node, product)
        term = adjoints.terms.get(node)
        if term is None:
            continue
        if node.op == "affine":
            i = index[node]
            affines[i] = term
            for k, (owner, operand) in enumerate(cell.diagonals):
                if owner == i:
                    adjoints.add(operand, _times(term, make("parameter", (), f"weight_diagonal.{k}", "hidden")))
        elif node in variable:
            _propagate(node, term, adjoints)
    states = tuple(adjoints.terms.get(make("state", (), s, "hidden"), const(0.0)) for s in cell.states)
    leaves = [n for n in nodes if n.op in ("input", "vector") and n in adjoints.terms]
    return Gradient(states, tuple(affines), tuple((str(n.attr), adjoints.terms[n]) for n in leaves))


def _plus(a: Node, b: Node) -> Node:
    return a + b


def _times(a: Node, b: Node) -> Node:
    return simplified(make("mul", (a, b), None, "hidden"), (a, b))


def _select(condition: Node, a: Node, b: Node) -> Node:
    return make("where", (condition, a, b), None, "hidden")


def _propagate(node: Node, d: Node, adjoints: _Adjoints) -> None:
    args, op = node.args, node.op
    if op in ("input", "vector", "state"):
        return
    if op in ("minimum", "maximum"):
        a, b = args
        closer = (a < b) if op == "minimum" else (a > b)
        farther = (a > b) if op == "minimum" else (a < b)
        half, zero = 0.5 * d, const(0.0)
        adjoints.add(a, _select(closer, d, _select(farther, zero, half)))
        adjoints.add(b, _select(farther, d, _select(closer, zero, half)))
    elif op == "where":
        adjoints.add(args[1], _select(args[0], d, const(0.0)))
        adjoints.add(args[2], _select(args[0], const(0.0), d))
    else:
        for arg, term in zip(args, _derivatives(node, d), strict=True):
            adjoints.add(arg, term)


def _derivatives(node: Node, d: Node) -> list[Node]:
    """The term that each argument of a smooth or clipped function receives."""
    args, op = node.args, node.op
    if op == "add":
        return [d, d]
    if op == "sub":
        return [d, -d]
    if op == "mul":
        return [_times(d, args[1]), _times(d, args[0])]
    if op == "div":
        return [d / args[1], -(_times(d, node) / args[1])]
    if op == "neg":
        return [-d]
    if op == "sigmoid":
        return [d * (node * (1.0 - node))]
    if op == "tanh":
        return [d * (1.0 - node * node)]
    if op == "relu":
        # node <= 0 and not node > 0: a NaN passes its gradient on, as torch's threshold_backward does.
        return [_select(node <= 0.0, const(0.0), d)]
    if op == "exp":
        return [d * node]
    if op == "log":
        return [d / args[0]]
    if op == "softplus":
        return [_select(args[0] > 20.0, d, d * make("sigmoid", (args[0],), None, "hidden"))]
    assert op == "hard_sigmoid", op
    assert isinstance(node.attr, tuple)
    return [_select(node <= 0.0, const(0.0), _select(node >= 1.0, const(0.0), d * float(node.attr[0])))]
