"""Training that keeps the states and nothing else: the backward computes the gates again, some steps at a time.

The forward saves no gates. The backward goes over runs of steps, the last first: the forward of the run, from the state
before it, gives the same bits again; then its backward, whose gradients of the states go on to the run before. So
memory beyond input, output and states is that of one run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from gatewise.backends.kernels import gradients, sequence
from gatewise.backends.kernels.gradients import Given, Wanted
from gatewise.backends.kernels.memory import Memory
from gatewise.backends.kernels.program import Program
from gatewise.backends.kernels.sequence import Call
from gatewise.compiler.plan import make_plans

AT_ONCE = 16 << 20
"""Bytes that one run of steps may take; more where √T steps take more, since every run packs the weights anew."""


def _runs(call: Call) -> list[tuple[int, int]]:
    """The runs of steps in the order of the forward: (first, end)."""
    plans = make_plans(call.cell)
    # Saved values, states and, for every pre-activation, its input product or gradient and two packed copies.
    arrays = len(plans.saved) + len(call.cell.states) + 3 * len(call.cell.uses)
    step = max(1, arrays * call.rows * call.units * call.space.size)
    size = max(1, AT_ONCE // step, math.isqrt(call.steps))
    count = max(1, -(-call.steps // size))
    bounds = [call.steps * k // count for k in range(count + 1)]
    runs = list(pairwise(bounds))
    return runs[::-1] if call.reverse else runs


def backward(program: Program, call: Call, given: Given, wanted: Wanted) -> None:
    """As ``gradients.backward``, into fresh memory; ``given.saved`` holds all states but the output."""
    slabs = sequence.gate_slabs(call.cell)
    arriving: Sequence[Memory | None] = given.finals
    between = [[program.take(call.rows, call.units) for _ in call.states] for _ in (0, 1)]
    runs = _runs(call)
    for k, (first, end) in enumerate(reversed(runs)):
        leaving = wanted.states if k == len(runs) - 1 else between[k % 2]
        with program.temporary():
            part = _part(call, first, end, _before(call, first, end, given))
            y = program.take(end - first, call.rows, call.units)
            finals = [program.take(call.rows, call.units) for _ in call.states]
            saved = program.take(len(slabs), *y.shape)
            sequence.forward(program, part, y, finals, slabs, saved, training=True)
            dy = None if given.dy is None else given.dy.some(first, end)
            operands = [o.some(first, end) for o in wanted.operands]
            terms = {name: term.some(first, end) for name, term in wanted.terms.items()}
            own = Wanted(operands, terms, leaving, wanted.parameters)
            gradients.backward(program, part, Given(y, saved, dy, arriving), own, fresh=k == 0)
        arriving = leaving


def _part(call: Call, first: int, end: int, states: Sequence[Memory]) -> Call:
    """The call over some of its steps, from these states."""
    operands = [o.some(first, end) for o in call.operands]
    inputs = {name: value.some(first, end) for name, value in call.inputs.items()}
    steps = end - first
    return Call(call.cell, call.space, operands, inputs, states, call.parameters, call.reverse, steps)


def _before(call: Call, first: int, end: int, given: Given) -> Sequence[Memory]:
    """The states that a run of steps starts from."""
    step = end if call.reverse else first - 1
    if not 0 <= step < call.steps:
        return call.states
    return [given.y.at(step), *(given.saved.at(k).at(step) for k in range(len(call.states) - 1))]
