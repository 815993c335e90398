"""From the canonical text of a cell (see ``printer``) back to the cell.

The text is read with ``ast`` and never executed, so a text from a stranger's file can do nothing but define a cell.
"""

from __future__ import annotations

import ast
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gatewise.compiler import functions
from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import (
    CHOICES,
    UNARY_FUNCTIONS,
    Node,
    Width,
    arithmetic,
    as_node,
    compare,
    float_of,
    make,
)
from gatewise.compiler.trace import CellError, Uses, check_names, finish, is_gate, is_width

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(functions, name) for name in (*UNARY_FUNCTIONS, *CHOICES, "diagonal")
}
_BINARY: dict[type[ast.AST], str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_MAX_LENGTH = 200_000
_COMPARE: dict[type[ast.AST], str] = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}


def parse(text: str, source: str = "") -> Cell:
    """The cell that a canonical text defines; ``parse(cell.text).text == cell.text``.

    Raises:
        CellError: when the text is not a cell.
    """
    if not isinstance(text, str):
        raise CellError(f"the text of a cell must be a str, got {type(text).__name__}")
    if len(text) > _MAX_LENGTH:
        raise CellError(f"the text of a cell must have at most {_MAX_LENGTH} characters, but has {len(text)}")
    if not unicodedata.is_normalized("NFKC", text):
        raise CellError("the text of a cell has letters that Python reads as others (it is not in the form NFKC)")
    try:
        module = ast.parse(text)
    except (RecursionError, MemoryError):
        raise CellError("the text of a cell is nested too deeply") from None
    except (SyntaxError, ValueError) as error:
        raise CellError(f"the text of a cell must be one function definition, but it does not parse: {error}") from None
    if len(module.body) != 1 or not isinstance(module.body[0], ast.FunctionDef):
        raise CellError(f"the text of a cell must be one function definition, got {text[:60]!r}")
    name = module.body[0].name
    try:
        return _Reader(module.body[0], text, source).cell()
    except CellError:
        raise
    except RecursionError:
        raise CellError("the text of a cell is nested too deeply") from None
    except (TypeError, ArithmeticError, ValueError) as error:
        raise CellError(f"cell {name}: {error}") from None


def _read_again(cell: Cell, state: tuple[str, str]) -> None:
    vars(cell).update(vars(parse(*state)))


# Set here, since the cell itself comes before its parser. Not a __reduce__ with parse: torch.load(weights_only=True)
# would then want to be told of parse too, beside the class.
setattr(Cell, "__setstate__", _read_again)  # noqa: B010 (mypy knows no such method to assign to)


def _vector(argument: ast.arg) -> ast.expr | None:
    """What stands in ``vector(...)`` behind an argument, if that stands there."""
    match argument.annotation:
        case ast.Call(func=ast.Name(id="vector"), args=[width], keywords=[]):
            return width
    return None


class _Reader:
    """Reads a definition by cases: what none of them takes is refused, and no name of a text is looked up in Python."""

    def __init__(self, function: ast.FunctionDef, text: str, source: str) -> None:
        self.function, self.text, self.source = function, text, source
        self.uses = Uses(function.name)
        self.names: dict[str, Node] = {}

    def fail(self, node: ast.AST) -> CellError:
        found = ast.get_source_segment(self.text, node) or "what stands behind its name"
        return CellError(f"cell {self.function.name}: {found[:80]!r} is not part of the language of cells")

    def cell(self) -> Cell:
        name, arguments = self.function.name, self.function.args
        positional = [a.arg for a in arguments.args]
        # Everything else that Python allows in a definition is refused, decorators and defaults above all.
        others: list[object] = [arguments.posonlyargs, arguments.vararg, arguments.kwarg, arguments.defaults]
        others += arguments.kw_defaults
        others += [a.annotation for a in arguments.args]
        if any(others) or positional[:1] != ["gate"]:
            raise self.fail(arguments)
        if self.function.decorator_list or self.function.returns or getattr(self.function, "type_params", None):
            raise CellError(f"cell {name}: decorators and types are not part of the language of cells")
        vectors = tuple((a.arg, self.width(a, v)) for a in arguments.kwonlyargs if (v := _vector(a)) is not None)
        inputs = tuple((a.arg, self.width(a, a.annotation)) for a in arguments.kwonlyargs if _vector(a) is None)
        check_names(name, positional, [n for n, _ in (*inputs, *vectors)])
        states = tuple(positional[2:])
        self.names["x"] = make("input", (), "x", "input")
        self.names |= {s: make("state", (), s, "hidden") for s in states}
        self.names |= {n: make("input", (), n, w) for n, w in inputs}
        self.names |= {n: make("vector", (), n, w) for n, w in vectors}
        for statement in self.function.body[:-1]:
            self.assign(statement)
        last = self.function.body[-1]
        if not isinstance(last, ast.Return) or last.value is None:
            raise self.fail(last)
        elements = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
        outputs = tuple(self.read(e) for e in elements)
        made = finish(name, self.source, states, inputs, outputs, self.uses.nodes, allow_constant_states=True)
        return replace(made, vectors=vectors)

    def width(self, argument: ast.arg, declared: ast.expr | None) -> Width:
        value = declared.value if isinstance(declared, ast.Constant) else None
        if isinstance(value, (str, int)) and is_width(value):
            return value
        raise self.fail(argument)

    def assign(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if not _is_taken(name):
                self.names[name] = self.read(value)
            case _:
                raise self.fail(statement)

    def read(self, node: ast.expr) -> Node:
        if isinstance(node, ast.Name) and node.id in self.names:
            return self.names[node.id]
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return as_node(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.read(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return arithmetic(_BINARY[type(node.op)], self.read(node.left), self.read(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
            return compare(_COMPARE[type(node.ops[0])], self.read(node.left), self.read(node.comparators[0]))
        if isinstance(node, ast.Call) and not node.keywords:
            return self.call(node)
        raise self.fail(node)

    def call(self, node: ast.Call) -> Node:
        arguments = tuple(self.read(a) for a in node.args)
        match node.func:
            case ast.Attribute(value=ast.Name(id="gate"), attr=name) if is_gate(name):
                return self.uses.apply(name, arguments)
            case ast.Name(id="hard_sigmoid") if arguments and all(a.op == "const" for a in arguments[1:]):
                return as_node(functions.hard_sigmoid(arguments[0], *(float_of(a) for a in arguments[1:])))
            case ast.Name(id=name) if name in _FUNCTIONS and name != "hard_sigmoid":
                return as_node(_FUNCTIONS[name](*arguments))
        raise self.fail(node)


def _is_taken(name: str) -> bool:
    """Whether a name has a meaning of its own, so that no value of a text can have it."""
    return name == "gate" or name in _FUNCTIONS or name.startswith("__")
