"""From a cell to plans: everything that a backend lowers, for the forward and for the backward.

``schedule`` says what a plan is. A cell's plans call their arrays and weights as follows; i is the index of a use in
``Cell.uses``, k that of an operand in ``input_operands`` or of a row of ``weight_diagonal``, s a state, m a keyword
input or a vector, g a gate. Arrays are of hidden width where nothing else is said.

Forward, given:

- ``operand.k`` (step, of its own width): an input-like operand of affine maps, computed for all steps by whoever runs
  the plan, as it may be an expression of inputs.
- ``in.m`` (step, of its own width): a keyword input, or a vector, the same in every row and step, that equations use
  element by element.
- ``bias.i`` (vector): the bias of a use; the sum of both where torch's redundant one is kept.
- ``gx.i`` (step): bias and input products of a use, which the plan ``project`` has computed for all steps; where a use
  has no input, its bias (vector).
- ``weight_diagonal.k`` (vector): a row of that parameter.
- ``state.s`` (carry): before the first step the initial state.

Forward, written:

- ``state.s``: the new value of a state. That of the first state is the output.
- ``keep…`` (step): what later phases of the same step read. ``save…`` (step): what the backward reads.
- ``gate.g`` (step): the value of a gate, in the plan ``traced``.

Backward, whose steps run from the last of the forward to its first. Given:

- ``save…``, ``in.m``, ``weight_diagonal.k``: as the forward had or left them at this step.
- ``state.s`` (carry, never stored) and ``now.s`` (step): a state before and after this step of the forward.
- ``dy`` (step): the gradient that arrives at the output of this step.
- ``adjoint.s`` (carry): before the first step the gradient that arrives at a final state.

Backward, written:

- ``adjoint.s``: the gradient of a state before this step of the forward; the last is that of the initial state.
- ``d.i`` (step): the gradient of a use's pre-activation; there is none for uses that are not in ``Plans.used``, where
  it is zero.
- ``term.m`` (step): the gradient of ``in.m``, unit by unit; of an input that is one number wide, their sum is the
  gradient. There is none for an input that only decides (``where``), whose gradient is zero.
- ``dx`` (step, as wide as the operand, whose columns are the plan's units): in the plans ``inputs``, the gradient of an
  operand.

Weights, by what a product adds to a sum (one row of the operand, o):

- ``u.i``: U·o with the rows of ``weight_hh`` that belong to the gate of a use. ``w.k.i``: W·o with the gate's rows of
  the weight that belongs to operand k.
- ``ut.i``, ``wt.k.i``: Uᵀ·o and Wᵀ·o with the same rows; the operand is ``d.i``.

Leaves of the expressions are nodes of the ops ``state``, ``input``, ``vector``, ``parameter`` (of ``weight_diagonal``),
``hoisted`` (attr: the use), ``before`` (``adjoint.s``, before the step), ``dy``, and saved forward values; a
``product`` has operands as arguments (attr: the use; in the backward, the uses whose transposed weights multiply the
arguments).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import UNARY_FUNCTIONS, Node, const, make, postorder, rewrite
from gatewise.compiler.gradient import gradient
from gatewise.compiler.schedule import Array, Plan, Scheduler


@dataclass(frozen=True)
class Plans:
    """Everything a backend lowers for one cell.

    What no plan computes are sums over time and batch, the gradients of parameters: of the gate's rows of a weight, for
    each of its uses i, Σ d.i ⊗ (the operand that the weight multiplies: ``operand.k``, or the array ``operand_of[i]``);
    of its bias Σ d.i; of row k of ``weight_diagonal``, which belongs to use i, Σ d.i ⊙ the array ``diagonal_of[k]``. Of
    these arrays ``state.s`` means the values before the steps, ``now.s`` those after.
    """

    project: Plan | None
    """Bias and input products of every use for any number of rows; ``gx.i`` are its results."""
    forward: Plan
    """Inference: keeps only what later phases of the same step read."""
    training: Plan
    """The forward that also saves what the backward reads."""
    backward: Plan
    inputs: tuple[Plan, ...]
    """For every input-like operand: its gradient from those of the pre-activations, for any number of rows."""
    saved: tuple[str, ...]
    """Arrays that ``training`` saves and ``backward`` reads, beside the states; also operands of weight gradients."""
    histories: tuple[str, ...]
    """States, beside the output, whose every value ``backward`` reads."""
    operand_of: tuple[str, ...]
    """For every use: the array whose rows multiply its ``weight_hh`` (``state.h``, ``save…``), or an empty name."""
    diagonal_of: tuple[str, ...]
    """For every row of ``weight_diagonal``: the array that it multiplies (as above, ``now.c`` or ``in.m``)."""
    input_terms: tuple[str, ...]
    """Keyword inputs and vectors that are used element-wise; ``backward`` writes the gradients of those that do not
    only decide."""
    used: frozenset[int]
    """Uses whose pre-activation gets a gradient; that of the others is zero."""


def _lowered(cell: Cell, hoist: bool) -> dict[Node, Node]:
    """Affine nodes as products plus diagonal terms; with ``hoist`` the input half is computed beforehand."""
    rows = count()
    images: dict[Node, Node] = {}

    def image(roots: Sequence[Node]) -> tuple[Node, ...]:
        return rewrite(roots, images)

    for i, use in enumerate(cell.uses):
        operands = [] if hoist else [o for _, o in use.inputs]
        operands += [use.state] if use.state is not None else []
        op, args = ("product", image(operands)) if operands else ("hoisted", ())
        value = make(op, args, i, "hidden")
        for d in use.diagonals:
            parameter = make("parameter", (), f"weight_diagonal.{next(rows)}", "hidden")
            value = value + parameter * image([d])[0]
        images[use.node] = value
    return images


def input_operands(cell: Cell) -> list[tuple[str, Node]]:
    """The distinct input-like operands of a cell's affine maps, each with the input that owns its weight."""
    return list(dict.fromkeys(pair for use in cell.uses for pair in use.inputs))


_GIVEN = ("state", "input", "vector")
"""Leaves that lie in memory of their own, forward and backward."""


def _operand_names(cell: Cell) -> dict[Node, str]:
    return {node: f"operand.{k}" for k, (_, node) in enumerate(input_operands(cell))}


_LEAF_PREFIXES = {"input": "in.", "vector": "in.", "state": "state."}
_LEAF_PREFIXES |= {"parameter": "", "hoisted": "gx.", "before": "adjoint."}


def _leaf_sources(roots: Sequence[Node]) -> dict[Node, str]:
    return {n: _LEAF_PREFIXES[n.op] + str(n.attr) for n in postorder(roots) if n.op in _LEAF_PREFIXES}


def _forward(cell: Cell, hoist: bool, saved: Sequence[Node], names: Sequence[str]) -> Scheduler:
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
    scheduler = Scheduler(sources, starts, weights)
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
    arrays += [Array(f"in.{name}", "step", width) for name, width in cell.leaf_widths.items()]
    for i, use in enumerate(cell.uses):
        arrays.append(Array(f"gx.{i}", "step" if use.inputs else "vector"))
        arrays.append(Array(f"bias.{i}", "vector"))
    arrays += [Array(f"weight_diagonal.{k}", "vector") for k in range(len(cell.diagonals))]
    return arrays + [Array(name, "step") for name in saved]


def _project(cell: Cell) -> Plan | None:
    """Bias and input products of every use that has an input."""
    nodes = {
        i: make("product", tuple(o for _, o in use.inputs), i, "hidden")
        for i, use in enumerate(cell.uses)
        if use.inputs
    }
    if not nodes:
        return None
    starts = {n: f"bias.{i}" for i, n in nodes.items()}
    weights = {n: [_input_weight(cell, i, o) for _, o in cell.uses[i].inputs] for i, n in nodes.items()}
    scheduler = Scheduler(_operand_names(cell), starts, weights)
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
        known = bool(node.args) and node.args[0] in available  # tanh(c) of a kept c: less to compute than to keep
        if node in forward and (node.op in ("product", "hoisted") or (node.op in UNARY_FUNCTIONS and not known)):
            saved[node] = None
        elif not (node in forward and node.op in (*_GIVEN, "parameter")):
            stack.extend(reversed(node.args))
    return list(saved)


@lru_cache(maxsize=256)
def make_plans(cell: Cell, hoist: bool = True) -> Plans:
    """All plans of a cell. With ``hoist`` the input products of all steps are one phase of their own."""
    images = _lowered(cell, hoist)
    derivative = gradient(cell)
    terms = dict(derivative.inputs)
    # An input that only decides (where, <) is read like the others; its gradient is zero.
    kept = postorder(rewrite(cell.outputs, _lowered(cell, True)))
    read = [str(n.attr) for n in kept if n.op in ("input", "vector")]
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
    operand_nodes = [rewrite([u.state], images)[0] if u.state is not None else None for u in cell.uses]
    diagonal_nodes = [rewrite([d], images)[0] for _, d in cell.diagonals]
    weighted = [n for n in (*operand_nodes, *diagonal_nodes) if n is not None and n.op not in _GIVEN]
    weighted = [n for n in dict.fromkeys(weighted) if n not in outputs]
    saved = [*_needed(roots, forward, {*outputs, *weighted}), *weighted]
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


@lru_cache(maxsize=256)
def traced(cell: Cell, hoist: bool = True) -> Plan:
    """Inference that also stores the value of every gate, in the arrays ``gate_arrays``."""
    values = rewrite([cell.gate_value(gate) for gate in cell.gates], _lowered(cell, hoist))
    names = gate_arrays(cell)
    return _forward(cell, hoist, values, names).plan(_forward_arrays(cell, names))


def gate_arrays(cell: Cell) -> list[str]:
    return [f"gate.{gate}" for gate in cell.gates]


def _operand(node: Node | None, known: Mapping[Node, str], now: Mapping[Node, str]) -> str:
    if node is None:
        return ""
    if node.op in _GIVEN:
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
    scheduler = Scheduler(sources, {}, weights)
    results = [(f"d.{i}", d) for i, d in enumerate(d_affines) if d.op != "const"]
    results += [(f"adjoint.{s}", d) for s, d in zip(cell.states, d_states, strict=True)]
    # An input that only decides gets a gradient of zero, which no kernel needs to write.
    results += [(f"term.{name}", d) for (name, _), d in zip(input_names, d_inputs, strict=True) if d.op != "const"]
    scheduler.run(results)
    arrays = [Array(f"adjoint.{s}", "carry") for s in cell.states]
    arrays += [Array(f"state.{s}", "carry") for s in cell.states]
    arrays += [Array(f"now.{s}", "step") for s in cell.states]
    arrays += [Array(f"in.{name}", "step", width) for name, width in cell.leaf_widths.items()]
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
    node = make("product", operands, -1, "hidden")
    scheduler = Scheduler({o: str(o.attr) for o in operands}, {}, {node: [f"wt.{k}.{i}" for i in uses]})
    scheduler.run([("dx", node)])
    return scheduler.plan([*(Array(f"d.{i}", "step") for i in uses), Array("dx", "step")])
