"""Random well-formed cells, for tests of everything that must hold for any cell."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from gatewise.compiler import Cell
from gatewise.compiler.expression import Node, depends, make
from gatewise.compiler.functions import (
    diagonal,
    exp,
    hard_sigmoid,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    softplus,
    tanh,
    where,
)
from gatewise.compiler.trace import Gates, Uses, finish

SQUASHING = [sigmoid, tanh, hard_sigmoid, lambda v: hard_sigmoid(v, 0.25, 0.4)]
GROWING = [relu, softplus, lambda v: -v, lambda v: 0.5 * v, lambda v: 1 - v, lambda v: v]
POSITIVE = [lambda v: exp(-softplus(v)), lambda v: log(1 + softplus(v)), lambda v: v / (1 + v * v)]
PAIRS = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / (1 + relu(b)),
    minimum,
    maximum,
    lambda a, b: where(a < b, tanh(a), b),
    lambda a, b: where(a >= 0.1, a, -b),
]

VECTORS = (("a", "input"), ("s", 1), ("u", "hidden"))


@st.composite
def cells(draw: Any, *, prologues: bool = True, keywords: bool = True) -> Cell:
    """A cell with up to two states, three keyword inputs and four gates, whose values stay moderate."""
    states = ("h", "c")[: draw(st.integers(1, 2))]
    widths: dict[str, Any] = {"m": "input", "d": 1, "v": "hidden", "k": 3}
    chosen = draw(st.lists(st.sampled_from(sorted(widths)), unique=True, max_size=3)) if keywords else []
    inputs = tuple((name, widths[name]) for name in chosen)
    leaves = {name: make("input", (), name, width) for name, width in (("x", "input"), *inputs)}
    vectors = {n: make("vector", (), n, w) for n, w in VECTORS if draw(st.sampled_from([False, False, True]))}
    pool: list[Node] = [make("state", (), s, "hidden") for s in states]
    pool += [node for node in (*leaves.values(), *vectors.values()) if node.width == "hidden"]
    uses = Uses("random")
    gates = Gates(uses)

    def recurrent() -> Node:
        return draw(st.sampled_from([n for n in pool if depends(n, ("state", "affine"))]))

    def input_operands() -> list[Node]:
        names = draw(st.lists(st.sampled_from(sorted(leaves)), unique=True, min_size=1, max_size=2))
        return [leaves[n] if n == "x" or not prologues else draw(_prologue(leaves[n], vectors)) for n in names]

    def vector() -> Node:
        value = draw(st.sampled_from(pool))
        scalars = [n for n in (*leaves.values(), *vectors.values()) if n.width == 1]
        factor = draw(st.sampled_from([None, *scalars]))
        return value if factor is None else value * factor

    for name in "pqrs"[: draw(st.integers(0, 4))]:
        gate = getattr(gates, name)
        form = draw(st.sampled_from(["fused", "fused", "input", "state", "halves"]))
        first = input_operands() if form != "state" else []
        second = [draw(st.sampled_from([recurrent(), recurrent(), diagonal(recurrent())]))] if form != "input" else []
        if form == "halves":
            value = gate(*first) + draw(st.sampled_from([sigmoid, tanh]))(vector()) * gate(*second)
        else:
            value = gate(*draw(st.permutations([*first, *second])))
        pool.append(draw(st.sampled_from([*SQUASHING, *SQUASHING, *GROWING]))(value))
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            pool.append(draw(st.sampled_from(PAIRS))(vector(), vector()))
        else:
            pool.append(draw(st.sampled_from([*SQUASHING, *GROWING, *POSITIVE]))(vector()))
    outputs = [0.5 * make("state", (), s, "hidden") + 0.5 * tanh(vector()) for s in states]
    # Nothing is left over: a gate that no state depends on is an error.
    for node in pool[len(states) :]:
        if not any(depends_on(o, node) for o in outputs):
            k = draw(st.integers(0, len(outputs) - 1))
            outputs[k] = outputs[k] + 0.25 * sigmoid(node)
    made = finish("random", "", states, inputs, tuple(outputs), uses.nodes)
    return replace(made, vectors=tuple((n, v.width) for n, v in vectors.items()))


@st.composite
def _prologue(draw: Any, leaf: Node, vectors: dict[str, Node]) -> Node:
    forms = [leaf, leaf, 1 - leaf, exp(-relu(leaf)), leaf * tanh(leaf)]
    forms += [sigmoid(leaf * v) + softplus(v) for v in vectors.values() if v.width in (leaf.width, 1)]
    return draw(st.sampled_from(forms))


def depends_on(node: Node, target: Node) -> bool:
    stack, seen = [node], set()
    while stack:
        n = stack.pop()
        if n is target:
            return True
        if n not in seen:
            seen.add(n)
            stack.extend(n.args)
    return False
