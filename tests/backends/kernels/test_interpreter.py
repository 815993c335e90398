"""Every plan, run by itself, against eager in float64; and that planted mistakes in plans show."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from comparing import Case, Problem, evaluate, prepared, problem, through_prologue
from hypothesis import HealthCheck, given, settings
from kernel_cells import ALL
from strategies import cells as random_cells
from torch import Tensor

from gatewise import Cell
from gatewise.backends import eager
from gatewise.backends.kernels.interpreter import Interpreter, order
from gatewise.compiler.plan import Plans, gate_arrays, make_plans, traced
from gatewise.compiler.schedule import Phase, Plan, Product, Ref

Change = Callable[[Plan], Plan]
SMALL = {"hidden": 7, "batch": 3, "steps": 4, "inputs": 5}
SIZES = [
    {"hidden": 1, "batch": 1, "steps": 1, "inputs": 1},
    {"hidden": 13, "batch": 2, "steps": 3, "inputs": 3},
    {"hidden": 3, "batch": 17, "steps": 2, "inputs": 100},
    {"hidden": 5, "batch": 0, "steps": 3, "inputs": 4},
    {"hidden": 5, "batch": 3, "steps": 0, "inputs": 4},
]


def interpreted(p: Problem, plans: Plans, gates: Plan) -> dict[str, Tensor]:
    """As ``comparing.evaluate``; and the results of inference and the values of the gates."""
    cell, steps = p.case.cell, p.case.steps
    given_values = prepared(p)
    _, operands, inputs = given_values
    given = (
        steps,
        [value.detach() for value in operands.values()],
        {name: value.detach() for name, value in inputs.items()},
        list(p.of("state.").values()),
    )
    own = Interpreter(cell, plans, p.parameters(), p.case.hidden)
    found: dict[str, Tensor] = {}
    for way, plan in (("inference ", plans.forward), ("traced ", gates), ("", plans.training)):
        memory = own.forward(plan, *given)
        found[f"{way}y"] = memory[f"state.{cell.states[0]}"][1:]
        found |= {f"{way}final.{s}": memory[f"state.{s}"][-1] for s in cell.states}
        found |= {name: memory[name] for name in gate_arrays(cell) if name in memory}
    left = {*plans.saved, *(f"state.{s}" for s in (cell.states[0], *plans.histories))}
    memory = {name: value for name, value in memory.items() if name in left or name.startswith(("operand.", "in."))}
    d = own.backward(memory, p.cotangents["y"], [p.cotangents[s] for s in cell.states])
    found |= through_prologue(p, given_values, d.operands, d.inputs)
    found |= {f"d.{n}": g for n, g in d.parameters.items()}
    return found | {f"d.state.{s}": g for s, g in zip(cell.states, d.states, strict=True)}


def expected(p: Problem) -> dict[str, Tensor]:
    cell = p.case.cell
    found = evaluate(p, "eager")
    results = {name: value for name, value in found.items() if not name.startswith("d.")}
    found |= {f"{way} {name}": value for way in ("inference", "traced") for name, value in results.items()}
    gates = {gate: p.tensors["x"].new_empty(p.case.steps, p.case.batch, p.case.hidden) for gate in cell.gates}
    seen = [(cell.gate_value(gate), memory) for gate, memory in gates.items()]
    states = list(p.of("state.").values())
    eager.sequence(cell, p.tensors["x"], p.of("in."), states, p.parameters(), seen=seen)
    return found | {f"gate.{gate}": memory for gate, memory in gates.items()}


def disagreements(cell: Cell, hoist: bool, change: Change | None = None, **sizes: int) -> list[str]:
    """The results and gradients in which a cell's plans, changed or not, and eager differ."""
    p = problem(Case(cell, torch.float64, **sizes))
    plans, gates, truth = make_plans(cell, hoist), traced(cell, hoist), expected(p)
    if change is not None:
        changed = {name: change(getattr(plans, name)) for name in ("forward", "training", "backward")}
        project = None if plans.project is None else change(plans.project)
        other = replace(plans, project=project, inputs=tuple(map(change, plans.inputs)), **changed)
        assert (other, change(gates)) != (plans, gates), "the change applies to no plan"
        plans, gates = other, change(gates)
    found = interpreted(p, plans, gates)
    assert {name: v.shape for name, v in found.items()} == {name: v.shape for name, v in truth.items()}
    return [name for name, v in truth.items() if not torch.allclose(found[name], v, rtol=1e-10, atol=1e-11)]


both = pytest.mark.parametrize("hoist", [True, False], ids=["hoisted", "inside"])


@both
@pytest.mark.parametrize("cell", ALL.values(), ids=list(ALL))
def test_every_plan_of_every_cell(cell: Cell, hoist: bool) -> None:
    assert disagreements(cell, hoist, **SMALL) == []


@both
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ["gru", "lstm_peephole", "driven", "vectors", "delayed", "fading"])
def test_sizes(name: str, sizes: dict[str, int], hoist: bool) -> None:
    assert disagreements(ALL[name], hoist, **sizes) == []


@given(cell=random_cells())
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_cells(cell: Cell) -> None:
    for hoist in (True, False):
        assert disagreements(cell, hoist, **SMALL) == []


@pytest.mark.parametrize("name", ["gru", "lstm", "fading", "gate_on_gate"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_order_is_that_of_steps_and_phases_with_phase_0_ahead(name: str, steps: int) -> None:
    plan = make_plans(ALL[name]).backward
    ran = [(t, plan.phases.index(phase)) for t, phase in order(plan, steps)]
    assert sorted(ran) == [(t, k) for t in range(steps) for k in range(len(plan.phases))]
    last = len(plan.phases) - 1
    assert [ran[k - 1] for k, one in enumerate(ran) if one[1] == 0 and one[0] > 0] == [
        (t, last) for t in range(steps - 1)
    ]


def phases(change: Callable[[Phase], Phase]) -> Change:
    return lambda plan: replace(plan, phases=tuple(change(phase) for phase in plan.phases))


def products(change: Callable[[Product], Product]) -> Change:
    return phases(lambda phase: replace(phase, products=tuple(change(product) for product in phase.products)))


def other_weights(prefix: str) -> Change:
    """The weights of the first two gates exchanged."""

    def change(product: Product) -> Product:
        if len(product.weights) < 2 or not product.weights[0].startswith(prefix):
            return product
        first, second, *rest = product.weights
        return replace(product, weights=(second, first, *rest))

    return products(change)


def other_operands(prefix: str) -> Change:
    """The operands of the first and the last product of a phase exchanged."""

    def change(phase: Phase) -> Phase:
        found = [q for q in phase.products if q.weights[0].startswith(prefix)]
        if len(found) < 2:
            return phase
        first, *between, last = found
        moved = [replace(first, operand=last.operand), *between, replace(last, operand=first.operand)]
        return replace(phase, products=tuple(moved))

    return phases(change)


def swapped_stores(a: str, b: str) -> Change:
    other = {a: b, b: a}
    return phases(lambda p: replace(p, stores=tuple((other.get(name, name), node) for name, node in p.stores)))


def without_store(name: str) -> Change:
    return phases(lambda p: replace(p, stores=tuple(store for store in p.stores if store[0] != name)))


def without_product(weight: str) -> Change:
    return phases(lambda p: replace(p, products=tuple(q for q in p.products if weight not in q.weights)))


def other_start(old: str, new: str) -> Change:
    other = Ref(new) if new else None
    return phases(lambda p: replace(p, starts=tuple(other if s == Ref(old) else s for s in p.starts)))


def before_for_after(name: str) -> Change:
    """A value is read as it was before the step where the plan means that of the step."""

    def moved(ref: Ref) -> Ref:
        return Ref(name) if ref == Ref(name, after=True) else ref

    def change(phase: Phase) -> Phase:
        read = tuple(replace(q, operand=moved(q.operand)) for q in phase.products)
        return replace(phase, products=read, loads={node: moved(ref) for node, ref in phase.loads.items()})

    return phases(change)


FAULTS: dict[str, tuple[str, bool, Change]] = {
    "weights of two gates swapped": ("lstm", True, other_weights("u.")),
    "operands of two products swapped on the way back": ("gru_reset_after", True, other_operands("ut.")),
    "weights of two gates swapped in the projection": ("gru", True, other_weights("w.")),
    "weights of two gates swapped on an input": ("gru", False, other_weights("w.")),
    "the product of the candidate dropped": ("gru", True, without_product("u.2")),
    "a product of the backward dropped": ("lstm", True, without_product("ut.3")),
    "a product of the projection dropped": ("driven", True, without_product("w.2.1")),
    "a product of an input's gradient dropped": ("gru", True, without_product("wt.0.1")),
    "two saved values exchanged": ("gru", True, swapped_stores("save0", "save1")),
    "a saved value not stored": ("lstm", False, without_store("save1")),
    "the new states exchanged": ("lstm", True, swapped_stores("state.h", "state.c")),
    "two gradients of pre-activations exchanged": ("gru", True, swapped_stores("d.0", "d.1")),
    "the gradient of a state not stored": ("lstm", True, without_store("adjoint.c")),
    "the gradient of an input not stored": ("keywords", True, without_store("term.drive")),
    "the gates exchanged": ("gru", True, swapped_stores("gate.r", "gate.z")),
    "a gate starts from another's sum": ("gru", True, other_start("gx.0", "gx.1")),
    "the input's products start from zero": ("gru", True, other_start("bias.1", "")),
    "the bias of the recurrent half left out": ("gru_reset_after", True, other_start("bias.3", "")),
    "the old state where the step's own is meant": ("driven", True, before_for_after("state.c")),
}


@pytest.mark.parametrize(("name", "hoist", "change"), FAULTS.values(), ids=list(FAULTS))
def test_planted_faults_show(name: str, hoist: bool, change: Change) -> None:
    assert disagreements(ALL[name], hoist, change, **SMALL) != []
