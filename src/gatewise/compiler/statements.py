"""Expressions as statements of a language of the C family: C99, CUDA C++, and whatever else has their operators.

A ``Dialect`` is the little in which these languages differ: how a number is written, how a value is declared, what
functions are called. ``statements`` prints a graph; ``definitions`` prints the functions that a language lacks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatewise.compiler.expression import ARITHMETIC, COMPARISONS, Node, float_of, order

_LONGEST = 100
"""Characters of an expression; a longer one gets a name, so that lines stay readable and parentheses few."""

_FORMULAS: dict[str, tuple[str, str]] = {
    "sigmoid": ("x", "1 / (1 + {exp}(-x))"),
    "relu": ("x", "x <= 0 ? 0 : x"),  # not x > 0 ? x : 0: NaN passes, as in torch
    "softplus": ("x", "x > 20 ? x : {log1p}({exp}(x))"),
    "clipped": ("x", "x <= 0 ? 0 : x >= 1 ? 1 : x"),
    "minimum": ("a, b", "a < b || a != a ? a : b"),  # either NaN gives NaN
    "maximum": ("a, b", "a > b || a != a ? a : b"),
}
"""Functions that no language has: their arguments, and their values in terms of those that each has. ``clipped`` is
what is left of ``hard_sigmoid`` behind its line."""
LIBRARY = ("exp", "log", "log1p", "tanh")
"""Functions that each language has under some name."""


@dataclass(frozen=True)
class Dialect:
    """What differs from language to language. Templates are for ``str.format``."""

    number: str
    """A constant, from ``value``: its shortest decimal digits, with a point or an exponent."""
    declaration: str
    """Of a value that is named once: ``name`` and ``value``."""
    function: str = ""
    """Of a function: ``name``, ``value``, and ``arguments``, each written by ``argument``."""
    argument: str = "{name}"
    names: Mapping[str, str] | None = None
    """What functions are called; where it does not say, by their own names."""

    def called(self, function: str) -> str:
        return (self.names or {}).get(function, function)


def c99(real: str) -> Dialect:
    """C99 for ``float`` or ``double``; functions that ``definitions`` prints begin with ``gatewise_``."""
    names = {name: f"gatewise_{name}" for name in _FORMULAS}
    names |= {name: f"{name}f" if real == "float" else name for name in LIBRARY}
    return Dialect(
        number="{value}f" if real == "float" else "{value}",
        declaration=f"const {real} {{name}} = {{value}};",
        function="static inline " + real + " {name}({arguments}) {{ return {value}; }}",
        argument=f"{real} {{name}}",
        names=names,
    )


def definitions(dialect: Dialect) -> list[str]:
    """The functions that the language lacks, a line each."""
    lines = []
    for function, (arguments, value) in _FORMULAS.items():
        written = ", ".join(dialect.argument.format(name=name) for name in arguments.split(", "))
        body = value.format(**{name: dialect.called(name) for name in LIBRARY})
        lines.append(dialect.function.format(name=dialect.called(function), arguments=written, value=body))
    return lines


def statements(
    roots: Sequence[Node], known: Mapping[Node, str], dialect: Dialect, prefix: str = "v"
) -> tuple[list[str], list[str]]:
    """The lines that compute expressions, and what each of these is called behind them.

    What is used more than once is computed once and named, prefix and number.

    Args:
        known: how values are written that are there already; their arguments are not looked at.
    """
    printer = _Printer(roots, known, dialect, prefix)
    return printer.lines, [printer.text(root) for root in roots]


class _Printer:
    def __init__(self, roots: Sequence[Node], known: Mapping[Node, str], dialect: Dialect, prefix: str) -> None:
        self.dialect, self.lines = dialect, list[str]()
        self.written = dict(known)
        nodes = order(roots, known)
        users = Counter([*roots, *(arg for node in nodes for arg in node.args)])
        named = 0
        for node in nodes:
            text = self._expression(node)
            plain = node.op == "const" or node.op in COMPARISONS  # a comparison has another type than all else
            if not plain and (users[node] > 1 or len(text) > _LONGEST):
                name, named = f"{prefix}{named}", named + 1
                self.lines.append(dialect.declaration.format(name=name, value=_bare(text)))
                text = name
            self.written[node] = text

    def text(self, node: Node) -> str:
        return _bare(self.written[node])

    def _expression(self, node: Node) -> str:
        args = [self.written[a] for a in node.args]
        if node.op == "const":
            return self._number(float_of(node))
        if node.op in ARITHMETIC:
            return f"({args[0]} {ARITHMETIC[node.op]} {args[1]})"
        if node.op in COMPARISONS:
            return f"({args[0]} {COMPARISONS[node.op]} {args[1]})"
        if node.op == "neg":
            return f"(-{args[0]})"
        if node.op == "where":
            return f"({args[0]} ? {args[1]} : {args[2]})"
        if node.op == "hard_sigmoid":
            assert isinstance(node.attr, tuple)
            slope, offset = (self._number(v) for v in node.attr)
            return f"{self.dialect.called('clipped')}({slope} * {args[0]} + {offset})"
        return f"{self.dialect.called(node.op)}({', '.join(_bare(a) for a in args)})"

    def _number(self, value: float) -> str:
        text = self.dialect.number.format(value=repr(float(value)))
        return text if math.copysign(1.0, value) > 0 else f"({text})"


def _bare(text: str) -> str:
    """Without the parentheses around the whole."""
    if not text.startswith("("):
        return text
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[1:-1] if k == len(text) - 1 else text
    return text
