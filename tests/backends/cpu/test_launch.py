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


@pytest.mark.parametrize(
    ("sizes", "given", "expected"),
    [
        ((200, 1, 64), 2, True),  # a call takes one thread
        ((200, 4, 64), 8, True),
        ((200, 1, 256), 2, True),  # a call takes both, which meet in every step
        ((200, 1, 256), 4, False),  # two would leave two idle
        ((200, 1, 512), 2, False),  # each core keeps half of the weights
        ((200, 64, 64), 2, False),  # threads share out the rows, and do not meet
        ((2, 1, 64), 2, False),  # over before a thread wakes
        ((200, 1, 64), 1, False),
    ],
)
def test_side_by_side_where_threads_idle(sizes: tuple[int, int, int], given: int, expected: bool) -> None:
    steps, rows, units = sizes
    assert launch.idle(PLAN, steps, rows, units, {}, 4, given) == expected


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
