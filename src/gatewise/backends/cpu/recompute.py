"""Training that keeps the states and nothing else: the backward computes the gates again, some steps at a time.

The forward saves no gates. The backward goes over runs of steps, the last first: the forward of the run, from the state
before it, gives the same bits again; then its backward, whose gradients of the states go on to the run before. So
memory beyond input, output and states is that of one run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gatewise.backends.cpu import gradients, sequence
from gatewise.backends.cpu.gradients import Gradients
from gatewise.backends.cpu.sequence import Call
from gatewise.compiler.plan import make_plans

AT_ONCE = 16 << 20
"""Bytes that one run of steps may take; more where √T steps take more, since every run packs the weights anew."""


def _runs(call: Call) -> list[tuple[int, int]]:
    """The runs of steps in the order of the forward: (first, end)."""
    plans = make_plans(call.cell)
    # Saved values, states and, for every pre-activation, its input product or gradient and two packed copies.
    arrays = len(plans.saved) + len(call.cell.states) + 3 * len(call.cell.uses)
    step = max(1, arrays * call.rows * call.units * call.to.size)
    size = max(1, AT_ONCE // step, math.isqrt(call.steps))
    count = max(1, -(-call.steps // size))
    bounds = [call.steps * k // count for k in range(count + 1)]
    runs = list(pairwise(bounds))
    return runs[::-1] if call.reverse else runs


def _part(call: Call, first: int, end: int, states: Sequence[Tensor]) -> Call:
    """The call over some of its steps, from these states."""
    operands = [o[first:end] for o in call.operands]
    inputs = {name: value[first:end] for name, value in call.inputs.items()}
    return Call(call.cell, call.to, operands, inputs, states, call.parameters, call.reverse, end - first)


def forward(call: Call) -> tuple[Tensor, list[Tensor], Tensor]:
    """The output, the final states, and the states but the first, (states - 1, T, B, H), which is the output."""
    cell, kept = call.cell, call.cell.states[1:]
    y = call.empty(call.steps, call.rows, call.units)
    saved = call.empty(len(kept), *y.shape)
    states = call.states
    for first, end in _runs(call):
        part = _part(call, first, end, states)
        hoist = sequence.hoists(part)
        plan = make_plans(cell, hoist).forward
        y[first:end], states = sequence.recur(part, plan, "forward", hoist, kept, saved[:, first:end])
    return y, list(states), saved


def backward(
    call: Call, y: Tensor, saved: Tensor, dy: Tensor | None, finals: Sequence[Tensor | None], wanted: frozenset[str]
) -> Gradients:
    """As ``gradients.backward``, of what ``forward`` returned."""
    operands = [torch.empty_like(o) for o in call.operands] if "operands" in wanted else []
    inputs = {name: call.empty(*value.shape) for name, value in call.inputs.items()}
    totals = {name: torch.zeros_like(p) for name, p in call.parameters.items() if name in wanted}
    arriving: Sequence[Tensor | None] = finals
    for first, end in reversed(_runs(call)):
        part = _part(call, first, end, _before(call, first, end, y, saved))
        again, _, gates = sequence.forward(part, training=True)
        some = None if dy is None else dy[first:end]
        found = gradients.backward(part, again, gates, some, arriving, wanted, totals)
        for whole, own in zip(operands, found.operands, strict=True):
            whole[first:end] = own
        for name, own in found.inputs.items():
            inputs[name][first:end] = own
        arriving = found.states
    return Gradients(operands, inputs, found.states, totals)


def _before(call: Call, first: int, end: int, y: Tensor, saved: Tensor) -> list[Tensor]:
    """The states that a run of steps starts from."""
    step = end if call.reverse else first - 1
    if not 0 <= step < call.steps:
        return call.states
    return [y[step], *saved[:, step].unbind(0)]
