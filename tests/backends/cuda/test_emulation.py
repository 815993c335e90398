"""Kernels for the GPU on the host: the source that NVRTC compiles, over an emulation of blocks, warps and clusters.

With float64 products they agree with eager to the last digits, so that nothing hides in roundings.
"""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from comparing import Case, evaluate, problem, same_bits
from compiling import needs_cpp
from emulated import EmulationError, Emulator, results, small
from hypothesis import HealthCheck, given, settings
from kernel_cells import ALL
from strategies import cells as random_cells
from torch import Tensor

from gatewise import Cell
from gatewise.backends.cuda.layout import Exchange, Number

pytestmark = needs_cpp
ALONE, CLUSTER, CACHE = Exchange.ALONE, Exchange.CLUSTER, Exchange.CACHE
FEW = {"hidden": 36, "batch": 5, "steps": 4, "inputs": 3}
ODD = {"hidden": 33, "batch": 19, "steps": 3, "inputs": 5}


def wrong(machine: Emulator, case: Case, *, inference: bool = False) -> list[str]:
    """The results and gradients in which the kernels and eager differ."""
    p = problem(case)
    truth = evaluate(p, "eager")
    truth |= {"inference y": truth["y"]} if inference else {}
    found = results(machine, p, Number.DOUBLE, inference=inference)
    assert {name: v.shape for name, v in found.items()} == {name: v.shape for name, v in truth.items()}
    return [name for name, v in truth.items() if not torch.allclose(found[name], v, rtol=1e-10, atol=1e-11)]


def double(cell: str, **sizes: Any) -> Case:
    return Case(ALL[cell], torch.float64, **sizes)


@pytest.mark.parametrize(
    ("cell", "sizes", "exchange", "more"),
    [
        ("gru_reset_after", FEW, ALONE, {"resident": 1}),
        ("gru", ODD, CLUSTER, {"resident": 2, "flight": 2}),
        ("gru", FEW, CACHE, {"together": 2}),  # each warp polls its own columns
        ("lstm", {**ODD, "reverse": True}, CACHE, {"shares": 3, "blocks": 3, "room": 1}),
        ("lstm_peephole", {**FEW, "redundant": True, "cotangents": "final"}, CLUSTER, {"together": 2, "shares": 4}),
        ("gru_d", ODD, CACHE, {"serial": True}),
        ("gate_on_gate", FEW, CLUSTER, {}),  # three phases
        ("fading", FEW, ALONE, {}),  # no product, no input
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_some_cells(cell: str, sizes: Mapping[str, Any], exchange: Exchange, more: Mapping[str, Any]) -> None:
    machine = Emulator(small(exchange, **more), seed=1, eager=exchange is CLUSTER)
    assert wrong(machine, double(cell, **sizes), inference=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("exchange", Exchange)
@pytest.mark.parametrize("cell", ALL)
def test_every_cell(cell: str, exchange: Exchange) -> None:
    for sizes, eager, more in (
        (FEW, True, {"resident": 1}),
        (ODD, False, {"together": 2, "serial": exchange is CACHE}),
    ):
        assert wrong(Emulator(small(exchange, **more), eager=eager), double(cell, **sizes), inference=True) == []


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cell=random_cells())
def test_random_cells(cell: Cell) -> None:
    assert wrong(Emulator(small(CLUSTER)), Case(cell, torch.float64, **ODD)) == []
    assert wrong(Emulator(small(CACHE)), Case(cell, torch.float64, **FEW)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes", [{"hidden": 1}, {"batch": 1}, {"steps": 1}, {"hidden": 16}, {"hidden": 64, "batch": 40}], ids=str
)
@pytest.mark.parametrize("exchange", Exchange)
def test_sizes(exchange: Exchange, sizes: Mapping[str, int]) -> None:
    blocks = 1 if sizes.get("hidden", 36) <= 16 else 2
    if blocks == 1 and exchange is CLUSTER:
        pytest.skip("a cluster has two blocks at least")
    assert wrong(Emulator(small(exchange, blocks=blocks)), double("gru", **{**FEW, **sizes})) == []


# --- the numbers of a card ---


LIMITS = {Number.BFLOAT16: 1e-2, Number.HALF: 1.2e-3, Number.TF32: 1.2e-3}
"""Twice what the prototype was wrong by on a card at most, as ‖found − exact‖ / ‖exact‖."""


def errors(cell: str, number: Number, exchange: Exchange) -> dict[str, float]:
    """Against float64 on the same rounded numbers."""
    p = problem(double(cell, hidden=72, batch=9, steps=6, inputs=4)).to(number.dtype)
    exact = evaluate(p.to(torch.float64), "eager")
    given = p.to(torch.float64).to(number.dtype)
    given.case = Case(ALL[cell], number.dtype, hidden=72, batch=9, steps=6, inputs=4)
    found = results(Emulator(small(exchange, resident=1)), given, number)
    return {n: ((found[n].double() - v).norm() / v.norm()).item() for n, v in exact.items()}


@pytest.mark.parametrize(
    ("cell", "number", "exchange"),
    [
        ("gru_reset_after", Number.BFLOAT16, CLUSTER),
        ("gru", Number.HALF, CACHE),
        ("lstm", Number.TF32, CLUSTER),
        pytest.param("mgu", Number.BFLOAT16, CACHE, marks=pytest.mark.slow),
        pytest.param("gru", Number.TF32, CACHE, marks=pytest.mark.slow),
        pytest.param("lstm", Number.HALF, ALONE, marks=pytest.mark.slow),
        pytest.param("lstm_coupled", Number.BFLOAT16, ALONE, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_numbers_with_fewer_bits(cell: str, number: Number, exchange: Exchange) -> None:
    found = errors(cell, number, exchange)
    assert {name: error for name, error in found.items() if not error < LIMITS[number]} == {}


# --- order, bits and waits ---


def bits(machine: Emulator) -> dict[str, Tensor]:
    return results(machine, problem(double("gru", **ODD)), Number.DOUBLE)


@pytest.mark.parametrize("exchange", [CLUSTER, CACHE], ids=str)
def test_the_same_bits_in_any_order_and_for_any_number_of_launches(exchange: Exchange) -> None:
    lay = small(exchange, room=1)  # three sets of rows
    first = bits(Emulator(lay, seed=1))
    for other in (Emulator(lay, seed=2), Emulator(lay, seed=3, eager=True), Emulator(lay, seed=4, at_once=1)):
        same_bits(first, bits(other))


@pytest.mark.parametrize(("exchange", "reason"), [(CLUSTER, 1), (CACHE, 2)], ids=str)
def test_a_block_that_is_missing_ends_the_kernel_with_a_reason(exchange: Exchange, reason: int) -> None:
    machine = Emulator(small(exchange, blocks=3), patience=50)
    if exchange is CACHE:
        machine.missing = 1
    else:  # a cluster is launched whole: a block that does not send
        machine.changed = (("exchange.cuh", "if (more)\n", "if (more && rank != 1)\n"),)
    with pytest.raises(EmulationError, match="gave up"):
        wrong(machine, double("gru", **FEW))
    assert machine.reports[0][0] == reason


# --- mistakes in the skeleton show ---

SUMS = (
    "recurrent.cuh",
    "products.template put<phase>(sums);\n            block_barrier();",
    "products.template put<phase>(sums);",
)
STAGE = ("exchange.cuh", "S::vectors(event);\n        block_barrier();", "S::vectors(event);")
READERS = ("exchange.cuh", "else block_barrier();\n    }\n\n    // Read", "}\n\n    // Read")
PARITY = ("exchange.cuh", "(step >> 1) & 1", "0")
WAIT = ("exchange.cuh", "!counter_done(at, (step >> 1) & 1)", "false")
OPEN = ("exchange.cuh", "            cluster_barrier();\n        } else", "        } else")
MARK = ("exchange.cuh", "d[j].x == ~0u || ", "")
CLEARED = ("recurrent.cuh", "((uint4*)memory)[i] = make_uint4(0, 0, 0, 0);", ";")
BUFFER = ("exchange.cuh", "to[j] + (parity * C::vectors + v) * S::vector_bytes", "to[j] + v * S::vector_bytes")
LATE = ("recurrent.cuh", "multiply(which, Int<1>());", "")


@pytest.mark.parametrize(
    ("fault", "exchange"),
    [
        pytest.param(SUMS, CLUSTER, id="no barrier behind sums"),
        pytest.param(STAGE, CACHE, id="no barrier before values travel"),
        pytest.param(WAIT, CLUSTER, id="no wait for others' values"),
        pytest.param(READERS, CACHE, id="no barrier behind polls", marks=pytest.mark.slow),
        pytest.param(PARITY, CLUSTER, id="parity of another step", marks=pytest.mark.slow),
        pytest.param(OPEN, CLUSTER, id="values before counters are made", marks=pytest.mark.slow),
        pytest.param(MARK, CACHE, id="a word is not looked at", marks=pytest.mark.slow),
        pytest.param(CLEARED, CLUSTER, id="padding is not cleared", marks=pytest.mark.slow),
        pytest.param(BUFFER, CLUSTER, id="one buffer instead of two", marks=pytest.mark.slow),
        pytest.param(LATE, CLUSTER, id="no late products", marks=pytest.mark.slow),
    ],
)
def test_a_planted_mistake_shows(fault: tuple[str, str, str], exchange: Exchange) -> None:
    # Where units are a multiple of the piece that blocks exchange, nobody writes the columns behind them.
    case = double("gru", **(FEW if fault is CLEARED else ODD))
    for seed, eager in ((1, False), (2, True), (3, False), (4, True)):
        machine = Emulator(small(exchange), seed=seed, eager=eager, changed=(fault,), patience=20_000)
        try:
            if wrong(machine, case):
                return
        except EmulationError:
            return
    pytest.fail("the kernel with a mistake gives the right numbers")
