"""The backward of a sequence on the cpu backend: kernels for what recurs, then sums over time and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.backends.cpu.launch import place
from gatewise.backends.cpu.layout import gradient_order, runs, written_terms
from gatewise.backends.cpu.reduce import reduce
from gatewise.backends.cpu.sequence import Call, lanes, turns
from gatewise.compiler.plan import Plans, make_plans


@dataclass
class Gradients:
    operands: list[Tensor]
    inputs: dict[str, Tensor]
    states: list[Tensor]
    parameters: dict[str, Tensor]


def backward(
    call: Call,
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    wanted: frozenset[str],
    totals: Mapping[str, Tensor] | None = None,
) -> Gradients:
    """Gradients of everything.

    Args:
        y, saved: what ``forward(training=True)`` returned.
        dy: gradient of the output, (T, B, H). finals: gradients of the final states. None means zero.
        wanted: names of the parameters whose gradients are needed, and ``operands`` for those of the inputs.
        totals: what the gradients of those parameters are added to; zeros when absent.
    """
    used = gradient_order(call.cell)
    d = call.empty(call.steps, call.rows, len(used), call.units)
    terms = {name: call.empty(call.steps, call.rows, call.units) for name in written_terms(call.cell)}
    states = _sequence(call, y, saved, dy, finals, d, used, terms)
    inputs = {name: _input(value, terms.get(name)) for name, value in call.inputs.items()}
    operands = [_operand(call, k, d, used) for k in range(len(call.operands))] if "operands" in wanted else []
    if totals is None:
        totals = {name: torch.zeros_like(p) for name, p in call.parameters.items() if name in wanted}
    for name, total in totals.items():
        _add_parameter(call, name, total, y, saved, d, used)
    return Gradients(operands, inputs, states, dict(totals))


def _input(value: Tensor, term: Tensor | None) -> Tensor:
    """The gradient of a keyword input from its terms of hidden width; one of width 1 sums them over units."""
    if term is None:
        return value.new_zeros(value.shape)
    return term if value.shape[-1] == term.shape[-1] != 1 else term.sum(-1, keepdim=True)


def _plans(call: Call) -> Plans:
    return make_plans(call.cell)


def _sequence(
    call: Call,
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    d: Tensor,
    used: Sequence[int],
    terms: Mapping[str, Tensor],
) -> list[Tensor]:
    """The recurrence, last step first: fills ``d`` and ``terms``, returns the gradients of the initial states."""
    plans, cell = _plans(call), call.cell
    zero = torch.zeros(1, 1, call.units, dtype=y.dtype)
    incoming = [lanes(f) if f is not None else zero[0].expand(call.rows, -1) for f in finals]
    if y.numel() == 0:
        return [f.clone() for f in incoming]
    dy = lanes(dy) if dy is not None else zero.expand(call.steps, call.rows, -1)
    places = call.element_wise(backward=True) | call.scratch(plans.backward)
    places["dy"] = call.over_time(dy, backward=True)
    places |= {name: call.over_time(saved[k], backward=True) for k, name in enumerate(plans.saved)}
    places |= {f"term.{name}": call.over_time(term, backward=True) for name, term in terms.items()}
    places |= {f"d.{i}": call.over_time(d[:, :, k], backward=True) for k, i in enumerate(used)}
    for state, initial in zip(cell.states, call.states, strict=True):
        values = _history(call, state, y, saved)
        if values is not None:
            now = call.over_time(values, backward=True)
            places[f"now.{state}"] = now
            # The value before a step is that after the step before it, which comes next on the way back.
            special = (call.steps - 1, initial.data_ptr(), initial.stride(0) * call.to.size)
            places[f"state.{state}"] = (now[0] + now[1], now[1], now[2], -1, 0, *special)
    adjoints = []
    for state, arriving in zip(cell.states, incoming, strict=True):
        adjoints.append(call.empty(turns(plans.backward, f"adjoint.{state}"), call.rows, call.units))
        places[f"adjoint.{state}"] = call.carried(adjoints[-1], arriving, whole=False)
    call.run("backward", plans.backward, places, "copied")
    return [a[(call.steps - 1) & (len(a) - 1)].clone() for a in adjoints]


def _history(call: Call, state: str, y: Tensor, saved: Tensor) -> Tensor | None:
    if state == call.cell.states[0]:
        return y
    histories = _plans(call).histories
    return saved[len(_plans(call).saved) + histories.index(state)] if state in histories else None


def _operand(call: Call, k: int, d: Tensor, used: Sequence[int]) -> Tensor:
    """dx = Σ δ W over the uses of an input-like operand."""
    plan, width = _plans(call).inputs[k], call.operands[k].shape[-1]
    result = call.empty(*call.operands[k].shape)
    if not plan.phases[-1].products:
        return result.zero_()
    size = d.element_size()
    row = d.stride(1) * size
    places = {f"d.{i}": place(d.data_ptr() + j * call.units * size, 0, row) for j, i in enumerate(used)}
    places["dx"] = place(result.data_ptr(), 0, width * size)
    call.run_rows(f"input {k}", plan, places, "copied", width, {f"d.{i}": call.units for i in used})
    return result


def _add_parameter(
    call: Call, name: str, total: Tensor, y: Tensor, saved: Tensor, d: Tensor, used: Sequence[int]
) -> None:
    """Add the gradient of one parameter to ``total``: sums over time and batch."""
    cell = call.cell
    if d.shape[0] * d.shape[1] == 0:
        return
    if name == "weight_diagonal":
        for row, (i, _) in enumerate(cell.diagonals):
            if i in used:
                values, first = _values(call, _plans(call).diagonal_of[row], y, saved)
                _accumulate_diagonal(call, total[row], d[:, :, used.index(i)], values, first)
        return
    for run in runs(cell, call.bias_blocks, name):
        rows = slice(run.first * call.units, (run.first + run.blocks) * call.units)
        part = d[:, :, run.slab : run.slab + run.blocks]
        if not run.source:
            total[rows] += part.sum((0, 1)).flatten()
            continue
        values, first = _values(call, run.source, y, saved)
        _accumulate_product(call, total[rows], part, values, first)


def _values(call: Call, source: str, y: Tensor, saved: Tensor) -> tuple[Tensor, Tensor | None]:
    """An array over time by its name in the plans; for a state before each step, also its initial value, and the
    array is then that after each step."""
    kind, _, name = source.partition(".")
    if kind == "operand":
        return call.operands[int(name)], None
    if kind == "in":
        return call.inputs[name], None
    if kind in ("state", "now"):
        values = _history(call, name, y, saved)
        assert values is not None
        return values, call.states[call.cell.states.index(name)] if kind == "state" else None
    return saved[_plans(call).saved.index(source)], None


def _shifted(call: Call, d: Tensor, values: Tensor, initial: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs of gradients and the states before them: all steps but the first, and the first."""
    if call.reverse:
        return [(d[:-1], values[1:]), (d[-1:], initial[None])]
    return [(d[1:], values[:-1]), (d[:1], initial[None])]


def _accumulate_product(call: Call, total: Tensor, d: Tensor, values: Tensor, initial: Tensor | None) -> None:
    pairs = [(d, values)] if initial is None else _shifted(call, d, values, initial)
    for delta, operand in pairs:
        reduce(call.to, total, delta, operand)


def _accumulate_diagonal(call: Call, total: Tensor, d: Tensor, values: Tensor, initial: Tensor | None) -> None:
    pairs = [(d, values)] if initial is None else _shifted(call, d, values, initial)
    for delta, operand in pairs:
        total += (delta * operand).sum((0, 1))
