"""Plans: memory, products and expressions that make up a step, and the order in which they are computed.

Whoever writes a backend reads this first, then ``plan``, which says what the arrays and weights of a cell are called,
then ``gatewise.backends.kernels.interpreter``, which runs plans as they are told here.

**A step** is a list of phases. **Phase 0** has no products: it computes what needs none. Every later **phase** is some
sums, then an epilogue.

- A **sum** (accumulator) is a matrix of rows (the batch) × units that stays in registers. It begins with its **start**,
  the value of an array, or with zero.
- A **product** is one operand times a weight for each of some sums: ``sums[j] += operand · weight``, over all columns
  of the operand. A sum's products are added in the order in which they stand, each over its columns ascending, and no
  sum is split: for that, results are the same bits on any tiles, with any threads, in any batch.
- A **load** is the value of an array that expressions read.
- A **store** is an array and an expression of sums, loads and numbers, element by element; what is one number wide
  meets every column. A phase computes all its stores before it writes any.

A product whose operand is itself computed from a product waits for the next phase.

**An array** has a slice for each step; one of kind ``vector`` has one slice for all. A reference, ``Ref``, means what
the array holds before the step, or what an earlier phase of the step has stored. Only a ``carry`` has a value from
another step before the step: that of the step before, and at the first step one that is given. What any other array
holds before the step, whoever runs the plan has put there.

**The order**: steps one after another, and in a step the phases one after another. Rows do not depend on each other,
nor do the units of one phase; but a product reads all columns of its operand, so that those who share out the units
wait for each other between phases. Phase 0 of a step reads nothing but what is given and what the step before has
stored, so it may run right behind the last phase of the step before, unit by unit, on values that are still in
registers. It then writes while other units of that phase still multiply. Memory whose slices serve in turn therefore
needs

- of ``Plan.kept`` (what a step keeps for its later phases) one slice, or two where it is in ``Plan.operands``;
- of a carry two, or more where phase 0 stores it and a product reads its value before the step: three, but four where
  slots are found by masking the number of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gatewise.compiler.expression import UNARY_FUNCTIONS, Node, Width, postorder


@dataclass(frozen=True)
class Array:
    """Memory that a plan reads or writes.

    kind ``step``: one (rows, width) slice per step. ``carry``: also read before it is written, at the first step from
    another place (the initial state). ``vector``: (width,), the same in every row and step.
    """

    name: str
    kind: str
    width: Width = "hidden"


class Ref(NamedTuple):
    """A value of an array at a step: what it holds before the step, or after the step has stored to it."""

    name: str
    after: bool = False


@dataclass(frozen=True)
class Product:
    """``accumulators[j] += operand · weights[j]`` over ``depth`` columns of the operand."""

    operand: Ref
    depth: Width
    accumulators: tuple[int, ...]
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Phase:
    starts: tuple[Ref | None, ...]
    """What each accumulator starts from; None is zero."""
    products: tuple[Product, ...]
    loads: Mapping[Node, Ref]
    """Leaves and earlier values, and where they are read from."""
    sums: Mapping[Node, int]
    """Product nodes and their accumulators."""
    stores: tuple[tuple[str, Node], ...]
    """Names of arrays, and the expressions whose values they hold after the step."""

    def reads(self) -> list[Ref]:
        """All that the phase reads, in its order: starts, operands, loads."""
        starts = [start for start in self.starts if start is not None]
        return [*starts, *(product.operand for product in self.products), *self.loads.values()]

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
    starts: list[Ref | None] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    loads: dict[Node, Ref] = field(default_factory=dict)
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
        self.operands: dict[Node, Ref] = {}

    def level(self, node: Node) -> int:
        """The phase at whose end a value is known."""
        if node not in self.levels:
            for n in self.walk([node]):
                if n in self.sources or not n.args:
                    self.levels[n] = 0
                else:
                    self.levels[n] = max(self.levels[a] for a in n.args) + (n.op == "product")
        return self.levels[node]

    def walk(self, roots: Sequence[Node]) -> list[Node]:
        """As postorder, but not into what is read from arrays."""
        return postorder(roots, self.sources)

    def keep(self, node: Node, name: str = "") -> Ref:
        """Store a value when it is computed, so that later phases can load it."""
        if node not in self.arrays:
            self.arrays[node] = name or f"keep{len(self.kept)}"
            if not name:
                self.kept.append(self.arrays[node])
            self.draft(self.level(node)).stores.append((self.arrays[node], node))
        return Ref(self.arrays[node], after=True)

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
                draft.loads[node] = Ref(self.sources[node])
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
        draft.starts.append(Ref(self.starts[node]) if node in self.starts else None)
        for operand, weight in zip(node.args, self.weights[node], strict=True):
            read = Ref(self.sources[operand]) if operand in self.sources else self.operands[operand]
            depth = operand.width
            for j, earlier in enumerate(draft.products):
                # Uses that share an operand share its loads; the order of each sum stays that of its operands.
                if earlier.operand == read and k not in earlier.accumulators and self._last(draft, k) < j:
                    draft.products[j] = Product(read, depth, (*earlier.accumulators, k), (*earlier.weights, weight))
                    break
            else:
                draft.products.append(Product(read, depth, (k,), (weight,)))

    @staticmethod
    def _last(draft: _Draft, k: int) -> int:
        return max((j for j, p in enumerate(draft.products) if k in p.accumulators), default=-1)

    def plan(self, arrays: Sequence[Array]) -> Plan:
        phases = tuple(d.phase() for d in self.drafts) or (_Draft().phase(),)
        declared = {a.name: a for a in arrays}
        used: dict[str, None] = {}
        for phase in phases:
            used |= dict.fromkeys(ref.name for ref in phase.reads())
            used |= dict.fromkeys(name for name, _ in phase.stores)
        declared |= {name: Array(name, "step") for name in self.kept}
        operands = frozenset(ref.name for ref in self.operands.values())
        return Plan(tuple(declared[name] for name in used), phases, tuple(self.kept), operands)
