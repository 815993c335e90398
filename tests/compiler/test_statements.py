"""Expressions as C: printed, compiled by the host's compiler, and compared with eager."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from compiling import C, library, needs_c
from hypothesis import HealthCheck, given, settings
from kernel_cells import ALL
from strategies import cells as random_cells

from gatewise import Cell
from gatewise.backends.eager import evaluate
from gatewise.compiler.expression import Node, const, make
from gatewise.compiler.functions import hard_sigmoid, maximum, minimum, relu, sigmoid, softplus, tanh, where
from gatewise.compiler.plan import make_plans, traced
from gatewise.compiler.schedule import Phase
from gatewise.compiler.statements import c99, definitions, statements

REALS = {torch.float32: "float", torch.float64: "double"}
NUMBERS = 200
"""Values of each leaf that a test tries."""
X = make("input", (), "x", "hidden")
Y = make("state", (), "y", "hidden")


def phases(cell: Cell) -> Iterator[Phase]:
    """Every epilogue of every plan."""
    for hoist in (True, False):
        plans = make_plans(cell, hoist)
        for plan in (plans.forward, plans.training, plans.backward, traced(cell, hoist)):
            yield from (phase for phase in plan.phases if phase.stores)


def leaves(phase: Phase) -> list[Node]:
    return [*phase.loads, *phase.sums]


def function(name: str, roots: list[Node], given: list[Node], real: str) -> str:
    """A C function from values of the leaves to those of the roots."""
    known = {node: f"in[{k}]" for k, node in enumerate(given)}
    lines, results = statements(roots, known, c99(real))
    body = [*lines, *(f"out[{k}] = {result};" for k, result in enumerate(results))]
    head = f"void {name}(const {real} *in, {real} *out) {{\n"
    return head + "".join(f"    {line}\n" for line in body) + "}\n"


def compiled(functions: list[str], real: str, folder: Path) -> ctypes.CDLL:
    source = folder / f"{real}.c"
    source.write_text("\n".join(["#include <math.h>", *definitions(c99(real)), *functions]))
    # No contraction: products and sums are rounded as eager's are.
    flags = ["-std=c99", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    return library(source, C, flags)


def called(code: ctypes.CDLL, name: str, values: torch.Tensor, results: int) -> torch.Tensor:
    """(trial, leaf) to (trial, root)."""
    values = values.contiguous()
    out = values.new_empty(values.shape[0], results)
    for k in range(values.shape[0]):
        getattr(code, name)(ctypes.c_void_p(values[k].data_ptr()), ctypes.c_void_p(out[k].data_ptr()))
    return out


def truth(roots: list[Node], given: list[Node], values: torch.Tensor) -> torch.Tensor:
    found = evaluate(roots, dict(zip(given, values.unbind(1), strict=True)))
    like = values.new_ones(values.shape[0])
    return torch.stack([like * value for value in found], 1)


def agree(found: torch.Tensor, roots: list[Node], given: list[Node], values: torch.Tensor) -> None:
    """Wrong by no more than twice what eager is in the same dtype, and a few units of the last place."""
    exact, theirs = truth(roots, given, values.double()), truth(roots, given, values).double()
    assert torch.equal(found.isnan(), theirs.isnan())
    finite = exact.isfinite() & theirs.isfinite()
    assert torch.equal(found[~finite].double(), theirs[~finite]) or found[~finite].isnan().all()
    if finite.any():
        largest = exact[finite].abs().max()
        error = (found.double() - exact)[finite].abs().max()
        unit = torch.finfo(values.dtype).eps * largest
        assert error <= 2 * (theirs - exact)[finite].abs().max() + 8 * unit


def check(cells: dict[str, Cell], dtype: torch.dtype, folder: Path) -> None:
    work = {}
    for name, cell in cells.items():
        for k, phase in enumerate(phases(cell)):
            work[f"{name}_{k}"] = ([node for _, node in phase.stores], leaves(phase))
    code = compiled([function(name, *w, REALS[dtype]) for name, w in work.items()], REALS[dtype], folder)
    generator = torch.Generator().manual_seed(0)
    for name, (roots, read) in work.items():
        values = torch.randn(NUMBERS, len(read), generator=generator, dtype=torch.float64).to(dtype)
        agree(called(code, name, values, len(roots)), roots, read, values)


@needs_c
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_every_epilogue_of_every_cell(dtype: torch.dtype, tmp_path: Path) -> None:
    check(ALL, dtype, tmp_path)


@needs_c
@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cell=random_cells())
def test_random_cells(cell: Cell, tmp_path: Path) -> None:
    from uuid import uuid4

    folder = tmp_path / uuid4().hex  # a library keeps its name as long as it is loaded
    folder.mkdir()
    check({"random": cell}, torch.float64, folder)


@needs_c
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_far_and_undefined_values(dtype: torch.dtype, tmp_path: Path) -> None:
    """Saturation, both sides of every kink, infinities and NaN."""
    roots = [sigmoid(X), tanh(X), relu(X), softplus(X), hard_sigmoid(X), hard_sigmoid(X, -0.2, 0.4)]
    roots += [minimum(X, Y), maximum(X, Y), where(X < Y, X, -Y), where(X >= 0.5, sigmoid(X), tanh(Y))]
    code = compiled([function("f", roots, [X, Y], REALS[dtype])], REALS[dtype], tmp_path)
    edges = torch.tensor(
        [-1e4, -100, -3, -0.0, 0.0, 1e-8, 0.5, 3, 19.999, 20, 100, 1e4, torch.inf, -torch.inf, torch.nan]
    )
    values = torch.cartesian_prod(edges, edges).to(dtype)
    found, theirs = called(code, "f", values, len(roots)), truth(roots, [X, Y], values)
    torch.testing.assert_close(found, theirs, equal_nan=True, rtol=8 * torch.finfo(dtype).eps, atol=1e-30)


def test_shared_values_are_computed_once() -> None:
    gate = sigmoid(X)
    lines, (a, b) = statements([gate * Y, gate - 1.0], {X: "x", Y: "y"}, c99("float"))
    assert lines == ["const float v0 = gatewise_sigmoid(x);"]
    assert (a, b) == ("v0 * y", "v0 - 1.0f")


def test_a_result_that_another_is_made_of_is_named() -> None:
    lines, (a, b) = statements([X * Y, X * Y + X], {X: "x", Y: "y"}, c99("double"))
    assert (lines, a, b) == (["const double v0 = x * y;"], "v0", "v0 + x")


def test_negative_numbers_stand_in_parentheses() -> None:
    assert statements([X - const(-0.5), const(-2.0)], {X: "x"}, c99("double"))[1] == ["x - (-0.5)", "-2.0"]


def test_what_is_known_is_not_computed_again() -> None:
    gate = sigmoid(X)
    assert statements([gate * gate], {gate: "kept"}, c99("float")) == ([], ["kept * kept"])


def test_deep_expressions_are_cut_into_lines() -> None:
    value = X
    for _ in range(500):
        value = 1.0 - value * X
    lines, (last,) = statements([value], {X: "x"}, c99("float"))
    assert max(len(line) for line in [*lines, last]) < 250
