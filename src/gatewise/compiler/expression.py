"""The expression graph: interned nodes, widths, and the walks that everything else is built from.

A node is an operation, its arguments, an attribute and a width. Nodes are interned: building the same expression twice
gives the same object, so common subexpressions exist once and identity is equality.

Leaves: ``input`` (x or a keyword input), ``vector`` (a parameter that is one vector, the same at every step), ``state``
(its value before the step), ``const``.
Structure: ``affine`` (one use of a gate: attr = gate name), ``diagonal`` (an element-wise weight on an operand of an
affine map). Everything else is element-wise and listed in the tables below.
"""

from __future__ import annotations

import math
import numbers
import operator
import threading
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

Width = str | int
"""``"input"``, ``"hidden"``, or a number of columns; 1 broadcasts against anything."""

Attribute = str | float | tuple[float, ...] | tuple[int, ...] | None

UNARY_FUNCTIONS = ("sigmoid", "tanh", "relu", "softplus", "exp", "log", "hard_sigmoid")
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
CHOICES = ("minimum", "maximum", "where")


class Node:
    """One value of the graph. Build nodes with ``make`` or with Python's operators, never directly."""

    __slots__ = ("__weakref__", "args", "attr", "op", "ops", "owner", "width")

    op: str
    args: tuple[Node, ...]
    attr: Attribute
    width: Width
    ops: frozenset[str]
    """The operations that the value is made of, its own among them. Here, since to walk the graph anew for each gate
    took 17 s for a cell of 3,000 gates."""
    owner: str
    """The input that a weight on this value belongs to: x where it takes part, else the first keyword input of the
    value's width; an empty name where no input has that width, but a vector."""

    __array_ufunc__ = None  # NumPy leaves its numbers' arithmetic with nodes to the operators below

    def __init__(self, op: str, args: tuple[Node, ...], attr: Attribute, width: Width) -> None:
        self.op, self.args, self.attr, self.width = op, args, attr, width
        self.ops = _united([*(a.ops for a in args), frozenset([op])])
        owners = [str(attr)] if op == "input" else [a.owner for a in args if a.width == width and a.owner]
        self.owner = "x" if "x" in owners else next(iter(owners), "")

    def __repr__(self) -> str:
        inner = ", ".join([*(a.op if a.args else str(a.attr) for a in self.args)])
        return f"Node({self.op} {self.attr if self.attr is not None else ''} [{inner}] : {self.width})"

    def __bool__(self) -> bool:
        raise TypeError(
            "a cell's equations are traced once, so a Python `if`, `and`, `or` or `not` cannot look at the symbolic "
            "value it was given; write where(condition, a, b) instead"
        )

    def __iter__(self) -> Iterator[Node]:
        raise TypeError("a symbolic value of a cell is one vector and cannot be unpacked or iterated over")

    # What cannot be traced says so in a sentence; ``cell`` puts the name of the cell before it.

    def __eq__(self, other: object) -> bool:
        if isinstance(other, numbers.Number):
            raise TypeError("a cell cannot compare with == or !=; write where with <, <=, > or >=")
        return self is other

    __hash__ = object.__hash__

    def __float__(self) -> float:
        raise TypeError("a symbolic value is not a number; use gatewise's functions (gatewise.tanh, not math.tanh)")

    def __getitem__(self, index: object) -> NoReturn:
        raise TypeError("a symbolic value of a cell is one vector and cannot be indexed")

    def __pow__(self, exponent: object) -> NoReturn:
        raise TypeError("the language of cells has no power; write h * h for h ** 2, or exp(a * log(h))")

    def __abs__(self) -> NoReturn:
        raise TypeError("the language of cells has no abs; write maximum(h, -h)")

    def __matmul__(self, other: object) -> NoReturn:
        raise TypeError("matrices belong to gates: write gate.name(x, h) instead of a product with @")

    __rpow__ = __pow__
    __rmatmul__ = __matmul__

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a symbolic value of a cell has no attribute {name!r}; use functions such as tanh(h)")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        name = getattr(function, "__name__", "its functions")
        raise TypeError(f"torch's {name} cannot take a symbolic value of a cell; use gatewise's functions")

    def __add__(self, other: Operand) -> Node:
        return arithmetic("add", self, other)

    def __radd__(self, other: Operand) -> Node:
        return arithmetic("add", other, self)

    def __sub__(self, other: Operand) -> Node:
        return arithmetic("sub", self, other)

    def __rsub__(self, other: Operand) -> Node:
        return arithmetic("sub", other, self)

    def __mul__(self, other: Operand) -> Node:
        return arithmetic("mul", self, other)

    def __rmul__(self, other: Operand) -> Node:
        return arithmetic("mul", other, self)

    def __truediv__(self, other: Operand) -> Node:
        return arithmetic("div", self, other)

    def __rtruediv__(self, other: Operand) -> Node:
        return arithmetic("div", other, self)

    def __neg__(self) -> Node:
        return const(-float_of(self)) if self.op == "const" else make("neg", (self,), None, numeric(self).width)

    def __lt__(self, other: Operand) -> Node:
        return compare("lt", self, other)

    def __le__(self, other: Operand) -> Node:
        return compare("le", self, other)

    def __gt__(self, other: Operand) -> Node:
        return compare("gt", self, other)

    def __ge__(self, other: Operand) -> Node:
        return compare("ge", self, other)


Operand = Node | float | int


def _united(sets: list[frozenset[str]]) -> frozenset[str]:
    """The union; where it is one of them, that one, so that most nodes share theirs."""
    whole = sets[0]
    for one in sets[1:]:
        if not one <= whole:
            whole = one if whole <= one else whole | one
    return whole


_interned: weakref.WeakValueDictionary[tuple[object, ...], Node] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def make(op: str, args: tuple[Node, ...] = (), attr: Attribute = None, width: Width = 1) -> Node:
    """The one node with these contents."""
    # repr tells 0.0 from -0.0 and 1 from 1.0, which == does not.
    key = (op, args, repr(attr), width)
    with _lock:
        node = _interned.get(key)
        if node is None:
            node = Node(op, args, attr, width)
            _interned[key] = node
        return node


def const(value: float) -> Node:
    if not math.isfinite(value):
        raise ArithmeticError(f"a constant of a cell must be finite, but is {value!r}")
    return make("const", (), float(value), 1)


def as_node(value: object) -> Node:
    """A node for an operand: a node itself or a Python number."""
    if isinstance(value, Node):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return const(float(value))
    got = f"{type(value).__name__} {value}" if callable(value) else type(value).__name__
    raise TypeError(f"a cell computes with its arguments, gates and numbers, but got {got}")


def numeric(node: Node) -> Node:
    if node.op in COMPARISONS:
        raise TypeError("a comparison is only usable as the condition of where(condition, a, b), not in arithmetic")
    if node.op == "diagonal":
        raise TypeError("diagonal(s) is only usable as an operand of a gate")
    return node


def join_widths(nodes: Iterable[Node]) -> Width:
    """The width of an element-wise combination; width 1 broadcasts."""
    width: Width = 1
    for node in nodes:
        if node.width == 1 or node.width == width:
            continue
        if width != 1:
            raise TypeError(f"element-wise operands must have one width, but got widths {width!r} and {node.width!r}")
        width = node.width
    return width


def arithmetic(op: str, left: Operand, right: Operand) -> Node:
    a, b = numeric(as_node(left)), numeric(as_node(right))
    if a.op == "const" and b.op == "const":
        return const(fold(op, (float_of(a), float_of(b))))
    return make(op, (a, b), None, join_widths((a, b)))


def compare(op: str, left: Operand, right: Operand) -> Node:
    a, b = numeric(as_node(left)), numeric(as_node(right))
    return make(op, (a, b), None, join_widths((a, b)))


def fold(op: str, values: tuple[float, ...], attr: Attribute = None) -> float:
    """The value of an operation on numbers."""
    return _FOLD[op](*values, *(attr if isinstance(attr, tuple) else ()))


def _hard_sigmoid(x: float, slope: float, offset: float) -> float:
    return min(max(slope * x + offset, 0.0), 1.0)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


_FOLD: dict[str, Callable[..., float]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
    "softplus": lambda x: x if x > 20.0 else math.log1p(math.exp(x)),
    "exp": math.exp,
    "log": math.log,
    "hard_sigmoid": _hard_sigmoid,
    "minimum": min,
    "maximum": max,
}
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def float_of(node: Node) -> float:
    assert isinstance(node.attr, float)
    return node.attr


def unary(op: str, value: object, attr: Attribute = None) -> Node:
    node = numeric(as_node(value))
    if node.op == "const":
        return const(fold(op, (float_of(node),), attr))
    return make(op, (node,), attr, node.width)


def choice(op: str, *values: object) -> Node:
    """``minimum(a, b)``, ``maximum(a, b)`` or ``where(condition, a, b)``."""
    nodes = tuple(as_node(v) for v in values)
    if op == "where" and nodes[0].op not in COMPARISONS:
        raise TypeError("the first argument of where must be a comparison such as a < b")
    for node in nodes[1:] if op == "where" else nodes:
        numeric(node)
    decided = _decided(op, nodes)
    return make(op, nodes, None, join_widths(nodes)) if decided is None else decided


def _decided(op: str, nodes: tuple[Node, ...]) -> Node | None:
    """The outcome of a choice between, or by a comparison of, numbers."""
    numbers_of = nodes[0].args if op == "where" else nodes
    if any(n.op != "const" for n in numbers_of):
        return None
    values = tuple(float_of(n) for n in numbers_of)
    if op == "where":
        return nodes[1] if _HOLDS[nodes[0].op](*values) else nodes[2]
    return const(fold(op, values))


def arguments(node: Node) -> Sequence[Node]:
    """What a node is computed from."""
    return node.args


def order(
    roots: Iterable[Node], known: Container[Node] = (), parts: Callable[[Node], Sequence[Node]] = arguments
) -> list[Node]:
    """What must be computed for the roots when some values are known, arguments before users."""
    return [node for node in postorder(roots, known, parts) if node not in known]


def postorder(
    roots: Iterable[Node], ends: Container[Node] = (), parts: Callable[[Node], Sequence[Node]] = arguments
) -> list[Node]:
    """Every node reachable from the roots, arguments before users; not through ``ends``."""
    seen: dict[Node, None] = {}
    stack: list[tuple[Node, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        node, done = stack.pop()
        if node in seen:
            continue
        if done:
            seen[node] = None
            continue
        stack.append((node, True))
        if node not in ends:
            stack.extend((a, False) for a in reversed(parts(node)) if a not in seen)
    return list(seen)


def depends(node: Node, ops: Iterable[str]) -> bool:
    """Whether a node of one of these operations is among what the node is computed from."""
    return not node.ops.isdisjoint(ops)


def reaches(roots: Iterable[Node], targets: Iterable[Node], without: Node | None = None) -> bool:
    """Whether some root depends on some target along a path that avoids ``without``."""
    wanted, seen = set(targets), set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node is without or node in seen:
            continue
        if node in wanted:
            return True
        seen.add(node)
        stack.extend(node.args)
    return False


def rewrite(
    roots: Iterable[Node],
    replace: Mapping[Node, Node],
    build: Callable[[Node, tuple[Node, ...]], Node] | None = None,
) -> tuple[Node, ...]:
    """The roots with nodes replaced; ``build`` makes the node anew when its arguments changed (default: as it was)."""
    roots = tuple(roots)
    result: dict[Node, Node] = {}
    for node in postorder(roots, replace):
        if node in replace:
            result[node] = replace[node]
            continue
        args = tuple(result[a] for a in node.args)
        if build is not None:
            result[node] = build(node, args)
        else:
            result[node] = node if args == node.args else make(node.op, args, node.attr, node.width)
    return tuple(result[r] for r in roots)


def simplified(node: Node, args: tuple[Node, ...]) -> Node:
    """``node`` on ``args`` with constants folded and 0 and 1 absorbed: for pinned gates, where 0 · n means no n."""
    values = tuple(float_of(a) if a.op == "const" else None for a in args)
    numbers_only = tuple(v for v in values if v is not None)
    if node.op in _FOLD and len(numbers_only) == len(args):
        return const(fold(node.op, numbers_only, node.attr))
    if node.op == "where" and (decided := _decided(node.op, args)) is not None:
        return decided
    if node.op in ARITHMETIC:
        (a, b), (u, v) = args, values
        if node.op == "mul" and (u == 0.0 or v == 0.0):
            return const(0.0)
        if (node.op == "mul" and u == 1.0) or (node.op == "add" and u == 0.0):
            return b
        if (v == 1.0 and node.op in ("mul", "div")) or (v == 0.0 and node.op in ("add", "sub")):
            return a
        if node.op == "sub" and u == 0.0:
            return -b
    if args == node.args:
        return node
    width = node.width if node.op in ("affine", "diagonal") else join_widths(args)
    return make(node.op, args, node.attr, width)
