"""From a plan to a design: what the skeleton has to know of a cell, worked out before a line of source is written.

The skeleton runs a step in phases as the plan does, but keeps what a thread knows in its registers. Three things follow
that a plan does not say:

- **Points.** A point is where expressions are computed: point 0 before a step's first product (phase 0 of the plan),
  point p behind the products of phase p. What an earlier point has computed is kept in the thread's registers.
- **Sums are read as late as they may be**: by the first point that needs them for what other blocks wait for, else by
  the last. A product whose sum is read later than it could be runs while values travel: the update gate of the
  reset-before GRU costs no time before r ⊙ h is on its way.
- **Lead.** Where point 0 needs inputs, the inputs of a step are loaded one step ahead of it, since point 0 of the next
  step runs right behind the last of this one.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gatewise.compiler.expression import COMPARISONS, Node, make, postorder
from gatewise.compiler.schedule import Plan, Ref


class UnsuitableError(RuntimeError):
    """A plan that the skeleton cannot run; the text says why."""


@dataclass(frozen=True)
class Vector:
    """What blocks tell each other: the operand of products."""

    name: str
    """The array of the plan that holds it."""
    node: Node
    event: int
    """The phase, from 0 on, that it must arrive for."""
    carried: bool
    """Whether it is the value of a carry between steps."""


@dataclass(frozen=True)
class Tile:
    vector: int
    weight: str
    phase: int
    read: int
    """The phase whose epilogue reads the sum."""
    sum: int


@dataclass(frozen=True)
class Output:
    """An array that each thread writes for its own elements."""

    name: str
    node: Node
    point: int


def _start(name: str) -> Node:
    """The value that a sum starts from, as a leaf."""
    return make("start", (), name, "hidden")


_DELTAS = {"d": "d", "term": "term"}
"""What a backward writes; each kind lies in its own way. All that a forward writes is (T, B, units)."""


def _strides(name: str) -> str:
    """Inputs of one kind lie alike: what a forward has kept is (T, B, units), and anything else is as it came."""
    return "kept" if name.startswith(("save", "now.", "state.")) else name


def _alike(kinds: Sequence[Hashable]) -> tuple[int, ...]:
    return tuple(kinds.index(kind) for kind in kinds)


class Design:
    """A plan whose input products were taken beforehand.

    Args:
        histories: carries that are written at every step. together: inputs that lie side by side in one array, by name;
            any value that they share.

    Raises:
        UnsuitableError: for a product of what is neither a carry nor computed in the step.
    """

    def __init__(self, plan: Plan, histories: Collection[str], together: Mapping[str, Hashable] | None = None) -> None:
        self.plan = plan
        self.phases = max(1, len(plan.phases) - 1)
        kinds = {array.name: array.kind for array in plan.arrays}
        stored = [(p, name, node) for p, phase in enumerate(plan.phases) for name, node in phase.stores]
        self.carries = tuple(name for _, name, _ in stored if kinds[name] == "carry")
        self.new = {name: node for _, name, node in stored if kinds[name] == "carry"}
        """The expressions of the carries' next values."""
        if not self.carries:
            raise UnsuitableError("nothing is carried from step to step")
        self._find_leaves(kinds)
        self.vectors = self._find_vectors(stored)
        self._place_sums()
        exchanged = {v.name for v in self.vectors}
        written = [(n, e) for _, n, e in stored if kinds[n] == "step" and n not in exchanged and n not in plan.kept]
        written += [(n, self.new[n]) for n in self.carries if n in histories and n not in exchanged]
        self.outputs = tuple(sorted((self._output(*pair) for pair in written), key=lambda o: o.point))
        self.input_like = _alike([(together or {}).get(name, _strides(name)) for name in self.inputs])
        """For every input the first with the same strides."""
        self.output_like = _alike([(o.point, _DELTAS.get(o.name.partition(".")[0])) for o in self.outputs])
        """For every output of a point the first of it with the same strides."""
        self.tiles = self._find_tiles()

    def _find_leaves(self, kinds: dict[str, str]) -> None:
        """Where values come from that nobody computes here."""
        self.leaves: dict[Node, Ref] = {}
        self.starts: dict[Node, Node | None] = {}
        """Of every sum; the sums in the order of the plan."""
        for phase in self.plan.phases:
            self.leaves |= {n: r for n, r in phase.loads.items() if not r.after}
            for node, k in phase.sums.items():
                start = phase.starts[k]
                self.starts[node] = None if start is None else _start(start.name)
                if start is not None:
                    self.leaves[_start(start.name)] = start
        names = dict.fromkeys(ref.name for ref in self.leaves.values())
        self.constants = tuple(n for n in names if kinds[n] == "vector")
        self.inputs = tuple(n for n in names if n not in self.constants and n not in self.carries)
        self.wide = tuple(self.plan.array(n).width != 1 for n in self.inputs)

    def _find_vectors(self, stored: Sequence[tuple[int, str, Node]]) -> tuple[Vector, ...]:
        found: dict[Ref, Vector] = {}
        for phase in self.plan.phases:
            for ref in (product.operand for product in phase.products):
                if not ref.after and ref.name in self.carries:
                    leaf = next((n for n, r in self.leaves.items() if r == ref), make("before", (), ref.name, "hidden"))
                    found[ref] = Vector(ref.name, leaf, 0, True)
                elif ref.after:
                    event, node = next((p, node) for p, name, node in stored if name == ref.name)
                    found[ref] = Vector(ref.name, node, event, False)
                else:
                    raise UnsuitableError(
                        f"a product multiplies {ref.name}, which is neither a state nor computed here"
                    )
        return tuple(sorted(found.values(), key=lambda v: (v.event, not v.carried)))

    def _reached(self, root: Node) -> list[Node]:
        """All that a value is computed from, sums and leaves included."""
        return postorder([root], self._ends)

    @cached_property
    def _ends(self) -> frozenset[Node]:
        return frozenset([*self.leaves, *self.starts])

    def _place_sums(self) -> None:
        """The point that reads each sum."""
        self.read = dict.fromkeys(self.starts, self.phases)
        for vector in self.vectors:
            for node in self._reached(vector.node) if not vector.carried else ():
                if node in self.read:
                    self.read[node] = min(self.read[node], vector.event)

    @cached_property
    def lead(self) -> int:
        """Steps by which loads go ahead of the step in progress."""
        early = [v.node for v in self.vectors if v.event == 0 and not v.carried]
        return int(any(self._is_input(n) for root in early for n in self._reached(root)))

    def _is_input(self, node: Node) -> bool:
        return node in self.leaves and self.leaves[node].name in self.inputs

    def _output(self, name: str, node: Node) -> Output:
        """As early as all that it is made of is known, but not before inputs are."""
        read = [self.read[n] for n in self._reached(node) if n in self.read]
        first = 0 if self.lead and name not in self.carries else self.phases
        return Output(name, node, max(read, default=first) if name not in self.carries else self.phases)

    def _find_tiles(self) -> tuple[Tile, ...]:
        tiles, position = [], {(v.name, v.carried): k for k, v in enumerate(self.vectors)}
        for phase in self.plan.phases:
            sums = {k: node for node, k in phase.sums.items()}
            for product in phase.products:
                vector = position[product.operand.name, not product.operand.after]
                for k, weight in zip(product.accumulators, product.weights, strict=True):
                    read = self.read[sums[k]]
                    tiles.append(
                        Tile(vector, weight, self.vectors[vector].event, read - 1, self.sums(read).index(sums[k]))
                    )
        # Those of one vector that run together stand together, and share what they read of it.
        return tuple(sorted(tiles, key=lambda t: (t.phase, t.read > t.phase, t.vector)))

    def sums(self, point: int) -> list[Node]:
        """The sums that a point reads."""
        return [node for node, read in self.read.items() if read == point]

    def roots(self, point: int) -> list[Node]:
        """All that a point computes."""
        if point == self.phases:
            wanted = list(self.new.values())
        else:
            wanted = [v.node for v in self.vectors if v.event == point and not v.carried]
        return [*wanted, *(o.node for o in self.outputs if o.point == point)]

    @cached_property
    def kept(self) -> tuple[tuple[Node, ...], ...]:
        """For every point the values that later ones need of it. Where loads go ahead, point 0 keeps those too."""
        computed: dict[Node, int] = {}
        kept: list[dict[Node, None]] = [{} for _ in range(self.phases + 1)]
        for point in range(self.phases + 1):
            ahead = {n for n in self.leaves if self.lead and point > 0 and self._is_input(n)}
            ends = {**dict.fromkeys(self._ends), **computed}
            for node in postorder([*self.roots(point), *self._started(point)], ends):
                if node in ahead:
                    kept[0][node] = None
                elif node in computed:
                    kept[computed[node]][node] = None
                elif node.args and node not in self.leaves and node.op not in COMPARISONS:
                    computed[node] = point
        return tuple(tuple(nodes) for nodes in kept)

    def _started(self, point: int) -> list[Node]:
        return [start for node in self.sums(point) if (start := self.starts[node]) is not None]
