"""The one torch boundary: a cell over a sequence, differentiable, on the backend that was chosen.

Two operators, ``gatewise::forward`` and ``gatewise::backward``, take a cell by its text, so that an exported program
runs in a fresh process. One autograd function wraps them; its backward is a second one, whose own derivative goes
through ``torch.func.vjp`` of the eager reference: ``register_autograd`` on the operators instead gave silently wrong
second derivatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gatewise.backends import choose, eager
from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import Node, postorder
from gatewise.compiler.plan import input_operands, make_plans
from gatewise.compiler.text import parse

_library = torch.library.Library("gatewise", "DEF")
_library.define(
    "forward(str cell, str options, Tensor[] operands, Tensor[] inputs, Tensor[] states, Tensor[] parameters) "
    "-> (Tensor, Tensor[], Tensor)"
)
_library.define(
    "backward(str cell, str options, Tensor[] operands, Tensor[] inputs, Tensor[] states, Tensor[] parameters, "
    "Tensor y, Tensor saved, Tensor? dy, Tensor?[] finals, bool[] wanted) -> Tensor[]"
)

_cell = lru_cache(maxsize=256)(parse)


class Options:
    """What the operators need to know beside tensors, as one string: tier, direction, parameter names, training."""

    def __init__(self, tier: str, reverse: bool, names: tuple[str, ...], training: bool) -> None:
        self.tier, self.reverse, self.names, self.training = tier, reverse, names, training

    @staticmethod
    @lru_cache(maxsize=256)
    def text(tier: str, reverse: bool, names: tuple[str, ...], training: bool) -> str:
        return f"{tier} {int(reverse)} {int(training)} {' '.join(names)}"

    @staticmethod
    @lru_cache(maxsize=256)
    def read(text: str) -> Options:
        tier, reverse, training, *names = text.split()
        return Options(tier, reverse == "1", tuple(names), training == "1")


def run(
    cell: Cell,
    x: Tensor,
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    *,
    reverse: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """Run a cell over a sequence on the chosen backend.

    Args:
        x: (T, B, input_size). inputs: keyword inputs, (T, B, width). states: (B, hidden_size) each.
        parameters: by the names of ``Cell.parameter_shapes``; biases may be absent.
        reverse: from the last step to the first; outputs keep their place in time.

    Returns:
        The first state at every step, (T, B, hidden_size), and the final states, (B, hidden_size) each.

    Raises:
        RuntimeError: when a backend asked for by name cannot run the call.
    """
    choice = choose(x.device, x.dtype)
    if choice.name == "eager":
        return eager.sequence(cell, x, inputs, states, parameters, reverse=reverse)
    leaves = {"x": x, **inputs}
    pairs = input_operands(cell)
    values: dict[Node, Any] = {n: leaves[str(n.attr)] for n in postorder([p for _, p in pairs]) if n.op == "input"}
    operands = eager.evaluate([node for _, node in pairs], values)
    names = make_plans(cell).input_terms
    if not operands and not names:
        operands = [x.detach()]  # which the cell does not read: it says how many steps there are
    flat = (*operands, *(inputs[n] for n in names), *states, *parameters.values())
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in flat)
    special = torch._C._functorch.peek_interpreter_stack() is not None
    options = Options.text(choice.tier, reverse, tuple(parameters), differentiable or special)
    if differentiable or special:
        outputs = _apply(_Sequence, cell.text, options, (len(operands), len(names)), *flat)
        return outputs[0], list(outputs[1:-1])
    y, finals, _ = torch.ops.gatewise.forward(
        cell.text, options, operands, [inputs[n] for n in names], list(states), list(parameters.values())
    )
    return y, finals


def _apply(function: Any, *arguments: Any) -> Any:
    """``function.apply``, which torch leaves untyped."""
    return function.apply(*arguments)


def _split(
    cell: Cell, counts: tuple[int, int], flat: Sequence[Any]
) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Operands, inputs, states, parameters."""
    a, b = counts
    c = a + b + len(cell.states)
    return list(flat[:a]), list(flat[a : a + b]), list(flat[a + b : c]), list(flat[c:])


class _Sequence(torch.autograd.Function):
    """(cell, options, counts, *tensors) → (y, *finals, saved)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cell: str, options: str, counts: tuple[int, int], *flat: Tensor) -> tuple[Tensor, ...]:
        y, finals, saved = torch.ops.gatewise.forward(cell, options, *_split(_cell(cell), counts, flat))
        return (y, *finals, saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        cell, options, counts, *flat = inputs
        ctx.cell, ctx.options, ctx.counts = cell, options, counts
        ctx.mark_non_differentiable(output[-1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*flat, output[0], output[-1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *rest: Tensor | None) -> tuple[Any, ...]:
        *flat, y, saved = ctx.saved_tensors
        wanted = tuple(bool(need) for need in ctx.needs_input_grad[3:])
        grads = _apply(_Backward, ctx.cell, ctx.options, ctx.counts, wanted, len(flat), *flat, y, saved, dy, *rest[:-1])
        return (None, None, None, *(g if w else None for g, w in zip(grads, wanted, strict=True)))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(
            "forward-mode derivatives are not computed by the cpu backend; use `with gatewise.backend('eager'):`"
        )


class _Backward(torch.autograd.Function):
    """The gradient as a function of its own, so that it can be differentiated again, through eager."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        cell: str, options: str, counts: tuple[int, int], wanted: tuple[bool, ...], n: int, *tensors: Any
    ) -> tuple[Tensor, ...]:
        flat, y, saved, dy, finals = tensors[:n], tensors[n], tensors[n + 1], tensors[n + 2], tensors[n + 3 :]
        parts = _split(_cell(cell), counts, flat)
        return tuple(torch.ops.gatewise.backward(cell, options, *parts, y, saved, dy, list(finals), list(wanted)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.cell, ctx.options, ctx.counts, _, ctx.n, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.present = tuple(t is not None for t in tensors[ctx.n + 2 :])
        ctx.save_for_backward(*tensors[: ctx.n], *(t for t in tensors[ctx.n + 2 :] if t is not None))

    @staticmethod
    def backward(ctx: Any, *second: Tensor | None) -> tuple[Any, ...]:
        flat, arrived = ctx.saved_tensors[: ctx.n], ctx.saved_tensors[ctx.n :]

        def gradients(flat: tuple[Tensor, ...], arrived: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            results: Any = torch.func.vjp(lambda *f: _eager(ctx.cell, ctx.options, ctx.counts, f), *flat)
            outputs, pull = results
            remaining = list(arrived)
            given = [remaining.pop(0) if p else torch.zeros_like(o) for p, o in zip(ctx.present, outputs, strict=True)]
            return tuple(pull(tuple(given)))

        results: Any = torch.func.vjp(gradients, flat, arrived)
        outputs, pull = results
        cotangents = tuple(torch.zeros_like(o) if s is None else s for s, o in zip(second, outputs, strict=True))
        d_flat, d_arrived = pull(cotangents)
        rest = list(d_arrived)
        tail = [rest.pop(0) if p else None for p in ctx.present]
        return (None, None, None, None, None, *d_flat, None, None, *tail)


def _eager(cell_text: str, options: str, counts: tuple[int, int], flat: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same function of the same tensors on the eager backend."""
    cell, opts = _cell(cell_text), Options.read(options)
    operands, inputs, states, parameters = _split(cell, counts, flat)
    nodes = [node for _, node in input_operands(cell)]
    names = make_plans(cell).input_terms
    y, finals = eager.interpret(
        cell,
        dict(zip(nodes, operands[: len(nodes)], strict=True)),
        dict(zip(names, inputs, strict=True)),
        states,
        dict(zip(opts.names, parameters, strict=True)),
        steps=_steps(operands, inputs),
        reverse=opts.reverse,
    )
    return (y, *finals)


def _call(cell: str, opts: Options, operands: Any, inputs: Any, states: Any, parameters: Any) -> Any:
    from gatewise.backends.cpu import launch, sequence

    traced = _cell(cell)
    return sequence.Call(
        traced,
        launch.target(opts.tier, states[0].dtype),
        operands,
        dict(zip(make_plans(traced).input_terms, inputs, strict=True)),
        states,
        dict(zip(opts.names, parameters, strict=True)),
        opts.reverse,
        _steps(operands, inputs),
    )


def _steps(operands: Sequence[Tensor], inputs: Sequence[Tensor]) -> int:
    return int((*operands, *inputs)[0].shape[0])


def _forward_cpu(
    cell: str,
    options: str,
    operands: list[Tensor],
    inputs: list[Tensor],
    states: list[Tensor],
    parameters: list[Tensor],
) -> tuple[Tensor, list[Tensor], Tensor]:
    from gatewise.backends.cpu import sequence

    opts = Options.read(options)
    return sequence.forward(_call(cell, opts, operands, inputs, states, parameters), training=opts.training)


def _forward_fake(
    cell: str,
    options: str,
    operands: list[Tensor],
    inputs: list[Tensor],
    states: list[Tensor],
    parameters: list[Tensor],
) -> tuple[Tensor, list[Tensor], Tensor]:
    opts, plans = Options.read(options), make_plans(_cell(cell))
    steps = (*operands, *inputs)[0].shape[0]
    y = states[0].new_empty((steps, *states[0].shape))
    slabs = len(plans.saved) + len(plans.histories) if opts.training else 0
    return (
        y,
        [torch.empty_like(s, memory_format=torch.contiguous_format) for s in states],
        y.new_empty((slabs, *y.shape)),
    )


def _backward_cpu(
    cell: str,
    options: str,
    operands: list[Tensor],
    inputs: list[Tensor],
    states: list[Tensor],
    parameters: list[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: list[Tensor | None],
    wanted: list[bool],
) -> list[Tensor]:
    from gatewise.backends.cpu import gradients

    opts = Options.read(options)
    first = len(wanted) - len(opts.names)
    names = {name for name, want in zip(opts.names, wanted[first:], strict=True) if want}
    if any(wanted[: len(operands)]):
        names.add("operands")
    call = _call(cell, opts, operands, inputs, states, parameters)
    found = gradients.backward(call, y, saved, dy, finals, frozenset(names))
    nothing = y.new_empty(0)
    return [
        *(found.operands or [nothing] * len(operands)),
        *found.inputs.values(),
        *found.states,
        *(found.parameters.get(name, nothing) for name in opts.names),
    ]


def _backward_fake(
    cell: str,
    options: str,
    operands: list[Tensor],
    inputs: list[Tensor],
    states: list[Tensor],
    parameters: list[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: list[Tensor | None],
    wanted: list[bool],
) -> list[Tensor]:
    flat = [*operands, *inputs, *states, *parameters]
    opts = Options.read(options)
    any_operand = any(wanted[: len(operands)])
    first = len(wanted) - len(opts.names)
    made = [any_operand if k < len(operands) else k < first or wanted[k] for k in range(len(flat))]
    return [t.new_empty(t.shape) if m else t.new_empty(0) for t, m in zip(flat, made, strict=True)]


_library.impl("forward", _forward_cpu, "CPU")
_library.impl("backward", _backward_cpu, "CPU")
torch.library.register_fake("gatewise::forward", _forward_fake, lib=_library)
torch.library.register_fake("gatewise::backward", _backward_fake, lib=_library)
