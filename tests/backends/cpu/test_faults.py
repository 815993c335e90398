"""Planted mistakes must turn the comparison red: what these tests plant, no other test of the kernels would miss."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from comparing import Case, Disagreement, Fault, compare
from kernel_cells import ALL
from llvmlite.ir import Value
from torch import Tensor

from gatewise.backends.cpu.lanes import Code
from gatewise.backends.cpu.tiers import Tier
from gatewise.compiler.schedule import Phase, Plan, Product, Ref

pytestmark = pytest.mark.usefixtures("poisoned")

Tensors = dict[str, Tensor]


def rows(name: str, order: list[int]) -> Callable[[Tensors], Tensors]:
    """The gates' blocks of a parameter in another order."""

    def change(tensors: Tensors) -> Tensors:
        blocks = tensors[name].chunk(len(order))
        return {**tensors, name: torch.cat([blocks[k] for k in order])}

    return change


def transposed(name: str, gate: int, gates: int) -> Callable[[Tensors], Tensors]:
    """One gate's matrix transposed."""

    def change(tensors: Tensors) -> Tensors:
        blocks = list(tensors[name].chunk(gates))
        blocks[gate] = blocks[gate].T
        return {**tensors, name: torch.cat(blocks)}

    return change


def without(name: str, gate: int, gates: int) -> Callable[[Tensors], Tensors]:
    """One gate's bias dropped."""

    def change(tensors: Tensors) -> Tensors:
        tensors[name].chunk(gates)[gate].zero_()
        return tensors

    return change


TENSORS = {
    "gru: reset and update swapped in weight_hh": ("gru", rows("weight_hh", [1, 0, 2])),
    "gru: reset and update swapped in weight_ih": ("gru", rows("weight_ih", [1, 0, 2])),
    "gru: reset and update swapped in bias_ih": ("gru", rows("bias_ih", [1, 0, 2])),
    "lstm: f and g swapped": ("lstm", rows("weight_hh", [0, 2, 1, 3])),
    "gru: no bias of the candidate": ("gru", without("bias_ih", 2, 3)),
    "lstm: no bias of the output gate": ("lstm", without("bias_ih", 3, 4)),
    "gru_reset_after: no recurrent bias": ("gru_reset_after", without("bias_hh", 0, 1)),
    "gru: a recurrent matrix transposed": ("gru", transposed("weight_hh", 2, 3)),
    "gru: the input matrix transposed": ("gru", transposed("weight_ih", 1, 3)),
    "peephole_lstm: two diagonals swapped": ("peephole_lstm", rows("weight_diagonal", [1, 0, 2])),
    "driven: columns of a keyword input reversed": ("driven", lambda t: {**t, "weight_code": t["weight_code"].flip(1)}),
    "delayed: the states swapped": ("delayed", lambda t: {**t, "state.h": t["state.last"], "state.last": t["state.h"]}),
    "gru: the steps reversed": ("gru", lambda t: {**t, "x": t["x"].flip(0)}),
    "gru: one number of one weight is one part in a thousand off": (
        "gru",
        lambda t: {
            **t,
            "weight_hh": t["weight_hh"].index_put((torch.tensor(70), torch.tensor(64)), t["weight_hh"][70, 64] * 1.001),
        },
    ),
}


@pytest.mark.parametrize(("cell", "change"), TENSORS.values(), ids=list(TENSORS))
def test_changed_weights(cell: str, change: Callable[[Tensors], Tensors]) -> None:
    case = Case(ALL[cell], inputs=65)  # so that the input matrix is square
    compare(case, Fault())
    with pytest.raises(Disagreement):
        compare(case, Fault(tensors=change))


def phases(change: Callable[[Phase], Phase]) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, phases=tuple(change(p) for p in plan.phases))


def swapped_stores(plan: Plan, a: str, b: str) -> Plan:
    other = {a: b, b: a}
    return phases(lambda p: replace(p, stores=tuple((other.get(name, name), node) for name, node in p.stores)))(plan)


def products(change: Callable[[Product], Product]) -> Callable[[Plan], Plan]:
    return phases(lambda p: replace(p, products=tuple(change(q) for q in p.products)))


def starts(old: str, new: str) -> Callable[[Plan], Plan]:
    def change(plan: Plan) -> Plan:
        if new and new not in {a.name for a in plan.arrays}:
            return plan
        other = Ref(new) if new else None
        return phases(lambda p: replace(p, starts=tuple(other if s == Ref(old) else s for s in p.starts)))(plan)

    return change


def recurrent(product: Product) -> bool:
    return len(product.weights) > 1 and product.weights[0].startswith(("u.", "ut."))


def other_weights(product: Product) -> Product:
    """The weights of the first two gates exchanged."""
    if not recurrent(product):
        return product
    first, second, *rest = product.weights
    return replace(product, weights=(second, first, *rest))


def unreset(product: Product) -> Product:
    """The candidate's matrix multiplies the state itself, not what the reset gate left of it."""
    computed = product.operand.after and product.weights[0].startswith("u.")
    return replace(product, operand=Ref("state.h")) if computed else product


def dropped_store(plan: Plan, prefix: str) -> Plan:
    return phases(lambda p: replace(p, stores=tuple(s for s in p.stores if not s[0].startswith(prefix))))(plan)


def dropped_product(plan: Plan) -> Plan:
    """The last product of a phase that has two is forgotten."""
    return phases(lambda p: replace(p, products=p.products[:-1]) if len(p.products) > 1 else p)(plan)


PLANS: dict[str, tuple[str, Callable[[Plan], Plan]]] = {
    "lstm: the new states exchanged": ("lstm", lambda p: swapped_stores(p, "state.h", "state.c")),
    "gru: gradients of two gates exchanged": ("gru", lambda p: swapped_stores(p, "d.0", "d.1")),
    "gru: two saved values exchanged": ("gru", lambda p: swapped_stores(p, "save0", "save1")),
    "gru: a gate starts from another's sum": ("gru", starts("gx.0", "gx.1")),
    "gru: the candidate starts from zero": ("gru", starts("gx.2", "")),
    "gru: the input product starts from another bias": ("gru", starts("bias.1", "bias.0")),
    "gru_reset_after: the bias of the recurrent half is left out": ("gru_reset_after", starts("bias.3", "")),
    "gru: weights of two gates exchanged": ("gru", products(other_weights)),
    "lstm: weights of two gates exchanged": ("lstm", products(other_weights)),
    "delayed: weights exchanged": (
        "delayed",
        lambda p: phases(
            lambda f: replace(
                f,
                products=tuple(
                    replace(q, weights=o.weights) for q, o in zip(f.products, f.products[::-1], strict=True)
                ),
            )
        )(p),
    ),
    "lstm: two accumulators of the backward's product exchanged": (
        "lstm",
        lambda p: phases(
            lambda f: replace(
                f,
                products=tuple(
                    replace(q, operand=o.operand) for q, o in zip(f.products, f.products[::-1], strict=True)
                ),
            )
        )(p),
    ),
    "gru: the reset is not applied": ("gru", products(unreset)),
    "lstm: a saved value is never stored": ("lstm", lambda p: dropped_store(p, "save1")),
    "gru: a gradient is never stored": ("gru", lambda p: dropped_store(p, "d.2")),
    "lstm: the gradient of c is never stored": ("lstm", lambda p: dropped_store(p, "adjoint.c")),
    "driven: a product is forgotten": ("driven", dropped_product),
}


@pytest.mark.parametrize(("cell", "change"), PLANS.values(), ids=list(PLANS))
def test_changed_plans(cell: str, change: Callable[[Plan], Plan]) -> None:
    case = Case(ALL[cell], inputs=6, steps=9)
    with pytest.raises(Disagreement):
        compare(case, Fault(plan=change))


@pytest.mark.parametrize("what", ["total", "tail"])
def test_gradients_of_weights_are_not_summed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows enough for two runs of them, of which the second replaces the first, or is taken for empty."""
    from gatewise.backends.cpu import jit, reduce, sums, vector_sums
    from gatewise.backends.kernels import recipe

    def replaced(c: Code, place: Value, value: Value, mask: Value | None, *_: Value) -> None:
        c.store(value, place, mask)

    def kernel(tier: Tier, dtype: str) -> int:
        text = vector_sums.VectorSums(tier, dtype).text()
        return jit.load(f"faulty sums {what} {dtype}", lambda: text, tier, sums.ENTRIES).address("share")

    if what == "total":
        monkeypatch.setattr(vector_sums.VectorSums, "accumulate", staticmethod(replaced))
    else:
        monkeypatch.setattr(vector_sums.VectorSums, "_together", _whole_groups)
    monkeypatch.setattr(reduce, "_kernel", kernel)
    monkeypatch.setattr(recipe, "_recipes", {})
    with pytest.raises(Disagreement):
        compare(Case(ALL["gru"], inputs=6, steps=9, batch=33))


def _whole_groups(self: object, c: Code, depth: Value, rows: Callable[[Value, int, None], None]) -> None:
    """Rows are copied in groups; those after the last whole one are forgotten."""
    with c.loop(c.i64(0), depth, 8) as k:
        rows(k, 1, None)


@pytest.mark.parametrize("what", ["rows", "units", "depth", "steps"])
def test_one_too_few(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that forget the last row, unit, column or step."""
    from gatewise.backends.cpu import launch
    from gatewise.backends.kernels import recipe

    real = launch._prepare

    def prepare(*args: object, **kwargs: object) -> launch.Prepared:
        made = real(*args, **kwargs)
        rows, units, *rest = made.header
        if what == "rows":
            return replace(made, header=(rows - 1, units, *rest))
        if what == "units":
            return replace(made, header=(rows, units - 1, *rest))
        return (
            made if what == "steps" else replace(made, panels=tuple(replace(p, depth=p.depth - 1) for p in made.panels))
        )

    monkeypatch.setattr(launch, "_prepare", prepare)
    monkeypatch.setattr(launch, "_prepared", {})
    monkeypatch.setattr(recipe, "_recipes", {})
    if what == "steps":
        run = launch.run
        monkeypatch.setattr(launch, "run", lambda *a, steps, **k: run(*a, steps=max(1, steps - 1), **k))
    with pytest.raises(Disagreement):
        compare(Case(ALL["lstm"]))
