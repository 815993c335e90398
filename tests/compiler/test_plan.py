"""Plans: how many phases, what they save, in which order they sum; no numbers (tests of the backends have those)."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from kernel_cells import ALL
from strategies import cells as random_cells

from gatewise import Cell
from gatewise.compiler.expression import Node, postorder
from gatewise.compiler.plan import Plans, input_operands, make_plans
from gatewise.compiler.schedule import Plan

every_cell = pytest.mark.parametrize("cell", ALL.values(), ids=list(ALL))
both = pytest.mark.parametrize("hoist", [True, False], ids=["hoisted", "inside"])

PHASES = {"gru": 2, "gru_renew": 2, "mgu": 2, "gate_on_gate": 3, "driven": 3, "fading": 0, "ungated": 0}
PHASES |= dict.fromkeys(("gru_reset_after", "lstm", "lstm_coupled", "rnn", "rnn_relu", "light_gru", "delayed"), 1)

# What the backward needs beside the states: the gates' values, and r * h as the operand of a weight gradient.
SAVED = {
    "gru": 4,
    "gru_reset_after": 4,
    "lstm": 4,
    "lstm_coupled": 3,
    "rnn": 0,
    "rnn_relu": 0,
    "mgu": 3,
    "light_gru": 2,
}


def step_plans(plans: Plans) -> list[Plan]:
    return [plans.forward, plans.training, plans.backward]


def all_plans(plans: Plans) -> list[Plan]:
    return [*step_plans(plans), *([plans.project] if plans.project else []), *plans.inputs]


def with_products(plan: Plan) -> int:
    return sum(bool(phase.products) for phase in plan.phases)


@pytest.mark.parametrize("name", PHASES)
@both
def test_phases(name: str, hoist: bool) -> None:
    """As many products after one another as the equations need, on the way back as on the way there."""
    assert [with_products(p) for p in step_plans(make_plans(ALL[name], hoist))] == [PHASES[name]] * 3


@every_cell
@both
def test_phases_are_as_deep_as_the_equations(cell: Cell, hoist: bool) -> None:
    depth: dict[Node, int] = {}
    uses = {use.node: use for use in cell.uses}
    for node in postorder(cell.outputs):
        depth[node] = max((depth[a] for a in node.args), default=0)
        if node in uses:
            use = uses[node]
            operands = [use.state] if use.state is not None else []
            operands += [] if hoist else [o for _, o in use.inputs]
            product = max(depth[o] for o in operands) + 1 if operands else 0
            depth[node] = max([product, *(depth[d] for d in use.diagonals)])
    plans = make_plans(cell, hoist)
    for plan in (plans.forward, plans.training):
        assert with_products(plan) == len(plan.phases) - 1 == max(depth[o] for o in cell.outputs)
        assert not plan.phases[0].products


@every_cell
@both
def test_every_use_is_multiplied_once(cell: Cell, hoist: bool) -> None:
    plans = make_plans(cell, hoist)
    matrices = Counter(w for phase in plans.forward.phases for p in phase.products for w in p.weights)
    names = [f"u.{i}" for i, use in enumerate(cell.uses) if use.state is not None]
    operands = [node for _, node in input_operands(cell)]
    inputs = [f"w.{operands.index(node)}.{i}" for i, use in enumerate(cell.uses) for _, node in use.inputs]
    assert matrices == Counter(names if hoist else names + inputs)
    projected = Counter(
        w for phase in (plans.project.phases if plans.project else ()) for p in phase.products for w in p.weights
    )
    assert projected == Counter(inputs)
    back = Counter(w for phase in plans.backward.phases for p in phase.products for w in p.weights)
    assert back == Counter(f"ut.{i}" for i, use in enumerate(cell.uses) if use.state is not None and i in plans.used)
    dx = Counter(w for plan in plans.inputs for phase in plan.phases for p in phase.products for w in p.weights)
    assert dx == Counter(w.replace("w.", "wt.") for w in inputs if int(w.split(".")[2]) in plans.used)


@pytest.mark.parametrize("name", SAVED)
def test_how_much_is_saved(name: str) -> None:
    plans = make_plans(ALL[name])
    assert len(plans.saved) == SAVED[name]
    assert plans.histories == (("c",) if name.startswith("lstm") else ())


@every_cell
@both
def test_nothing_is_saved_in_vain(cell: Cell, hoist: bool) -> None:
    """What training saves the backward reads, or a gradient of weights multiplies; inference saves nothing."""
    plans = make_plans(cell, hoist)
    names = {r.name for phase in plans.backward.phases for r in phase.reads()}
    wanted = names | set(plans.operand_of) | set(plans.diagonal_of)
    assert set(plans.saved) <= wanted
    for state in plans.histories:
        assert wanted & {f"state.{state}", f"now.{state}"}
    stored = [name for phase in plans.training.phases for name, _ in phase.stores]
    assert sorted(n for n in stored if n.startswith("save")) == sorted(plans.saved)
    assert not any(a.name.startswith("save") for a in plans.forward.arrays)
    assert len(plans.forward.arrays) <= len(plans.training.arrays)
    # And what is read was saved: the rest are states, inputs, weights and the backward's own.
    own = {a.name for a in plans.backward.arrays if a.name.startswith(("adjoint.", "keep", "d.", "term."))}
    given = (
        {"dy"}
        | {f"in.{n}" for n, _ in (*cell.inputs, *cell.vectors)}
        | {f"weight_diagonal.{k}" for k in range(len(cell.diagonals))}
    )
    given |= {f"{p}.{s}" for p in ("state", "now") for s in (cell.states[0], *plans.histories)}
    assert names <= own | given | set(plans.saved)


@every_cell
@both
def test_what_is_read_is_written_before(cell: Cell, hoist: bool) -> None:
    """A value of this step is read in a later phase than that which stores it; every array is stored at most once."""
    for plan in all_plans(make_plans(cell, hoist)):
        declared = {a.name for a in plan.arrays}
        assert len(declared) == len(plan.arrays)
        earlier: set[str] = set()
        stored: list[str] = []
        for phase in plan.phases:
            assert {r.name for r in phase.reads()} <= declared
            assert {r.name for r in phase.reads() if r.after} <= earlier
            assert all(r.after for r in phase.reads() if r.name in plan.kept)
            stored += [name for name, _ in phase.stores]
            earlier |= {name for name, _ in phase.stores}
        assert len(stored) == len(set(stored))
        assert set(plan.kept) <= earlier
        assert set(plan.operands) == {p.operand.name for f in plan.phases for p in f.products if p.operand.after}


def chains(plan: Plan) -> dict[str, list[str | None]]:
    """The sum of every use, by the weight that ends it: where it starts and its weights in order."""
    found = {}
    for phase in plan.phases:
        for k, start in enumerate(phase.starts):
            weights = [w for p in phase.products for j, w in zip(p.accumulators, p.weights, strict=True) if j == k]
            found[weights[-1].split(".")[-1]] = [start.name if start else None, *weights]
    return found


@every_cell
def test_one_order_of_summation(cell: Cell) -> None:
    """Bias, inputs in their order, state: the same chain whether the inputs are summed beforehand or with the step."""
    plans, inside = make_plans(cell), make_plans(cell, False)
    before = chains(plans.project) if plans.project else {}
    for way in ("forward", "training"):
        parts, whole = chains(getattr(plans, way)), chains(getattr(inside, way))
        for i, use in enumerate(cell.uses):
            operands = [node for _, node in input_operands(cell)]
            inputs = [f"w.{operands.index(node)}.{i}" for _, node in use.inputs]
            states = [f"u.{i}"] if use.state is not None else []
            if inputs or states:
                assert whole[str(i)] == [f"bias.{i}", *inputs, *states]
            if inputs:
                assert before[str(i)] == [f"bias.{i}", *inputs]
            if states:
                assert parts[str(i)] == [f"gx.{i}" if inputs else f"bias.{i}", *states]


@every_cell
def test_uses_of_one_operand_share_its_product(cell: Cell) -> None:
    """On the way there, an operand is read once per phase."""
    plans = make_plans(cell)
    for plan in [plans.forward, plans.training, *([plans.project] if plans.project else [])]:
        for phase in plan.phases:
            operands = [p.operand for p in phase.products]
            assert len(operands) == len(set(operands))


PRINT = """
import hashlib
from kernel_cells import ALL
from gatewise.compiler.plan import make_plans
from gatewise.compiler.text import parse

def canonical(value):
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (tuple, list)):
        return [canonical(v) for v in value]
    if isinstance(value, dict):
        return [(canonical(k), canonical(v)) for k, v in value.items()]
    if hasattr(value, "__dataclass_fields__"):
        return [canonical(getattr(value, name)) for name in value.__dataclass_fields__]
    if hasattr(value, "args"):  # a node
        return [value.op, value.attr, value.width, [canonical(a) for a in value.args]]
    return value

for cell in ALL.values():
    if cell.name == "piecewise":  # whose shared parts, written out, are long
        continue
    plans = [make_plans(parse(cell.text), hoist) for hoist in (True, False)]
    print(cell.name, hashlib.sha256(repr(canonical(plans)).encode()).hexdigest())
"""


def test_plans_are_the_same_in_every_process() -> None:
    """From the text alone, whatever Python's hash seed: names of kernels in the cache depend on it."""
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1")
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    assert outputs[0].count("\n") == len(ALL) - 1
    assert outputs[0] == outputs[1]


@given(cell=random_cells())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_cells(cell: Cell) -> None:
    for hoist in (True, False):
        test_every_use_is_multiplied_once(cell, hoist)
        test_nothing_is_saved_in_vain(cell, hoist)
        test_what_is_read_is_written_before(cell, hoist)
    test_one_order_of_summation(cell)
