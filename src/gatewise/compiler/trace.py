"""From a Python function to a Cell: the function runs once on symbols, and what it does is its definition."""

from __future__ import annotations

import ast
import contextlib
import inspect
import keyword
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from gatewise.compiler.cell import Cell
from gatewise.compiler.definition import depends_on_recurrence
from gatewise.compiler.expression import Node, Width, depends, make, numeric, postorder
from gatewise.compiler.functions import Vector


class CellError(ValueError):
    """A fault in a cell's definition, found when it is defined."""


class Uses:
    """The applications of a cell's gates so far, each checked as it is made."""

    def __init__(self, cell: str) -> None:
        self.cell = cell
        self.nodes: dict[Node, None] = {}
        """Affine nodes in the order of their making."""
        self._halves: dict[str, list[str]] = {}

    def fail(self, message: str) -> CellError:
        return CellError(f"cell {self.cell}: {message}")

    def apply(self, gate: str, operands: tuple[Any, ...]) -> Node:
        """The value of a gate on these operands.

        Raises:
            CellError: where the language of cells has no such application.
        """
        kinds = [self._kind(gate, operand) for operand in operands]
        if not kinds:
            raise self.fail(f"gate {gate} is an affine map of nothing; give it x, a state or a keyword input")
        if kinds.count("state") > 1:
            raise self.fail(
                f"gate {gate} was given {kinds.count('state')} full-matrix states; it takes at most one, and "
                "diagonal(s) for further ones"
            )
        owners = Counter(o.owner for o, kind in zip(operands, kinds, strict=True) if kind == "input")
        if "" in owners:
            raise self.fail(
                f"gate {gate} was given a value as wide as a vector, but made of no input of that width; the weight of "
                "a gate belongs to an input"
            )
        for owner, count in owners.items():
            if count > 1:
                raise self.fail(f"gate {gate} was given input {owner} twice; each input has one weight per gate")
        node = make("affine", tuple(operands), gate, "hidden")
        if node in self.nodes:
            raise self.fail(f"gate {gate} is applied twice to the same operands; apply it once and reuse the value")
        self._check_halves(gate, kinds)
        self.nodes[node] = None
        return node

    def _kind(self, gate: str, operand: Any) -> str:
        if not isinstance(operand, Node):
            raise self.fail(f"gate {gate} takes x, states and keyword inputs, but was given {_short(operand)}")
        if not depends(operand, ("input", "state", "affine")):
            what = "vectors alone" if depends(operand, ("vector",)) else "a constant"
            raise self.fail(f"gate {gate} takes x, states and keyword inputs, but was given {what}")
        if operand.op == "diagonal":
            if operand.width != "hidden":
                raise self.fail(
                    f"gate {gate}: diagonal needs the width 'hidden', but its operand has {operand.width!r}; declare "
                    f"rate=vector({operand.width!r}) and write rate * {_called(operand.args[0])} before a product"
                )
            return "diagonal"
        try:
            numeric(operand)
        except TypeError as error:
            raise self.fail(f"gate {gate}: {error}") from None
        if not depends_on_recurrence(operand):
            return "input"
        if operand.width != "hidden":
            raise self.fail(f"gate {gate} was given a state of width {operand.width!r}; states have width 'hidden'")
        return "state"

    def _check_halves(self, gate: str, kinds: list[str]) -> None:
        both = "input" in kinds and len(set(kinds)) > 1
        half = "both" if both else "inputs" if "input" in kinds else "states"
        halves = [*self._halves.get(gate, ()), half]
        if len(halves) > 1 and (len(halves) > 2 or "both" in halves or halves[0] == halves[1]):
            raise self.fail(
                f"gate {gate} is used {len(halves)} times ({' and '.join(halves)}); a gate may be used once, or in two "
                "halves, one of inputs only and one of states only"
            )
        self._halves[gate] = halves


class Gate:
    """An affine map of that name, to be called once or in two halves."""

    def __init__(self, uses: Uses, name: str) -> None:
        self._uses, self._name = uses, name

    def __call__(self, *operands: Any, **named: Any) -> Node:
        if named:
            raise self._uses.fail(
                f"gate {self._name} takes its operands by position, but was given {', '.join(named)}="
            )
        return self._uses.apply(self._name, operands)

    def __repr__(self) -> str:
        return f"{self._name} without its operands"


class Gates:
    """What a cell's function knows as ``gate``: every attribute is an affine map of that name."""

    def __init__(self, uses: Uses) -> None:
        self._uses = uses

    def __getattr__(self, name: str) -> Gate:
        if not is_gate(name):
            raise AttributeError(f"{name!r} cannot name a gate; names start with a letter and are no keywords")
        return Gate(self._uses, name)


def is_name(text: str) -> bool:
    """Whether a text can name something in the canonical text, where Python's parser reads it as it stands."""
    return text.isidentifier() and not keyword.iskeyword(text) and unicodedata.is_normalized("NFKC", text)


def is_gate(name: str) -> bool:
    """Whether a gate can have this name. What begins with an underscore is Python's, and never called."""
    return is_name(name) and not name.startswith("_")


def cell(function: Callable[..., Any]) -> Cell:
    """The cell that a function of ``(gate, x, *states, *, **inputs)`` defines. Use as a decorator.

    The positional arguments after ``x`` are the states; the function returns their new values in the same order, and
    the first is the output. Keyword-only arguments are further inputs per step, each with its width as annotation or
    default: ``1``, ``"input"``, ``"hidden"`` or a number of columns; those whose default is ``vector(width)`` are
    parameters, one vector each.

    Raises:
        CellError: where the definition is at fault; it names the cell and the fault.
    """
    if not inspect.isfunction(function):
        raise CellError(f"a cell is defined by a function, got {_short(function)}")
    name = function.__name__
    if not is_name(name):
        raise CellError(f"cell {name}: a cell needs a name; define its function with def")
    states, inputs, vectors = _signature(name, function)
    uses = Uses(name)
    arguments = [make("input", (), "x", "input"), *(make("state", (), s, "hidden") for s in states)]
    keywords = {k: make("input", (), k, w) for k, w in inputs} | {k: make("vector", (), k, w) for k, w in vectors}
    try:
        result = function(Gates(uses), *arguments, **keywords)
    except CellError:
        raise
    except (TypeError, AttributeError, ArithmeticError, ValueError) as error:
        # The cause stays attached: its traceback shows the line of the equations.
        raise CellError(f"cell {name}: {error}") from error
    if result is None:
        raise CellError(f"cell {name}: the function returned nothing; it must return {', '.join(states)}")
    outputs = tuple(result) if isinstance(result, (tuple, list)) else (result,)
    made = finish(name, inspect.cleandoc(function.__doc__ or ""), states, inputs, outputs, uses.nodes)
    used = {str(n.attr) for n in postorder(made.outputs) if n.op in ("input", "vector")}
    for what, declared in (("keyword input", inputs), ("vector", vectors)):
        for unused in [n for n, _ in declared if n not in used]:
            raise CellError(f"cell {name}: no new state depends on the {what} {unused}")
    return replace(made, vectors=vectors, function=function)


def _called(node: Node) -> str:
    return str(node.attr) if node.op == "input" else "it"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def finish(
    name: str,
    source: str,
    states: tuple[str, ...],
    inputs: tuple[tuple[str, Width], ...],
    outputs: tuple[Any, ...],
    affines: Iterable[Node],
    *,
    allow_constant_states: bool = False,
) -> Cell:
    """Check the returned values and make the cell."""
    affines = tuple(affines)
    if len(outputs) != len(states):
        raise CellError(
            f"cell {name}: the function returned {len(outputs)} states, but takes {len(states)} ({', '.join(states)})"
        )
    for state, node in zip(states, outputs, strict=True):
        if not isinstance(node, Node):
            raise CellError(
                f"cell {name}: the new value of state {state} is {_short(node)}, not a value of the equations"
            )
        try:
            numeric(node)
        except TypeError as error:
            raise CellError(f"cell {name}: the new value of state {state} is no number: {error}") from None
        if node.width != "hidden":
            raise CellError(
                f"cell {name}: the new value of state {state} has width {node.width!r}, but a state has width 'hidden'"
            )
        if node.op == "state" and node.attr == state and not allow_constant_states:
            raise CellError(f"cell {name}: state {state} is never updated; it is returned as it came")
    alive = set(postorder(outputs))
    for affine in affines:
        if affine not in alive:
            raise CellError(f"cell {name}: gate {affine.attr} is computed but no new state depends on it")
    return Cell(name, source, states, inputs, outputs, affines)


_Widths = tuple[tuple[str, Width], ...]


def _signature(name: str, function: Callable[..., Any]) -> tuple[tuple[str, ...], _Widths, _Widths]:
    """States, keyword inputs and vectors."""
    parameters = list(inspect.signature(function).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise CellError(
            f"cell {name}: the function must list its states and inputs; *args and **kwargs are not allowed"
        )
    positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    for p in positional:
        if p.default is not p.empty:
            raise CellError(
                f"cell {name}: state {p.name} has a default; states have none, and keyword inputs stand after a *"
            )
    names = [p.name for p in positional]
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    inputs = tuple((p.name, _width(name, p)) for p in keywords if not isinstance(p.default, Vector))
    vectors = tuple((p.name, _width_of_vector(name, p)) for p in keywords if isinstance(p.default, Vector))
    check_names(name, names, [p.name for p in keywords])
    for n in [*names[2:], *(p.name for p in keywords)]:
        if n.endswith("_"):  # gatewise.compiler.masking gives such names to the inputs that it adds
            raise CellError(f"cell {name}: {n!r} cannot name a state or an input; names with a final _ are Gatewise's")
    return tuple(names[2:]), inputs, vectors


def check_names(name: str, positional: Sequence[str], inputs: Sequence[str]) -> None:
    """Refuse arguments that are not (gate, x, state, ...) and names that Python, parameters or the text need."""
    if name.startswith("__"):
        raise CellError(f"cell {name}: a name that begins with two underscores is Python's and cannot name a cell")
    if len(positional) < 3 or positional[1] != "x":
        raise CellError(
            f"cell {name}: the function must take (gate, x, state, ...), but takes ({', '.join(positional)})"
        )
    times = Counter([*positional, *inputs])
    for n in [*positional[2:], *inputs]:
        if not is_name(n) or n.startswith("_") or n in RESERVED:
            raise CellError(f"cell {name}: {n!r} cannot name a state or an input")
        if times[n] > 1:
            raise CellError(f"cell {name}: {n!r} names two arguments")


RESERVED = frozenset({"ih", "hh", "diagonal", "x", "gate"})


def _width(cell_name: str, parameter: inspect.Parameter) -> Width:
    typed = parameter.annotation not in (parameter.empty, Any, "Any")  # Any is for type checkers, no width
    declared = parameter.annotation if typed else parameter.default
    if isinstance(declared, str):
        # Under `from __future__ import annotations` the annotation arrives as source text.
        with contextlib.suppress(ValueError, SyntaxError):
            declared = ast.literal_eval(declared)
    if is_width(declared):
        width: Width = declared
        return width
    raise CellError(
        f"cell {cell_name}: keyword input {parameter.name} must declare its width as 1, 'input', 'hidden' or a number "
        f"of columns, but declares {None if declared is parameter.empty else declared!r}"
    )


def _width_of_vector(cell_name: str, parameter: inspect.Parameter) -> Width:
    width: Width = parameter.default.width
    if is_width(width):
        return width
    raise CellError(
        f"cell {cell_name}: vector {parameter.name} must have the width 'input', 'hidden' or a number of columns, but "
        f"has {width!r}"
    )


def is_width(value: object) -> bool:
    good_number = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31
    return good_number or value in ("input", "hidden")
