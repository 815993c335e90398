"""Gradients of weights and biases from those of the pre-activations: a stage that sums over time and batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

from gatewise.backends.cpu import jit, openmp, sums
from gatewise.backends.cpu.launch import Target
from gatewise.backends.cpu.products import KINDS
from gatewise.backends.cpu.sums import Loops
from gatewise.backends.cpu.tiers import Tier
from gatewise.backends.kernels.memory import Memory, Rows
from gatewise.backends.kernels.program import Job, Program

_PAGE = 4096
_WORTH_SHARING = 1 << 16
"""Numbers of δ from which a second thread helps."""


@lru_cache(maxsize=16)
def _loops(tier: Tier, dtype: str) -> Loops:
    return KINDS[tier.products].sums(tier, dtype)


@lru_cache(maxsize=16)
def _kernel(tier: Tier, dtype: str) -> int:
    return jit.load(f"sums {dtype}", _loops(tier, dtype).text, tier, sums.ENTRIES).address("share")


def reduce(program: Program, to: Target, one: int, delta: Memory, jobs: Sequence[Job]) -> None:
    """Do all jobs.

    Args:
        one: the address of a one. delta: (rows, numbers) of gradients of pre-activations.
    """
    count, numbers = delta.shape
    dtype = str(to.dtype).removeprefix("torch.")
    loops = _loops(to.tier, dtype)
    operands = {job.operand: job.total.shape[1] for job in jobs}
    tables = {o: _slots(o or ((one, 0, count),), width) for o, width in operands.items()}
    used, depth = 0, min(count, loops.run)
    for table in tables.values():
        table[sums.PANEL] = used
        used += loops.operand_bytes(table[sums.WIDTH], depth)
    left = used
    used += loops.left_bytes(depth)
    used += -used % _PAGE + _PAGE // 2  # so that the threads' panels do not share cache sets
    threads = openmp.threads() if count * numbers > _WORTH_SHARING else 1
    scratch = program.take(threads * used // to.size)
    parts = _parts([(job.first, job.total.shape[0]) for job in jobs])
    frame = [count, delta.base, delta.strides[0], scratch.base, used, left, len(tables), len(parts)]
    for table in tables.values():
        frame += table
    order = list(tables)
    for first, last, members in parts:
        frame += (first * to.size, last - first, len(members))
        for job in (jobs[i] for i in members):
            row = job.total.strides[0]
            operand = sums.HEAD + sums.OPERAND_SLOTS * order.index(job.operand)
            frame += (operand, job.total.base + (first - job.first) * row, row)
    program.stage(_kernel(to.tier, dtype), frame, threads=threads)


def _slots(pieces: Sequence[Rows], width: int) -> list[int]:
    """An operand in the frame: the last piece in its place, the one before it as special rows."""
    base, row, _ = pieces[-1]
    if len(pieces) == 1:
        return [base, row, width, 0, 0, 0, 0, 0]
    special, special_row, before = pieces[0]
    return [base - before * row, row, width, 0, 0, before, special, special_row]


def _parts(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int, list[int]]]:
    """The columns of δ cut where a job begins or ends: (first, last, the jobs that take them)."""
    cuts = sorted({edge for first, length in ranges for edge in (first, first + length)})
    found = []
    for low, high in itertools.pairwise(cuts):
        members = [i for i, (first, length) in enumerate(ranges) if first <= low and high <= first + length]
        if members:
            found.append((low, high, members))
    return found
