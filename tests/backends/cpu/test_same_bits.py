"""Contract 2: the same bits however a sequence is cut, batched, padded and shared out among threads.

One tier and dtype at a time. Gradients of inputs and initial states recur: they depend neither on threads nor on what
else is in the batch. Those of weights and biases are sums over batch and time; they do not depend on threads either, as
each number of them is summed by one thread.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from comparing import IN_BFLOAT16, Case, Problem, evaluate, problem, same_bits, threads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cells import ALL, BUILT_IN
from torch import Tensor

from gatewise import Cell
from gatewise.backends.cpu import launch, tiers
from gatewise.backends.kernels import recipe

pytestmark = pytest.mark.usefixtures("poisoned")

FEW = [ALL[name] for name in ("gru", "lstm", "driven", "delayed", "gru_d")]
MANY = [*BUILT_IN.values(), *FEW, ALL["piecewise"], ALL["ungated"]]
OTHERS = tiers.available()[1:]
KINDS = [(torch.float32, None), (torch.float64, None)]
KINDS += [(torch.float32, t) for t in (*OTHERS, *IN_BFLOAT16)]
few_cells = pytest.mark.parametrize("cell", FEW, ids=lambda c: c.name)
# Every dtype and tier on one cell, float32 on a few.
few = pytest.mark.parametrize(
    ("cell", "dtype", "tier"),
    [(cell, *kind) for cell in FEW for kind in (KINDS if cell is FEW[0] else KINDS[:1])],
    ids=lambda v: v.name if isinstance(v, Cell) else str(v).removeprefix("torch."),
)
QUICK = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def forward(p: Problem) -> dict[str, Tensor]:
    return evaluate(p, "cpu", grad=False)


def cut(p: Problem, start: int, stop: int, states: dict[str, Tensor] | None = None) -> Problem:
    """Some of the steps, from given states."""
    tensors = {k: v[start:stop] if k == "x" or k.startswith("in.") else v for k, v in p.tensors.items()}
    if states is not None:
        tensors |= {f"state.{k.removeprefix('final.')}": v for k, v in states.items() if k != "y"}
    return Problem(replace(p.case, steps=stop - start), tensors, {})


def pick(p: Problem, rows: list[int] | slice) -> Problem:
    """Some of the rows of the batch."""
    tensors = dict(p.tensors)
    for k, v in p.tensors.items():
        if k == "x" or k.startswith("in."):
            tensors[k] = v[:, rows]
        elif k.startswith("state."):
            tensors[k] = v[rows]
    given = {k: v[:, rows] if k == "y" else v[rows] for k, v in p.cotangents.items()}
    return Problem(p.case, tensors, given)


def in_pieces(p: Problem, bounds: list[int]) -> dict[str, Tensor]:
    """The sequence in pieces, each from the states that the one before left."""
    pieces = list(pairwise(bounds))
    outputs: list[Tensor] = []
    state = None
    for start, stop in pieces[::-1] if p.case.reverse else pieces:
        state = forward(cut(p, start, stop, state))
        outputs.append(state["y"])
    assert state is not None
    return {**state, "y": torch.cat(outputs[::-1] if p.case.reverse else outputs)}


@few
def test_pieces_and_single_steps(cell: Cell, dtype: torch.dtype, tier: str | None) -> None:
    """Both for few rows and for many, of which the input products are computed with the step or beforehand."""
    for batch in (3, 17):
        p = problem(Case(cell, dtype, tier, batch=batch, steps=7))
        whole = forward(p)
        same_bits(whole, in_pieces(p, list(range(8))))
        same_bits(whole, in_pieces(p, [0, 3, 3, 5, 7]))
        backwards = Problem(replace(p.case, reverse=True), p.tensors, {})
        same_bits(forward(backwards), in_pieces(backwards, [0, 1, 4, 7]))
        flipped = {k: v.flip(0) if k == "x" or k.startswith("in.") else v for k, v in p.tensors.items()}
        turned = forward(Problem(backwards.case, flipped, {}))
        same_bits(whole, {**turned, "y": turned["y"].flip(0)})


@few
def test_a_row_alone(cell: Cell, dtype: torch.dtype, tier: str | None) -> None:
    p = problem(Case(cell, dtype, tier, batch=17))
    whole = forward(p)
    for rows in ([0], [16], [3, 4, 12], slice(0, 9)):
        some = forward(pick(p, rows))
        same_bits({k: v[:, rows] if k == "y" else v[rows] for k, v in whole.items()}, some)


@few
def test_padding(cell: Cell, dtype: torch.dtype, tier: str | None) -> None:
    """Steps after a row's end, whatever stands in them, do not change what came before."""
    p = problem(Case(cell, dtype, tier, batch=3, steps=6))
    padded = {k: v.clone() for k, v in p.tensors.items()}
    lengths = [6, 4, 1]
    for row, length in enumerate(lengths):
        for k, v in padded.items():
            if k == "x" or k.startswith("in."):
                v[length:, row] = torch.nan if row % 2 else 0.0
    y = forward(Problem(p.case, padded, {}))["y"]
    for row, length in enumerate(lengths):
        alone = forward(cut(pick(p, [row]), 0, length))["y"]
        same_bits({"y": y[:length, [row]]}, {"y": alone})


@few
def test_training_computes_the_same(cell: Cell, dtype: torch.dtype, tier: str | None) -> None:
    for batch in (3, 17):
        p = problem(Case(cell, dtype, tier, batch=batch))
        trained = evaluate(p, "cpu")
        same_bits(forward(p), {k: v for k, v in trained.items() if not k.startswith("d.")})


@pytest.mark.parametrize("tier", [None, *IN_BFLOAT16])
@few_cells
def test_threads(cell: Cell, tier: str | None) -> None:
    """Gradients too, of weights included."""
    sizes = [(3, 100), (17, 65)]
    for batch, hidden in [(1, 200), (8, 400), *sizes, (40, 33)] if cell is FEW[0] else sizes:
        p = problem(Case(cell, tier=tier, batch=batch, hidden=hidden, steps=3))
        with threads(1):
            one = evaluate(p, "cpu")
        for count in (2, 3) if batch != 1 else (2, 7):
            with threads(count):
                same_bits(one, evaluate(p, "cpu"))


def test_threads_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes above are large enough for threads to share them out, units as well as rows."""
    monkeypatch.setattr(launch, "_prepared", {})
    monkeypatch.setattr(recipe, "_recipes", {})
    with threads(2):
        for batch in (3, 17):
            forward(problem(Case(ALL["gru"], batch=batch, hidden=100)))
    shared = {prepared.header[2:4] for prepared in launch._prepared.values()}
    assert (2, 1) in shared
    assert (2, 0) in shared


@few_cells
def test_gradients_of_a_row_alone(cell: Cell) -> None:
    p = problem(Case(cell, batch=17))
    whole = evaluate(p, "cpu")
    rows = [2, 9]
    some = evaluate(pick(p, rows), "cpu")
    for k, v in some.items():
        if k.startswith(("d.x", "d.in.")):
            same_bits({k: whole[k][:, rows]}, {k: v})
        elif k.startswith("d.state."):
            same_bits({k: whole[k][rows]}, {k: v})


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("tier", [None, *IN_BFLOAT16])
@pytest.mark.parametrize("cell", [ALL["gru"], ALL["lstm"]], ids=lambda c: c.name)
def test_any_cut_of_any_batch(cell: Cell, tier: str | None, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 9))
    bounds = sorted(data.draw(st.lists(st.integers(0, steps), max_size=4)))
    batch = data.draw(st.integers(1, 20))
    rows = data.draw(st.lists(st.integers(0, batch - 1), min_size=1, max_size=batch))
    reverse, seed = data.draw(st.booleans()), data.draw(st.integers(0, 99))
    inputs = data.draw(st.sampled_from([1, 4, 11]))
    p = problem(Case(cell, tier=tier, hidden=33, steps=steps, batch=batch, inputs=inputs, reverse=reverse, seed=seed))
    whole = forward(p)
    same_bits(whole, in_pieces(p, [0, *bounds, steps]))
    same_bits({k: v[:, rows] if k == "y" else v[rows] for k, v in whole.items()}, forward(pick(p, rows)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "dtype", "tier"),
    # On other tiers those that have every operation and kind of plan among them.
    [(cell, *kind) for cell in ALL.values() for kind in KINDS if kind[1] not in OTHERS or cell in MANY],
    ids=lambda v: v.name if isinstance(v, Cell) else str(v).removeprefix("torch."),
)
def test_every_cell(cell: Cell, dtype: torch.dtype, tier: str | None) -> None:
    for hidden, batch in ((1, 4), (7, 20), (64, 9), (100, 1), (130, 33)):
        p = problem(Case(cell, dtype, tier, hidden=hidden, batch=batch, steps=5))
        with threads(1):
            whole = evaluate(p, "cpu")
        results = {k: v for k, v in whole.items() if not k.startswith("d.")}
        same_bits(results, in_pieces(p, [0, 1, 2, 5]))
        rows = [batch - 1, 0]
        same_bits({k: v[:, rows] if k == "y" else v[rows] for k, v in results.items()}, forward(pick(p, rows)))
        for count in (2, 5):
            with threads(count):
                same_bits(whole, evaluate(p, "cpu"))
