"""The functions that equations are written with; on symbols they build nodes, on tensors they compute.

The compiler knows no tensor library. ``register`` hands it one: a test for its values and a table of its functions,
so that a cell's own Python function also runs directly on tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gatewise.compiler.expression import Node, Width, as_node, choice, float_of, make, numeric, unary

_tables: list[tuple[type, Mapping[str, Callable[..., Any]]]] = []


def register(kind: type, table: Mapping[str, Callable[..., Any]]) -> None:
    """Let the functions below compute on values of ``kind`` with the functions of ``table``."""
    _tables.append((kind, table))


def _apply(name: str, symbolic: Callable[[], Node], args: tuple[Any, ...], *extra: float) -> Any:
    if not any(isinstance(a, Node) for a in args):
        for kind, table in _tables:
            if any(isinstance(a, kind) for a in args):
                return table[name](*args, *extra)
        node = symbolic()
        return float_of(node) if node.op == "const" else node
    return symbolic()


def sigmoid(x: Any) -> Any:
    """The logistic function 1 / (1 + e⁻ˣ)."""
    return _apply("sigmoid", lambda: unary("sigmoid", x), (x,))


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return _apply("tanh", lambda: unary("tanh", x), (x,))


def relu(x: Any) -> Any:
    """max(x, 0), with gradient 0 at 0 as in torch."""
    return _apply("relu", lambda: unary("relu", x), (x,))


def softplus(x: Any) -> Any:
    """log(1 + eˣ), and x itself above 20, as in torch."""
    return _apply("softplus", lambda: unary("softplus", x), (x,))


def exp(x: Any) -> Any:
    """eˣ."""
    return _apply("exp", lambda: unary("exp", x), (x,))


def log(x: Any) -> Any:
    """The natural logarithm."""
    return _apply("log", lambda: unary("log", x), (x,))


def hard_sigmoid(x: Any, slope: float = 1 / 6, offset: float = 0.5) -> Any:
    """slope · x + offset, cut to [0, 1]; gradient 0 where it is cut, the ends included, as in torch."""
    attr = (float(slope), float(offset))
    return _apply("hard_sigmoid", lambda: unary("hard_sigmoid", x, attr), (x,), *attr)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two values; at a tie each gets half of the gradient, as in torch."""
    return _apply("minimum", lambda: choice("minimum", a, b), (a, b))


def maximum(a: Any, b: Any) -> Any:
    """The larger of two values; at a tie each gets half of the gradient, as in torch."""
    return _apply("maximum", lambda: choice("maximum", a, b), (a, b))


def where(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the comparison holds, else ``b``."""
    return _apply("where", lambda: choice("where", condition, a, b), (condition, a, b))


@dataclass(frozen=True)
class Vector:
    """The default of an argument that is a vector parameter."""

    width: Width


def vector(width: Width) -> Any:
    """As the default of a cell's keyword-only argument: a learned vector, the same at every step, instead of an input.

    Args:
        width: ``"input"``, ``"hidden"`` or a number of columns.

    ``def my_cell(gate, x, h, *, gap="input", rate=vector("input"))`` has the parameter ``vector_rate``; ``rate * gap``
    weighs each variable's gap by itself.
    """
    return Vector(width)


@dataclass(frozen=True)
class Diagonal:
    """What ``diagonal`` gives on tensors: the operand, marked for the gate that takes it."""

    value: Any


def diagonal(s: Any) -> Any:
    """As an operand of a gate: an element-wise weight on ``s`` instead of a matrix (a peephole)."""
    return Diagonal(s) if any(isinstance(s, kind) for kind, _ in _tables) else _diagonal(s)


def _diagonal(s: Any) -> Node:
    node = numeric(as_node(s))
    if node.op == "const":
        raise TypeError(f"diagonal takes a state or an input, but got the number {float_of(node):g}")
    return make("diagonal", (node,), None, node.width)
