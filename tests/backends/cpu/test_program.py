"""Scratch memory that calls lend each other: nothing of what lies there reaches a result, and no two use it at once."""

import threading

import pytest
import torch
from comparing import Case, evaluate, problem, same_bits
from kernel_cells import ALL

from gatewise.backends.cpu import program


@pytest.mark.parametrize("name", ["gru", "lstm", "gru_d"])
def test_what_lies_in_lent_memory_does_not_matter(name: str) -> None:
    p = problem(Case(ALL[name], hidden=5, inputs=3))
    found = []
    for byte in (0, 255):
        evaluate(p, "cpu")  # so that there is some to lend
        assert program._spare
        for memory in program._spare:
            memory.fill_(byte)
        found.append(evaluate(p, "cpu"))
    same_bits(*found)


def test_calls_side_by_side_lend_from_several() -> None:
    problems = [problem(Case(ALL["gru"], hidden=5, inputs=3, seed=seed)) for seed in range(6)]
    expected = [evaluate(p, "cpu") for p in problems]
    start, wrong = threading.Barrier(6), list[int]()

    def work(k: int) -> None:
        start.wait()
        for _ in range(200):
            found = evaluate(problems[k], "cpu")
            if not all(torch.equal(found[name], value) for name, value in expected[k].items()):
                wrong.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert len({memory.data_ptr() for memory in program._spare}) == len(program._spare)
