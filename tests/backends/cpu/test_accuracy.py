"""Contract 1: results and all gradients against the reference in float64, for every cell, one thing varied at a time.

``compare`` says what is allowed. Uninitialised memory is NaN in these tests.
"""

from itertools import product
from typing import Any

import pytest
import torch
from comparing import IN_BFLOAT16, Case, compare, threads
from hypothesis import HealthCheck, given, settings
from kernel_cells import ALL, BUILT_IN, OWN
from strategies import cells as random_cells

from gatewise import Cell
from gatewise.backends.cpu import launch, tiers

pytestmark = pytest.mark.usefixtures("poisoned")

DTYPES = [torch.float32, torch.float64]
# Between them: one phase and two, one state and two, keyword inputs of every width, diagonals, a shared bias.
FEW = [ALL[name] for name in ("gru", "lstm", "driven", "halves")]
MANY = [*BUILT_IN.values(), *(ALL[name] for name in ("driven", "masked", "halves", "delayed", "peephole_lstm"))]
# Comparisons, minima, maxima and divisions; no product and one phase.
KINDS_OF_PLANS = [ALL["piecewise"], ALL["ungated"]]
every_cell = pytest.mark.parametrize("cell", ALL.values(), ids=list(ALL))
few_cells = pytest.mark.parametrize("cell", FEW, ids=lambda c: c.name)
fewer_cells = pytest.mark.parametrize("cell", FEW[:3], ids=lambda c: c.name)

# One thing varied: what costs few compilations on every cell, the rest on a few.
CHEAP: list[dict[str, Any]] = [
    *({"steps": n} for n in (0, 2, 9)),
    {"batch": 0},
    {"reverse": True},
    {"bias": False},
    {"redundant": True},
    *({"layout": name} for name in ("transposed", "sliced", "expanded")),
    *({"cotangents": name} for name in ("output", "final", "last")),
    {"layout": "sliced", "reverse": True, "cotangents": "last"},
]
DEAR: list[dict[str, Any]] = [
    {"steps": 1},
    *({"batch": n} for n in (1, 17)),
    *({"inputs": n} for n in (1, 130)),
    {"steps": 200},  # more rows than are projected at once
]


def name(varied: dict[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in varied.items())


@every_cell
def test_every_cell(cell: Cell) -> None:
    compare(Case(cell))


@pytest.mark.parametrize("cell", [*BUILT_IN.values(), OWN["driven"]], ids=[*BUILT_IN, "driven"])
def test_float64(cell: Cell) -> None:
    """The rest of the cells: ``test_everything``."""
    compare(Case(cell, torch.float64))


@pytest.mark.parametrize("cell", MANY, ids=lambda c: c.name)
def test_what_needs_no_other_kernels(cell: Cell) -> None:
    """On the other cells: ``test_everything``."""
    for varied in CHEAP:
        compare(Case(cell, **varied))


@pytest.mark.parametrize("varied", DEAR, ids=name)
@fewer_cells
def test_other_sizes(cell: Cell, varied: dict[str, Any]) -> None:
    compare(Case(cell, **varied))


@pytest.mark.parametrize("tier", [t for t in tiers.available() if t != tiers.detect().name])
@fewer_cells
def test_other_tiers(cell: Cell, tier: str) -> None:
    compare(Case(cell, tier=tier))


@pytest.mark.parametrize("tier", [t for t in tiers.available() if t != tiers.detect().name])
def test_other_tiers_in_float64(tier: str) -> None:
    compare(Case(FEW[0], torch.float64, tier=tier))


@few_cells
def test_only_what_is_asked_for(cell: Cell) -> None:
    """Gradients of some tensors only, of each alone among them."""
    names = ["x", *(f"in.{n}" for n, _ in cell.inputs), *(f"state.{s}" for s in cell.states)]
    names += list(cell.parameter_shapes(5, 65))
    for wanted in [(n,) for n in names] + [tuple(names[::2]), tuple(names[1::2])]:
        compare(Case(cell, wanted=wanted))


@pytest.mark.parametrize("hidden", [1, 7, 63, 64, 100])
@pytest.mark.parametrize("cell", FEW[:2], ids=lambda c: c.name)
def test_odd_sizes(cell: Cell, hidden: int) -> None:
    compare(Case(cell, hidden=hidden))


@pytest.mark.parametrize("count", [2, 3])
def test_threads(count: int) -> None:
    """Units shared out with few rows, rows with many."""
    with threads(count):
        for cell, batch in product(FEW[:2], (3, 24)):
            compare(Case(cell, batch=batch, hidden=100))


@pytest.mark.parametrize("hidden", [1, 40])
def test_threads_where_there_is_little_to_do(hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than units, rows or vectors: some have nothing to do, and barriers still count them."""
    monkeypatch.setattr(launch, "_useful_threads", lambda plan, rows, units, widths, threads: threads)
    monkeypatch.setattr(launch, "_prepared", {})
    with threads(5):
        for cell in FEW:
            compare(Case(cell, batch=2, hidden=hidden))


@given(cell=random_cells())
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_cells(cell: Cell) -> None:
    compare(Case(cell, torch.float64, hidden=9))


@pytest.mark.slow
@given(cell=random_cells())
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_many_random_cells(cell: Cell) -> None:
    compare(Case(cell, torch.float64, hidden=9, batch=2, steps=3))


BEST, *OTHERS = tiers.available()
EVERYTHING = [(cell, dtype, BEST) for cell in ALL.values() for dtype in DTYPES]
EVERYTHING += [(cell, torch.float32, tier) for cell in ALL.values() for tier in IN_BFLOAT16]
# On other tiers those that have every operation and kind of plan among them.
EVERYTHING += [(cell, torch.float32, tier) for cell in [*MANY, *KINDS_OF_PLANS] for tier in OTHERS]
EVERYTHING += [(cell, torch.float64, tier) for cell in [*FEW, ALL["gru_d"], *KINDS_OF_PLANS] for tier in OTHERS]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "dtype", "tier"),
    EVERYTHING,
    ids=lambda v: v.name if isinstance(v, Cell) else str(v).removeprefix("torch."),
)
def test_everything(cell: Cell, dtype: torch.dtype, tier: str) -> None:
    """The axes multiplied, sizes by a fixed sample of their product."""
    sizes = list(product((1, 7, 63, 64, 65, 100), (0, 1, 3, 17), (0, 1, 2, 9), (1, 5, 130)))
    for hidden, batch, steps, inputs in sizes[:: 37 if cell.name not in BUILT_IN else 23]:
        for count, reverse in product((1, 3), (False, True)):
            with threads(count):
                case = Case(cell, dtype, tier, hidden=hidden, batch=batch, steps=steps, inputs=inputs, reverse=reverse)
                compare(case)
    for varied in CHEAP + DEAR:
        if cell.name == "rnn_relu" and dtype == torch.float32 and varied.get("steps", 0) >= 200:
            continue  # its states grow beyond float32, and not-a-number compares with nothing
        compare(Case(cell, dtype, tier, **varied))
