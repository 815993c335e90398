"""From a cell to phases: what is multiplied, what is computed on the tile in registers, what is stored.

A plan describes one step. Phase 0 has no products: it computes what needs none. Every later phase is ``products``
(sums of operand × packed weight, kept in registers) followed by an ``epilogue`` (expressions of those sums and of
loads from arrays, and the stores of their values). A product whose operand is itself computed from a product waits
for the next phase. Whoever lowers a plan may run phase 0 of the next step right behind the last phase of this one.

Leaves of the expressions: ``state`` (before the step), ``input``, ``parameter``, ``hoisted`` (bias and input products
of a use, computed for all steps beforehand; attr: index of the use), ``before`` and ``dy`` (the backward's incoming
gradients), and ``product``, whose arguments are operands (attr: index of the use; in the backward, the indices of
the uses whose transposed weights multiply the arguments).

A reference to an array is its name; for a carry that means its value before the step, and ``name+`` its value of this
step. Input-like operands of affine maps are numbered, ``operand.k`` (see ``input_operands``): expressions among them
are computed for all steps by whoever runs the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import UNARY_FUNCTIONS, Node, Width, const, make, postorder, rewrite
from gatewise.compiler.gradient import gradient


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
    """``accumulators[j] += operand · weights[j]`` over ``depth`` columns of the operand.

    An operand that is ``packed`` lies as weights do: [block of rows][column][rows of the block].
    """

    operand: str
    depth: Width
    accumulators: tuple[int, ...]
    weights: tuple[str, ...]
    packed: bool = False


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


@dataclass(frozen=True)
class Plan:
    arrays: tuple[Array, ...]
    phases: tuple[Phase, ...]
    kept: tuple[str, ...]
    """Arrays of intermediate values that the host provides; operands of products among them are in ``operands``."""
    operands: frozenset[str]

    def array(self, name: str) -> Array:
        return next(a for a in self.arrays if a.name == name)


@dataclass(frozen=True)
class Plans:
    """Everything a backend lowers for one cell."""

    project: Plan | None
    """Bias and input products of every use for any number of rows; ``hoisted`` arrays are its results."""
    forward: Plan
    """Inference: keeps only what later phases of the same step read."""
    training: Plan
    """The forward that also saves what the backward reads."""
    backward: Plan
    inputs: tuple[Plan, ...]
    """For every input-like operand: its gradient from those of the pre-activations."""
    saved: tuple[str, ...]
    """Arrays that ``training`` saves and ``backward`` reads, beside the states; also operands of weight gradients."""
    histories: tuple[str, ...]
    """States, beside the output, whose every value ``backward`` reads."""
    operand_of: tuple[str, ...]
    """For every use: the array whose rows multiply its ``weight_hh`` (``state.h``, ``keep…``), or an empty name."""
    diagonal_of: tuple[str, ...]
    """For every row of ``weight_diagonal``: the array that it multiplies (``state.c``, ``now.c``, ``in.m``, ``save…``)."""
    input_terms: tuple[str, ...]
    """Keyword inputs that are used element-wise and get their gradient from ``backward``."""
    used: frozenset[int]
    """Uses whose pre-activation gets a gradient; that of the others is zero."""


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


class _Scheduler:
    """Distributes expressions over phases; see ``schedule``."""

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


def _lowered(cell: Cell, hoist: bool) -> dict[Node, Node]:
    """Affine nodes as products plus diagonal terms; with ``hoist`` the input half is computed beforehand."""
    rows = {(i, d): k for k, (i, d) in enumerate(cell.diagonals)}
    images: dict[Node, Node] = {}

    def image(roots: Sequence[Node]) -> tuple[Node, ...]:
        return rewrite(roots, images)

    for i, use in enumerate(cell.uses):
        operands = [] if hoist else [o for _, o in use.inputs]
        operands += [use.state] if use.state is not None else []
        if operands:
            value = make("product", image(operands), i, "hidden")  # type: ignore[arg-type]
        else:
            value = make("hoisted", (), i, "hidden")  # type: ignore[arg-type]
        for d in use.diagonals:
            parameter = make("parameter", (), f"weight_diagonal.{rows[i, d]}", "hidden")
            value = value + parameter * image([d])[0]
        images[use.node] = value
    return images


def input_operands(cell: Cell) -> list[tuple[str, Node]]:
    """The distinct input-like operands of a cell's affine maps, each with the input that owns its weight."""
    return list(dict.fromkeys(pair for use in cell.uses for pair in use.inputs))


def _operand_names(cell: Cell) -> dict[Node, str]:
    return {node: f"operand.{k}" for k, (_, node) in enumerate(input_operands(cell))}


_LEAF_PREFIXES = {"input": "in.", "state": "state.", "parameter": "", "hoisted": "gx.", "before": "adjoint."}


def _leaf_sources(roots: Sequence[Node]) -> dict[Node, str]:
    return {n: _LEAF_PREFIXES[n.op] + str(n.attr) for n in postorder(roots) if n.op in _LEAF_PREFIXES}


def _forward(cell: Cell, hoist: bool, saved: Sequence[Node], names: Sequence[str]) -> _Scheduler:
    images = _lowered(cell, hoist)
    outputs = rewrite(cell.outputs, images)
    products = [n for n in postorder([*outputs, *saved]) if n.op == "product"]
    starts = {n: f"gx.{n.attr}" if hoist and cell.uses[_index(n)].inputs else f"bias.{n.attr}" for n in products}
    weights: dict[Node, list[str]] = {}
    for n in products:
        use = cell.uses[_index(n)]
        inputs = [] if hoist else [_input_weight(cell, _index(n), node) for _, node in use.inputs]
        weights[n] = [*inputs, *([f"u.{_index(n)}"] if use.state is not None else [])]
    sources = _leaf_sources(outputs) | ({} if hoist else _operand_names(cell))
    scheduler = _Scheduler(sources, starts, weights)
    roots = [(f"state.{s}", o) for s, o in zip(cell.states, outputs, strict=True)]
    scheduler.run([*roots, *zip(names, saved, strict=True)])
    return scheduler


def _input_weight(cell: Cell, use: int, operand: Node) -> str:
    return f"w.{_operand_names(cell)[operand].removeprefix('operand.')}.{use}"


def _index(node: Node) -> int:
    assert isinstance(node.attr, int)
    return node.attr


def _forward_arrays(cell: Cell, saved: Sequence[str]) -> list[Array]:
    arrays = [Array(f"state.{s}", "carry") for s in cell.states]
    arrays += [Array(name, "step", node.width) for node, name in _operand_names(cell).items()]
    arrays += [Array(f"in.{name}", "step", width) for name, width in cell.input_widths.items()]
    for i, use in enumerate(cell.uses):
        arrays.append(Array(f"gx.{i}", "step" if use.inputs else "vector"))
        arrays.append(Array(f"bias.{i}", "vector"))
    arrays += [Array(f"weight_diagonal.{k}", "vector") for k in range(len(cell.diagonals))]
    return arrays + [Array(name, "step") for name in saved]


def _project(cell: Cell) -> Plan | None:
    """Bias and input products of every use that has an input."""
    nodes = {
        i: make("product", tuple(o for _, o in use.inputs), i, "hidden")  # type: ignore[arg-type]
        for i, use in enumerate(cell.uses)
        if use.inputs
    }
    if not nodes:
        return None
    starts = {n: f"bias.{i}" for i, n in nodes.items()}
    weights = {n: [_input_weight(cell, i, o) for _, o in cell.uses[i].inputs] for i, n in nodes.items()}
    scheduler = _Scheduler(_operand_names(cell), starts, weights)
    scheduler.run([(f"gx.{i}", n) for i, n in nodes.items()])
    return scheduler.plan(_forward_arrays(cell, []))


def _needed(roots: Sequence[Node], forward: set[Node], available: set[Node]) -> list[Node]:
    """The forward values that must be saved so that the roots can be computed."""
    saved: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node in seen or node in available:
            continue
        seen.add(node)
        if node in forward and (node.op in ("product", "hoisted") or node.op in UNARY_FUNCTIONS):
            saved[node] = None
        elif not (node in forward and node.op in ("state", "input", "parameter")):
            stack.extend(reversed(node.args))
    return list(saved)


@lru_cache(maxsize=256)
def make_plans(cell: Cell, hoist: bool = True) -> Plans:
    """All plans of a cell. With ``hoist`` the input products of all steps are one phase of their own."""
    images = _lowered(cell, hoist)
    derivative = gradient(cell)
    terms = dict(derivative.inputs)
    # An input that only decides (where, <) is read like the others; its gradient is zero.
    read = [str(n.attr) for n in postorder(rewrite(cell.outputs, _lowered(cell, True))) if n.op == "input"]
    d_terms = tuple((name, terms.get(name, const(0.0))) for name in read)
    roots = [*derivative.states, *derivative.affines, *(n for _, n in d_terms)]
    adjoints = {n: n for n in postorder(roots) if n.op == "adjoint"}
    for n in adjoints:
        before = make("before", (), n.attr, "hidden")
        first = n.attr == cell.states[0]
        adjoints[n] = before + make("dy", (), None, "hidden") if first else before
    for n in postorder(roots):
        if n.op == "transposed":
            images[n] = make("product", rewrite(n.args, images | adjoints), n.attr, "hidden")
    mapping = images | adjoints
    lowered = rewrite(roots, mapping)
    d_states = lowered[: len(cell.states)]
    d_affines = lowered[len(cell.states) : len(cell.states) + len(cell.uses)]
    d_inputs = lowered[len(cell.states) + len(cell.uses) :]
    forward_images = {u.node: images[u.node] for u in cell.uses}
    return _assemble(cell, hoist, forward_images, d_states, d_affines, d_inputs, d_terms)


def _assemble(
    cell: Cell,
    hoist: bool,
    images: dict[Node, Node],
    d_states: tuple[Node, ...],
    d_affines: tuple[Node, ...],
    d_inputs: tuple[Node, ...],
    input_names: tuple[tuple[str, Node], ...],
) -> Plans:
    outputs = rewrite(cell.outputs, images)
    forward = set(postorder(outputs))
    roots = [*d_states, *d_affines, *d_inputs]
    saved = _needed(roots, forward, set(outputs))
    operand_nodes = [rewrite([u.state], images)[0] if u.state is not None else None for u in cell.uses]
    diagonal_nodes = [rewrite([d], images)[0] for _, d in cell.diagonals]
    for node in (*operand_nodes, *diagonal_nodes):
        known_elsewhere = node is None or node.op in ("state", "input") or node in outputs
        if node is not None and not known_elsewhere and node not in saved:
            saved.append(node)
    names = [f"save{j}" for j in range(len(saved))]
    known = dict(zip(saved, names, strict=True))
    now = {o: f"now.{s}" for s, o in zip(cell.states, outputs, strict=True) if o.op != "state"}
    trained = _forward(cell, hoist, saved, names)
    plain = _forward(cell, hoist, [], [])
    backward = _backward(cell, {**now, **known}, roots, d_states, d_affines, d_inputs, input_names)
    read = {a.name for a in backward.arrays}
    operand_of = tuple(_operand(n, known, now) for n in operand_nodes)
    diagonal_of = tuple(_operand(n, known, now) for n in diagonal_nodes)
    wanted = read | set(operand_of) | set(diagonal_of)
    histories = tuple(s for s in cell.states[1:] if f"state.{s}" in wanted or f"now.{s}" in wanted)
    used = frozenset(i for i, d in enumerate(d_affines) if d.op != "const")
    return Plans(
        _project(cell),
        plain.plan(_forward_arrays(cell, [])),
        trained.plan(_forward_arrays(cell, names)),
        backward,
        tuple(_input_gradient(cell, node, used) for _, node in input_operands(cell)),
        tuple(names),
        histories,
        operand_of,
        diagonal_of,
        tuple(name for name, _ in input_names),
        used,
    )


def _operand(node: Node | None, known: Mapping[Node, str], now: Mapping[Node, str]) -> str:
    if node is None:
        return ""
    if node.op in ("state", "input"):
        return _LEAF_PREFIXES[node.op] + str(node.attr)
    return known.get(node) or now[node]


def _backward(
    cell: Cell,
    known: Mapping[Node, str],
    roots: Sequence[Node],
    d_states: Sequence[Node],
    d_affines: Sequence[Node],
    d_inputs: Sequence[Node],
    input_names: Sequence[tuple[str, Node]],
) -> Plan:
    sources = _leaf_sources(roots) | dict(known)
    sources |= {n: "dy" for n in postorder(roots) if n.op == "dy"}
    products = [n for n in postorder(roots) if isinstance(n.attr, tuple) and n.op == "product"]
    weights = {n: [f"ut.{i}" for i in n.attr] for n in products if isinstance(n.attr, tuple)}
    scheduler = _Scheduler(sources, {}, weights)
    results = [(f"d.{i}", d) for i, d in enumerate(d_affines) if d.op != "const"]
    results += [(f"adjoint.{s}", d) for s, d in zip(cell.states, d_states, strict=True)]
    results += [(f"term.{name}", d) for (name, _), d in zip(input_names, d_inputs, strict=True)]
    scheduler.run(results)
    arrays = [Array(f"adjoint.{s}", "carry") for s in cell.states]
    arrays += [Array(f"state.{s}", "carry") for s in cell.states]
    arrays += [Array(f"now.{s}", "step") for s in cell.states]
    arrays += [Array(f"in.{name}", "step", width) for name, width in cell.input_widths.items()]
    arrays += [Array(f"term.{name}", "step") for name, _ in input_names]
    arrays += [Array(f"d.{i}", "step") for i in range(len(cell.uses))]
    arrays += [Array(name, "step") for name in known.values() if name.startswith("save")]
    arrays += [Array(f"weight_diagonal.{k}", "vector") for k in range(len(cell.diagonals))]
    return scheduler.plan([*arrays, Array("dy", "step")])


def _input_gradient(cell: Cell, operand: Node, used: frozenset[int]) -> Plan:
    """dx = Σ δ_i · W_i over the uses of an input-like operand, for any number of rows."""
    k = _operand_names(cell)[operand].removeprefix("operand.")
    uses = [i for i, use in enumerate(cell.uses) if i in used and any(n is operand for _, n in use.inputs)]
    operands = tuple(make("before", (), f"d.{i}", "hidden") for i in uses)
    node = make("product", operands, -1, "hidden")  # type: ignore[arg-type]
    scheduler = _Scheduler({o: str(o.attr) for o in operands}, {}, {node: [f"wt.{k}.{i}" for i in uses]})
    scheduler.run([("dx", node)])
    return scheduler.plan([*(Array(f"d.{i}", "step") for i in uses), Array("dx", "step")])


@lru_cache(maxsize=1)
def reduction() -> Plan:
    """total += leftᵀ · right, a step for every run of their rows: how gradients of weights sum over time and batch.

    Each step's sum starts from zero, so that its error grows with the length of a run and not with that of the whole.
    """
    left, total = (make("before", (), name, "hidden") for name in ("left", "total"))
    product = make("product", (left,), 0, "hidden")  # type: ignore[arg-type]
    phase = Phase(
        ("",),
        (Product("left", "hidden", (0,), ("right",), packed=True),),
        {total: "total"},
        {product: 0},
        (("total", total + product),),
    )
    empty = Phase((), (), {}, {}, ())
    return Plan((Array("left", "step"), Array("total", "step")), (empty, phase), (), frozenset())
