"""A cell: equations with an identity, which is their text, and with parameters of given shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gatewise.compiler.definition import Definition, depends_on_recurrence
from gatewise.compiler.equations import render
from gatewise.compiler.expression import Node, const, float_of, make, postorder, reaches, rewrite, simplified
from gatewise.compiler.printer import print_cell


@dataclass(frozen=True, eq=False)
class Cell(Definition):
    """A recurrent cell, defined by its equations.

    ``text`` is the canonical, parseable form and the one identity: cells are equal when their texts are. It is also the
    pickled form (see ``text.parse``).
    """

    function: Callable[..., Any] | None = None
    """The Python function that was traced, which also runs on tensors; None for a cell read from its text or pinned."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<Cell {self.name}({', '.join(('x', *self.states))})>"

    def __getstate__(self) -> tuple[str, str]:
        return self.text, self.source  # ``text`` reads it again

    def __deepcopy__(self, memo: object) -> Cell:
        return self

    def __call__(self, *args: object, **kwargs: object) -> object:
        raise TypeError(
            f"cell {self.name} is a definition, not a layer: gatewise.Recurrent({self.name}, input_size, hidden_size) "
            "makes a layer of it"
        )

    @cached_property
    def text(self) -> str:
        return print_cell(self)

    def body(self) -> str:
        """``text`` without the name: two cells with one body compute the same."""
        return self.text.partition("(")[2]

    def equations(self) -> str:
        """The equations in Unicode, one line per gate and state: ``z = σ(W_z x + U_z h + b_z)``."""
        return render(self)

    def rows(self, parameter: str) -> tuple[str, ...]:
        """The gates that own a block of rows in ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh`` or, for a
        keyword input m, in ``weight_m``."""
        return self._rows.get(parameter, ())

    @cached_property
    def _rows(self) -> dict[str, tuple[str, ...]]:
        owners: dict[str, dict[str, None]] = {}
        for use in self.uses:
            for parameter in use.parameters:
                owners.setdefault(parameter, {})[use.gate] = None
        place = {gate: k for k, gate in enumerate(self.gates)}
        return {parameter: tuple(sorted(gates, key=place.__getitem__)) for parameter, gates in owners.items()}

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Names (torch's, without the layer suffix) and shapes of the parameters; empty blocks are left out.

        Raises:
            ValueError: for a size that is no positive whole number.
        """
        for argument, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{argument} must be a positive whole number, got {size!r}")
        h = hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (len(self.rows("weight_ih")) * h, input_size)}
        shapes["weight_hh"] = (len(self.rows("weight_hh")) * h, h)
        shapes["bias_ih"] = (len(self.rows("bias_ih")) * h,)
        shapes["bias_hh"] = (len(self.rows("bias_hh")) * h,)
        columns = {"input": input_size, "hidden": hidden_size}
        for name, width in self.inputs:
            shapes[f"weight_{name}"] = (len(self.rows(f"weight_{name}")) * h, int(columns.get(str(width), width)))
        shapes["weight_diagonal"] = (len(self.diagonals), h) if self.diagonals else (0,)
        shapes |= {vector_name(name): (int(columns.get(str(width), width)),) for name, width in self.vectors}
        return {name: shape for name, shape in shapes.items() if shape[0] > 0}

    def parameter_count(self, input_size: int, hidden_size: int) -> int:
        """Weights and biases of one layer in one direction.

        Raises:
            ValueError: for a size that is no positive whole number.
        """
        total = 0
        for shape in self.parameter_shapes(input_size, hidden_size).values():
            size = 1
            for n in shape:
                size *= n
            total += size
        return total

    def pin(self, **values: float) -> Cell:
        """The cell with gates replaced by constants, e.g. ``gru.pin(r=1, z=0)``, which is the plain tanh RNN.

        What no longer matters goes: the pinned gates' parameters, and gates that only they used. The remaining gates
        keep their order, so the parameters of the pinned cell are the blocks of the cell's own that belong to the
        gates in the pinned cell's ``rows``.

        Raises:
            ValueError: for a name that is not a gate of the cell, or a value that is not a finite number.
        """
        replace: dict[Node, Node] = {}
        for gate, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"cell {self.name}: gate {gate} must be pinned to a finite number, got {value!r}")
            node = self.gate_value(gate)
            if reaches(self.outputs, self._uses_of[gate], without=node) or node in replace:
                raise ValueError(f"cell {self.name}: gate {gate} has no value of its own that could be pinned")
            replace[node] = const(value)
        if not replace:
            return self
        try:
            images = rewrite([*self.outputs, *self.affines], replace, self._pinned)
        except ArithmeticError as error:
            raise ValueError(f"cell {self.name}: these gates cannot be pinned to these values: {error}") from None
        outputs = tuple(_vector(o, self.states[0]) for o in images[: len(self.outputs)])
        alive = set(postorder(outputs))
        affines = tuple(a for a in dict.fromkeys(images[len(self.outputs) :]) if a.op == "affine" and a in alive)
        suffix = "_".join(f"{gate}{_identifier(value)}" for gate, value in values.items())
        vectors = tuple((n, w) for n, w in self.vectors if make("vector", (), n, w) in alive)
        return Cell(f"{self.name}_{suffix}", self.source, self.states, self.inputs, outputs, affines, vectors)

    def _pinned(self, node: Node, args: tuple[Node, ...]) -> Node:
        """``node`` on operands with pinned gates; an operand of the recurrent matrix stays one when it is constant."""
        if node.op != "affine":
            return simplified(node, args)
        operands: list[Node] = []
        empty: list[Node] = []
        for old, new in zip(node.args, args, strict=True):
            value = new.args[0] if new.op == "diagonal" else new
            kept = empty if value.op == "const" and float_of(value) == 0.0 else operands
            if new.op == "diagonal":
                new = make("diagonal", (_vector(value, self.states[0]),), None, "hidden")
            elif depends_on_recurrence(old) and not depends_on_recurrence(new):
                new = _vector(new, self.states[0], always=True)
            kept.append(new)
        # A product with nothing goes, but the last one stays, for the bias.
        operands = operands or empty[:1]
        return make("affine", tuple(operands), node.attr, "hidden")


def _identifier(value: float) -> str:
    return f"{value:g}".replace("-", "m").replace(".", "p").replace("+", "")


def _vector(node: Node, state: str, always: bool = False) -> Node:
    """A number, or anything of another width, as a vector of the hidden width."""
    if node.width == "hidden" and not always:
        return node
    return node + make("mul", (const(0.0), make("state", (), state, "hidden")), None, "hidden")


def is_matrix(name: str) -> bool:
    """Whether the parameter of this name is a matrix that something is multiplied with."""
    return name.startswith("weight_") and name != "weight_diagonal"


def vector_name(name: str) -> str:
    """The parameter that holds a vector of that name in the equations."""
    return f"vector_{name}"
