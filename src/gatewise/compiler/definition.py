"""What equations say: states, inputs and gates over one expression graph, and what follows from that alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from gatewise.compiler.dominance import Dominance
from gatewise.compiler.expression import UNARY_FUNCTIONS, Node, Width, depends


def depends_on_recurrence(node: Node) -> bool:
    """Whether a value depends on a state or on a gate: such an operand is state-like."""
    return depends(node, ("state", "affine"))


def weight_name(owner: str) -> str:
    """The parameter that multiplies an input."""
    return "weight_ih" if owner == "x" else f"weight_{owner}"


@dataclass(frozen=True)
class Use:
    """One application of a gate: ``affine = bias + Σ W·inputs + U·state + Σ d ⊙ diagonals``."""

    gate: str
    node: Node
    inputs: tuple[tuple[str, Node], ...]
    """(name of the input that owns the weight, operand) in the order of the sum."""
    state: Node | None
    diagonals: tuple[Node, ...]

    @property
    def has_input_half(self) -> bool:
        return bool(self.inputs)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that have a block of rows for this use; element-wise weights have one row for each operand."""
        inputs = tuple(weight_name(owner) for owner, _ in self.inputs)
        states = () if self.state is None else ("weight_hh",)
        return (*inputs, *states, "bias_ih" if self.has_input_half else "bias_hh")


@dataclass(frozen=True, eq=False)
class Definition:
    """The equations of a cell as a graph; see ``cell.Cell``, which gives them an identity and parameters."""

    name: str
    source: str
    """The docstring of the definition: the paper and its equations."""
    states: tuple[str, ...]
    inputs: tuple[tuple[str, Width], ...]
    """Keyword inputs and their widths, beside x."""
    outputs: tuple[Node, ...]
    """The new values of the states, in order; the first is the output."""
    affines: tuple[Node, ...]
    """The affine nodes in the order in which the equations use them."""
    vectors: tuple[tuple[str, Width], ...] = ()
    """Parameters that are one vector each, the same at every step, and their widths."""

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        return tuple(_use(node) for node in self.affines)

    @cached_property
    def gates(self) -> tuple[str, ...]:
        """Gate names in the order of their first appearance: the row order of the weights."""
        return tuple(dict.fromkeys(use.gate for use in self.uses))

    @cached_property
    def input_widths(self) -> dict[str, Width]:
        """The width of x and of every keyword input."""
        return {"x": "input", **dict(self.inputs)}

    @cached_property
    def leaf_widths(self) -> dict[str, Width]:
        """The width of x, of every keyword input and of every vector."""
        return {**self.input_widths, **dict(self.vectors)}

    @cached_property
    def weighted_inputs(self) -> tuple[str, ...]:
        """x and the keyword inputs that some gate multiplies by a matrix, in order of declaration."""
        owners = {name for use in self.uses for name, _ in use.inputs}
        return tuple(name for name in self.input_widths if name in owners)

    @cached_property
    def diagonals(self) -> tuple[tuple[int, Node], ...]:
        """(index of the use, operand) of every element-wise weight: the row order of ``weight_diagonal``."""
        return tuple((i, d) for i, use in enumerate(self.uses) for d in use.diagonals)

    def gate_value(self, gate: str) -> Node:
        """The nearest unary function that all uses of the gate pass through, else its pre-activation: the affine map,
        or where its two halves meet."""
        nodes = self._uses_of.get(gate)
        if not nodes:
            raise ValueError(f"cell {self.name} has no gate {gate!r}; its gates are {', '.join(self.gates) or 'none'}")
        common = self._dominance.common(nodes)
        meeting = next(common, nodes[0])
        return next((node for node in chain([meeting], common) if node.op in UNARY_FUNCTIONS), meeting)

    @cached_property
    def _uses_of(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for use in self.uses:
            found.setdefault(use.gate, []).append(use.node)
        return found

    @cached_property
    def _dominance(self) -> Dominance:
        return Dominance(self.outputs)


def _use(node: Node) -> Use:
    inputs: list[tuple[str, Node]] = []
    state: Node | None = None
    diagonals: list[Node] = []
    for operand in node.args:
        if operand.op == "diagonal":
            diagonals.append(operand.args[0])
        elif depends_on_recurrence(operand):
            state = operand
        else:
            inputs.append((operand.owner, operand))
    return Use(str(node.attr), node, tuple(inputs), state, tuple(diagonals))
