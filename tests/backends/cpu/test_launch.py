"""When threads are used and how many, and what a call leaves behind."""

import gc

import pytest
import torch
from comparing import Case, evaluate, problem, same_bits, threads
from kernel_cells import ALL

from gatewise.backends.cpu import launch
from gatewise.compiler.plan import make_plans

PLAN = make_plans(ALL["gru"]).forward


@pytest.mark.parametrize(
    ("rows", "units", "given", "expected"),
    [
        (1, 8, 4, 1),  # nothing to share
        (1, 1024, 4, 4),
        (64, 64, 4, 4),
        (64, 64, 1, 1),
        (0, 1024, 4, 1),
    ],
)
def test_threads_where_they_pay(rows: int, units: int, given: int, expected: int) -> None:
    assert launch._useful_threads(PLAN, rows, units, {}, given) == expected


def test_kernels_follow_torchs_number_of_threads() -> None:
    p = problem(Case(ALL["gru"], hidden=200, batch=2))
    results = {}
    for count in (1, 2, 4, 1):
        with threads(count):
            found = evaluate(p, "cpu")
            used = {prepared.header[2] for key, prepared in launch._prepared.items() if key[-1] == count}
        assert max(used) == count
        same_bits(results.setdefault("first", found), found)


def test_targets() -> None:
    for dtype, size in ((torch.float32, 4), (torch.float64, 8)):
        to = launch.target("avx2", dtype)
        assert (to.size, to.length) == (size, 32 // size)


def test_memory_is_given_back() -> None:
    """A hundred calls leave no tensor behind."""

    def alive() -> int:
        gc.collect()
        return sum(type(o) is torch.Tensor for o in gc.get_objects())

    p = problem(Case(ALL["lstm"], batch=2))
    evaluate(p, "cpu")
    before = alive()
    for _ in range(100):
        evaluate(p, "cpu")
    assert alive() <= before
