"""The operators on a machine that runs the skeleton: what ``kernels.calls`` is for a machine with programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gatewise.backends import signature
from gatewise.backends.autocast import autocast_dtype
from gatewise.backends.base import CallFacts, Meaning
from gatewise.backends.cuda.design import UnsuitableError
from gatewise.backends.cuda.gradients import Gradients
from gatewise.backends.cuda.gradients import backward as run_backward
from gatewise.backends.cuda.layout import Number
from gatewise.backends.cuda.sequence import INFERENCE, TRACED, TRAINING, Call, Kept, Machine, as_dtype
from gatewise.backends.cuda.sequence import forward as run_forward
from gatewise.backends.kernels.calls import Given, summed
from gatewise.backends.kernels.layout import written_terms
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import make_plans

NUMBERS = {"bf16": Number.BFLOAT16, "fp16": Number.HALF, "tf32": Number.TF32}
"""By the tiers that users see."""
Tensors = Sequence[Tensor]


def forward(machine: Machine, number: Number, meaning: Meaning, tensors: Tensors) -> list[Tensor]:
    """The output (T, B, H), the final states, and where there is a backward, what it needs: (slabs, T, B, H), the last
    in the dtype of the number.

    Raises:
        RuntimeError: for tensors that do not fit the cell or each other, or a cell that the card has no room for.
    """
    cell, options = meaning()
    given = _given(cell, options, tensors)
    keeps = options.training or options.recompute
    if given.empty:
        y = given.like.new_empty(given.shape)
        return [y, *_copies(given.states), *([y.new_empty((0, *y.shape))] if keeps else [])]
    with _running(given.like):
        kept = run_forward(machine, _call(number, cell, options, given), TRAINING if options.training else INFERENCE)
    found = [as_dtype(t, given.like.dtype) for t in (kept.y, *kept.finals)]
    if options.recompute:  # the backward runs the forward again, and needs nothing of this one
        return [*found, kept.y.new_empty(()).expand(len(cell.states) - 1, *given.shape)]
    return [*found, *([kept.saved] if keeps else [])]


def trace(
    machine: Machine, number: Number, meaning: Meaning, tensors: Tensors, gates: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The output and the final states; ``gates``, (gate, T, B, H), is filled with the gates' values."""
    cell, options = meaning()
    given = _given(cell, options, tensors)
    signature.check_shapes(cell, [("gates", gates, ((len(cell.gates), *given.shape),))])
    if given.empty:
        return given.like.new_empty(given.shape), _copies(given.states)
    with _running(given.like):
        kept = run_forward(machine, _call(number, cell, options, given), TRACED)
    gates.copy_(kept.saved)
    return kept.y.to(given.like.dtype), [final.to(given.like.dtype) for final in kept.finals]


def backward(
    machine: Machine,
    number: Number,
    meaning: Meaning,
    tensors: Tensors,
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of operands, inputs, states and parameters; None where nobody wants one."""
    cell, options = meaning()
    given = _given(cell, options, tensors)
    expected = [("output", y, (given.shape,))]
    expected += [("gradient of the output", dy, (given.shape,))] if dy is not None else []
    named = zip(cell.states, finals, strict=True)
    expected += [(f"gradient of final state {n}", t, (given.shape[1:],)) for n, t in named if t is not None]
    signature.check_shapes(cell, expected)
    if given.empty:
        return _of_nothing(options, tensors, finals, wanted)
    call = _call(number, cell, options, given)
    with _running(given.like):
        if options.recompute:
            kept = run_forward(machine, call, TRAINING)
        else:
            kept = Kept(as_dtype(y, number.dtype).contiguous(), saved, [])
        found = run_backward(machine, call, kept, dy, finals, any(wanted[: options.counts[0]]))
    return _listed(cell, options, tensors, found, wanted)


def _listed(
    cell: Cell, options: CallFacts, tensors: Tensors, found: Gradients, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """In the order of the tensors."""
    operands, inputs, _ = options.counts
    first: list[Tensor | None] = [None] * operands
    if any(wanted[:operands]):
        nodes = [*found.operands, *[t.new_zeros(t.shape) for t in tensors[len(found.operands) : operands]]]
        first = [as_dtype(g, t.dtype) for g, t in zip(nodes, tensors, strict=False)]
    written = written_terms(cell)
    named = zip(make_plans(cell).input_terms, tensors[operands : operands + inputs], strict=True)
    first += [summed(value, as_dtype(found.inputs[n], value.dtype) if n in written else None) for n, value in named]
    last = [*found.states, *[found.parameters[name] for name in options.names]]
    rest = zip(last, tensors[operands + inputs :], wanted[operands + inputs :], strict=True)
    return [*first, *[as_dtype(g, t.dtype) if want else None for g, t, want in rest]]


def _of_nothing(
    options: CallFacts, tensors: Tensors, finals: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients where there is no step or no row: those of final states go on to the initial ones."""
    before, states = sum(options.counts[:2]), options.counts[2]
    found: list[Tensor | None] = [t.new_zeros(t.shape) for t in tensors]
    for k, arriving in enumerate(finals[:states]):
        if arriving is not None:
            found[before + k] = arriving.clone()
    return [g if k < before or want else None for k, (g, want) in enumerate(zip(found, wanted, strict=True))]


def _given(cell: Cell, options: CallFacts, tensors: Tensors) -> Given:
    """The tensors, checked against the cell and each other."""
    given = Given(cell, options, tensors)
    signature.check_shapes(cell, given.expected)
    signature.check_together(tensors)
    for what, tensor, _ in given.expected:
        if tensor.dtype != given.like.dtype:
            raise RuntimeError(
                f"{what} of cell {cell.name} must have the dtype of the other tensors, {given.like.dtype}, "
                f"got {tensor.dtype}"
            )
    return given


def _call(number: Number, cell: Cell, options: CallFacts, given: Given) -> Call:
    terms = dict(zip(make_plans(cell).input_terms, given.inputs, strict=True))
    nodes = len(make_plans(cell).inputs)  # a cell that reads no input gets x for the number of steps alone
    parameters = dict(zip(options.names, given.parameters, strict=True))
    return Call(
        cell, number, given.operands[:nodes], terms, given.states, parameters, given.steps, reverse=options.reverse
    )


def _copies(tensors: Tensors) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


@contextlib.contextmanager
def _running(like: Tensor) -> Iterator[None]:
    """Without torch.autocast, which would round the operands of products. A cell that cannot run is an error to who
    asked for this backend by name."""
    plain = autocast_dtype(like.device) is None
    try:
        with contextlib.nullcontext() if plain else torch.autocast(like.device.type, enabled=False):
            yield
    except UnsuitableError as error:
        raise RuntimeError(f"the cuda backend cannot run this call: {error}") from error
