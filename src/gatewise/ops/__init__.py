"""The one torch boundary: a cell over a sequence, differentiable, on the backend that was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gatewise.backends import WITHOUT_KERNELS, choose, cudnn, eager, prologue, signature
from gatewise.backends.base import Choice
from gatewise.compiler.cell import Cell, vector_name
from gatewise.ops import direct, flops, operators, stacked, together
from gatewise.ops.derivatives import OverTime
from gatewise.ops.operators import CallOptions, Keep
from gatewise.quantization import grid
from gatewise.torch_internals import apply, dual_below, in_forward_mode, observed, transforms_active

direct.register()
operators.observers.append(flops.enrol)


def run(
    cell: Cell,
    x: Tensor,
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    *,
    reverse: bool = False,
    recompute: bool = False,
    half: torch.dtype | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run a cell over a sequence on the chosen backend.

    Args:
        x: (T, B, input_size). inputs: keyword inputs, (T, B, width). states: (B, hidden_size) each.
        parameters: by the names of ``Cell.parameter_shapes``; biases may be absent.
        reverse: from the last step to the first; outputs keep their place in time.
        recompute: keep the states alone for a backward, which computes the gates again; not on the eager backend.
        half: what x and the parameters were rounded to; int8: products are of bytes, which kernels make of x, states
            and weights, and there are no gradients. See ``choose``.

    Returns:
        The first state at every step, (T, B, hidden_size), and the final states, (B, hidden_size) each.

    Raises:
        RuntimeError: when a backend asked for by name cannot run the call.
    """
    choice = choose(x.device, x.dtype, half, cell, states[0].shape[-1])
    if half == torch.int8:
        operators.refuse_bytes_in_onnx()
    if choice.name in WITHOUT_KERNELS:
        operators.refuse_steps_in_onnx(f"no kernels run it: {choice.reason}")
        if not torch.compiler.is_compiling():
            signature.check(cell, x, inputs, states, parameters)
            if choice.name == cudnn.NAME and cudnn.suits(x, states[0]) and not _transformed():
                return cudnn.sequence(cell, x, states, parameters, reverse=reverse)
        return eager.sequence(cell, x, inputs, states, parameters, reverse=reverse, product=_product(half))
    operands, terms, parameters = _leaves(cell, x, inputs, states, parameters)
    states = list(states)
    if torch.compiler.is_compiling():  # which takes no tensor twice
        terms, states = ([t.view_as(t) for t in tensors] for tensors in (terms, states))
    flat = (*operands, *terms, *states, *parameters.values())
    watched = observed()
    try:
        differentiable = torch.is_grad_enabled() and True in [t.requires_grad for t in flat]
    except AttributeError:  # a weight was taken away: asked only now, since asking takes time
        signature.check_together(flat)
        raise
    if watched:
        _refuse_forward_mode(flat)
    special = watched and not torch.compiler.is_compiling() and transforms_active()
    if watched and not special and torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        differentiable = False  # what is recorded is the operator itself, whose derivative is that of ``direct``
    counts = (len(operands), len(terms), len(states))
    keep = (Keep.STATES if recompute else Keep.GATES) if differentiable or special else Keep.NOTHING
    options = CallOptions.text(str(choice), reverse, keep, counts, list(parameters))
    if differentiable or special:
        outputs = apply(OverTime, cell.text, options, *flat)
    else:
        outputs = operators.forward(cell.text, options, list(flat))
    return outputs[0], list(outputs[1 : 1 + len(states)])


class Side(NamedTuple):
    """A direction of a layer; see ``run``."""

    inputs: Mapping[str, Tensor]
    states: Sequence[Tensor]
    parameters: Mapping[str, Tensor]
    reverse: bool


def run_sides(
    cell: Cell,
    x: Tensor,
    sides: Sequence[Side],
    *,
    recompute: bool = False,
    half: torch.dtype | None = None,
) -> list[tuple[Tensor, list[Tensor]]]:
    """As ``run`` of each: side by side where that pays, with the same bits."""
    choice = together.way(cell, x, sides[0].states[0].shape[-1], half)
    found = None if choice is None else _beside(choice, cell, x, sides, recompute)
    if found is not None:
        return found
    return [
        run(cell, x, own, states, parameters, reverse=reverse, recompute=recompute, half=half)
        for own, states, parameters, reverse in sides
    ]


def _beside(
    choice: Choice, cell: Cell, x: Tensor, sides: Sequence[Side], recompute: bool
) -> list[tuple[Tensor, list[Tensor]]] | None:
    """As ``run_sides``; None where tensors are such that the dispatcher must see them."""
    leaves = [_leaves(cell, x, side.inputs, side.states, side.parameters) for side in sides]
    groups = [
        (*operands, *terms, *side.states, *parameters.values())
        for side, (operands, terms, parameters) in zip(sides, leaves, strict=True)
    ]
    whole = [t for group in groups for t in group]
    if not operators.plain(whole):
        return None
    differentiable = torch.is_grad_enabled() and True in [t.requires_grad for t in whole]
    if differentiable and not together.reads_inputs(cell):
        return None  # what torch computes before products adds to gradients too, and in another order
    keep = (Keep.STATES if recompute else Keep.GATES) if differentiable else Keep.NOTHING
    options = [
        CallOptions.text(
            str(choice), side.reverse, keep, (len(operands), len(terms), len(side.states)), list(parameters)
        )
        for side, (operands, terms, parameters) in zip(sides, leaves, strict=True)
    ]
    found = together.run(cell, options, groups, differentiable)
    return [(own[0], own[1 : 1 + len(cell.states)]) for own in found]


def wave_front(cell: Cell, x: Tensor, units: int, half: torch.dtype | None) -> Choice | None:
    """What runs layers of the cell as a wave-front, where that pays; see ``run_stack``."""
    choice = together.way(cell, x, units, half)
    return choice if choice is not None and together.reads_x(cell) else None


def run_stack(
    cell: Cell,
    x: Tensor,
    states: Sequence[Sequence[Tensor]],
    parameters: Sequence[Mapping[str, Tensor]],
    choice: Choice,
) -> tuple[Tensor, list[list[Tensor]]] | None:
    """Layers in a wave-front, on a choice of ``wave_front``: the output of the last and the final states of each.
    None where they must run in turn, since the dispatcher must see their tensors."""
    groups = [(*own, *given.values()) for own, given in zip(states, parameters, strict=True)]
    whole = [x, *[t for group in groups for t in group]]
    if not operators.plain(whole):
        return None
    differentiable = torch.is_grad_enabled() and True in [t.requires_grad for t in whole]
    found = stacked.run(choice, cell, x, groups, list(parameters[0]), differentiable)
    return found[-1][0], [own[1 : 1 + len(cell.states)] for own in found]


def trace(
    cell: Cell,
    x: Tensor,
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    gates: Tensor,
    *,
    reverse: bool = False,
    half: torch.dtype | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """As ``run``, without derivatives; ``gates``, (gate, T, B, hidden_size) in the order of ``cell.gates``, is filled
    with their values."""
    choice = choose(x.device, x.dtype, half, cell, states[0].shape[-1])
    if choice.name in WITHOUT_KERNELS:
        signature.check(cell, x, inputs, states, parameters)
        seen = list(zip([cell.gate_value(gate) for gate in cell.gates], gates, strict=True))
        return eager.sequence(cell, x, inputs, states, parameters, reverse=reverse, seen=seen, product=_product(half))
    operands, terms, parameters = _leaves(cell, x, inputs, states, parameters)
    counts = (len(operands), len(terms), len(states))
    options = CallOptions.text(str(choice), reverse, Keep.NOTHING, counts, list(parameters))
    y, finals = torch.ops.gatewise.trace(cell.text, options, [*operands, *terms, *states, *parameters.values()], gates)
    return y, finals


def _product(half: torch.dtype | None) -> eager.Product | None:
    return grid.linear if half == torch.int8 else None


def _leaves(
    cell: Cell,
    x: Tensor,
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
) -> tuple[list[Tensor], list[Tensor], Mapping[str, Tensor]]:
    """Operands of the affine maps, and inputs that are used element-wise; at least one tensor. Then the parameters but
    for vectors, which go along with the inputs."""
    steps, results, names = prologue.prologue(cell.text)
    # Where torch computes before a product, it would broadcast what has another shape.
    if (cell.vectors or len(steps) > len(results)) and not torch.compiler.is_compiling():
        signature.check(cell, x, inputs, states, parameters)
    if cell.vectors:
        inputs = {**inputs, **eager.vectors_over_time(cell, parameters, x)}
        parameters = {n: p for n, p in parameters.items() if not n.startswith(vector_name(""))}
    operands = prologue.operands(steps, results, {"x": x, **inputs})
    if not operands and not names:
        operands = [x.detach()]  # which the cell does not read: it says how many steps there are
    return operands, [inputs[n] for n in names], parameters


def _transformed() -> bool:
    """Whether torch differentiates forward or maps over a batch here, which cuDNN's functions cannot."""
    return observed() and (transforms_active() or in_forward_mode())


def _refuse_forward_mode(tensors: Sequence[Tensor]) -> None:
    if torch.compiler.is_compiling() or not in_forward_mode():
        return
    if any(forward_ad.unpack_dual(t).tangent is not None or dual_below(t) for t in tensors):
        raise RuntimeError(
            "forward-mode derivatives are not computed by kernels; use `with gatewise.backend('eager'):`"
        )
