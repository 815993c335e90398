"""Phases: what is multiplied, what is computed on the tile in registers, what is stored.

Phase 0 of a plan has no products: it computes what needs none. Every later phase is ``products`` (sums of operand ×
packed weight, kept in registers) followed by an epilogue (expressions of those sums and of loads from arrays, and the
stores of their values). A product whose operand is itself computed from a product waits for the next phase. Whoever
lowers a plan may run phase 0 of the next step right behind the last phase of this one.

A reference to an array is its name; for a carry that means its value before the step, and ``name+`` its value of this
step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gatewise.compiler.expression import UNARY_FUNCTIONS, Node, Width


@dataclass(frozen=True)
class Array:
    """Memory that a plan reads or writes.

    kind ``step``: one (rows, width) slice per step. ``carry``: also read before it is written, at the first step from
    another place (the initial state). ``vector``: (width,), the same in every row and step.
    """

    name: str
    kind: str
    width: Width = "hidden"


@dataclass(frozen=True)
class Product:
    """``accumulators[j] += operand · weights[j]`` over ``depth`` columns of the operand."""

    operand: str
    depth: Width
    accumulators: tuple[int, ...]
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Phase:
    starts: tuple[str, ...]
    """The array that each accumulator starts from; an empty name is zero."""
    products: tuple[Product, ...]
    loads: Mapping[Node, str]
    """Leaves and earlier values, and the arrays they are read from."""
    sums: Mapping[Node, int]
    """Product nodes and their accumulators."""
    stores: tuple[tuple[str, Node], ...]

    def span(self, accumulator: int) -> tuple[int, int]:
        """The first and the last product that add to an accumulator; of one that nothing is added to, the first."""
        found = [j for j, product in enumerate(self.products) if accumulator in product.accumulators] or [0]
        return found[0], found[-1]

    @property
    def together(self) -> int:
        """Accumulators that are needed at once, at most."""
        spans = [self.span(a) for a in range(len(self.starts))]
        return max((sum(low <= j <= high for low, high in spans) for j in range(len(self.products))), default=0)


@dataclass(frozen=True)
class Plan:
    arrays: tuple[Array, ...]
    phases: tuple[Phase, ...]
    kept: tuple[str, ...]
    """Arrays of intermediate values that the host provides; operands of products among them are in ``operands``."""
    operands: frozenset[str]

    def array(self, name: str) -> Array:
        return next(a for a in self.arrays if a.name == name)


@dataclass
class _Draft:
    starts: list[str] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    loads: dict[Node, str] = field(default_factory=dict)
    sums: dict[Node, int] = field(default_factory=dict)
    stores: list[tuple[str, Node]] = field(default_factory=list)
    pending: dict[Node, None] = field(default_factory=dict)

    def phase(self) -> Phase:
        return Phase(tuple(self.starts), tuple(self.products), self.loads, self.sums, tuple(self.stores))


class Scheduler:
    """Distributes expressions over phases.

    ``sources`` says which leaves lie in arrays, ``starts`` from which array the sum of a product begins, ``weights``
    which weight multiplies each operand of a product.
    """

    def __init__(self, sources: Mapping[Node, str], starts: Mapping[Node, str], weights: Mapping[Node, Sequence[str]]):
        self.sources, self.starts, self.weights = dict(sources), starts, weights
        self.levels: dict[Node, int] = {}
        self.arrays: dict[Node, str] = {}
        self.drafts: list[_Draft] = []
        self.kept: list[str] = []
        self.operands: dict[Node, str] = {}

    def level(self, node: Node) -> int:
        """The phase at whose end a value is known."""
        for n in self.walk([node]):
            if n in self.levels:
                continue
            if n in self.sources or not n.args:
                self.levels[n] = 0
            else:
                self.levels[n] = max(self.levels[a] for a in n.args) + (n.op == "product")
        return self.levels[node]

    def walk(self, roots: Sequence[Node]) -> list[Node]:
        """As postorder, but not into what is read from arrays."""
        seen: dict[Node, None] = {}

        def visit(node: Node) -> None:
            if node in seen:
                return
            if node not in self.sources:
                for arg in node.args:
                    visit(arg)
            seen[node] = None

        for root in roots:
            visit(root)
        return list(seen)

    def keep(self, node: Node, name: str = "") -> str:
        """Store a value when it is computed, so that later phases can load it."""
        if node not in self.arrays:
            self.arrays[node] = name or f"keep{len(self.kept)}"
            if not name:
                self.kept.append(self.arrays[node])
            self.draft(self.level(node)).stores.append((self.arrays[node], node))
        return self.arrays[node] + "+"

    def draft(self, level: int) -> _Draft:
        while len(self.drafts) <= level:
            self.drafts.append(_Draft())
        return self.drafts[level]

    def run(self, roots: Sequence[tuple[str, Node]]) -> None:
        for name, node in roots:
            if node in self.arrays:  # two results with one value
                self.draft(self.level(node)).stores.append((name, node))
            else:
                self.keep(node, name)
        for product in self.walk([n for _, n in roots]):
            if product.op == "product" and product not in self.sources:
                for operand in product.args:
                    if operand not in self.sources:
                        self.operands[operand] = self.keep(operand)
        for level in reversed(range(len(self.drafts))):
            position = 0
            stores = self.draft(level).stores
            while position < len(stores):
                self.require(stores[position][1], level)
                position += 1
            # In the order of the uses: gates of one operand then share its product.
            for product in sorted(self.draft(level).pending, key=lambda n: n.attr):  # type: ignore[arg-type,return-value]
                self.multiply(product, self.draft(level))

    def require(self, root: Node, level: int) -> None:
        """Note where the phase gets each value that the root is computed from."""
        draft = self.draft(level)
        stack = [root]
        while stack:
            node = stack.pop()
            if node in draft.loads or node in draft.pending or node.op == "const":
                continue
            if node in self.sources:
                draft.loads[node] = self.sources[node]
            elif self.level(node) == level:
                if node.op == "product":
                    draft.pending[node] = None
                else:
                    stack.extend(node.args)
            elif node in self.arrays or node.op == "product" or node.op in UNARY_FUNCTIONS:
                draft.loads[node] = self.keep(node)
            else:
                stack.extend(node.args)

    def multiply(self, node: Node, draft: _Draft) -> None:
        k = draft.sums[node] = len(draft.starts)
        draft.starts.append(self.starts.get(node, ""))
        for operand, weight in zip(node.args, self.weights[node], strict=True):
            name = self.sources.get(operand) or self.operands[operand]
            depth = operand.width
            for j, earlier in enumerate(draft.products):
                # Uses that share an operand share its loads; the order of each sum stays that of its operands.
                if earlier.operand == name and k not in earlier.accumulators and self._last(draft, k) < j:
                    draft.products[j] = Product(name, depth, (*earlier.accumulators, k), (*earlier.weights, weight))
                    break
            else:
                draft.products.append(Product(name, depth, (k,), (weight,)))

    @staticmethod
    def _last(draft: _Draft, k: int) -> int:
        return max((j for j, p in enumerate(draft.products) if k in p.accumulators), default=-1)

    def plan(self, arrays: Sequence[Array]) -> Plan:
        phases = tuple(d.phase() for d in self.drafts) or (_Draft().phase(),)
        declared = {a.name: a for a in arrays}
        used: dict[str, None] = {}
        for phase in phases:
            for name in (*phase.starts, *(p.operand for p in phase.products), *phase.loads.values()):
                used[name.rstrip("+")] = None
            for name, _ in phase.stores:
                used[name] = None
        declared |= {name: Array(name, "step") for name in self.kept}
        present = tuple(declared[name] for name in used if name)
        return Plan(present, phases, tuple(self.kept), frozenset(n.rstrip("+") for n in self.operands.values()))
