"""The one torch boundary: a cell over a sequence, differentiable, on the backend that was chosen.

Two operators, ``gatewise::forward`` and ``gatewise::backward``, take a cell by its text, so that an exported program
runs in a fresh process; a third, ``gatewise::trace``, is a forward that keeps gates. One autograd function wraps the
two; its backward is a second one, whose own derivative goes through ``torch.func.vjp`` of the eager reference:
``register_autograd`` on the operators instead gave silently wrong second derivatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gatewise.backends import batching, choose, eager, prologue
from gatewise.compiler.cell import Cell
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
_library.define(
    "trace(str cell, str options, Tensor[] operands, Tensor[] inputs, Tensor[] states, Tensor[] parameters, "
    "Tensor(a!) gates) -> (Tensor, Tensor[])"
)

_cell = lru_cache(maxsize=256)(parse)


class Options:
    """What the operators need to know beside tensors, as one string: tier, direction, training, how many operands,
    inputs and states there are, and the names of the parameters."""

    def __init__(self, text: str) -> None:
        self.tier, reverse, training, _, *names = text.split(" ")
        self.reverse, self.training, self.names = reverse == "1", training == "1", tuple(names)

    @staticmethod
    def text(tier: str, reverse: bool, training: bool, counts: Sequence[int], names: Sequence[str]) -> str:
        numbers = ",".join([str(n) for n in counts])
        return " ".join([tier, str(int(reverse)), str(int(training)), numbers, *names])


_options = lru_cache(maxsize=256)(Options)


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
    operands, terms = _leaves(cell, x, inputs)
    states = list(states)
    if torch.compiler.is_compiling():  # which takes no tensor twice
        terms, states = ([t.view_as(t) for t in tensors] for tensors in (terms, states))
    flat = (*operands, *terms, *states, *parameters.values())
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in flat)
    _refuse_forward_mode(flat)
    special = not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None
    counts = (len(operands), len(terms), len(states))
    options = Options.text(choice.tier, reverse, differentiable or special, counts, list(parameters))
    if differentiable or special:
        outputs = _apply(_Sequence, cell.text, options, *flat)
        return outputs[0], list(outputs[1:-1])
    y, finals, _ = torch.ops.gatewise.forward(cell.text, options, operands, terms, states, list(parameters.values()))
    return y, finals


def trace(
    cell: Cell,
    x: Tensor,
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    gates: Tensor,
    *,
    reverse: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """As ``run``, without derivatives; ``gates``, (gate, T, B, hidden_size) in the order of ``cell.gates``, is filled
    with their values."""
    choice = choose(x.device, x.dtype)
    if choice.name == "eager":
        seen = list(zip([cell.gate_value(gate) for gate in cell.gates], gates, strict=True))
        return eager.sequence(cell, x, inputs, states, parameters, reverse=reverse, seen=seen)
    operands, terms = _leaves(cell, x, inputs)
    counts = (len(operands), len(terms), len(states))
    options = Options.text(choice.tier, reverse, False, counts, list(parameters))
    y, finals = torch.ops.gatewise.trace(
        cell.text, options, operands, terms, list(states), list(parameters.values()), gates
    )
    return y, finals


def _leaves(cell: Cell, x: Tensor, inputs: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Operands of the affine maps, and inputs that are used element-wise; at least one tensor."""
    steps, results, names = prologue.prologue(cell.text)
    operands = prologue.operands(steps, results, {"x": x, **inputs})
    if not operands and not names:
        operands = [x.detach()]  # which the cell does not read: it says how many steps there are
    return operands, [inputs[n] for n in names]


def _refuse_forward_mode(tensors: Sequence[Tensor]) -> None:
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    if any(forward_ad.unpack_dual(t).tangent is not None or _dual_below(t) for t in tensors):
        raise RuntimeError(
            "forward-mode derivatives are not computed by the cpu backend; use `with gatewise.backend('eager'):`"
        )


def _dual_below(tensor: Tensor) -> bool:
    """Whether a forward-mode level of torch.func lies below the level that computes now, as in ``hessian``."""
    functorch = torch._C._functorch
    below = (functorch.get_interpreter_stack() or [])[:-1]
    levels = {i.level() for i in below if i.key() == functorch.TransformType.Jvp}
    while levels and functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.maybe_get_level(tensor) in levels:
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def _apply(function: Any, *arguments: Any) -> Any:
    """``function.apply``, without its inspection of the signature where no transformation of torch.func is active: that
    takes a tenth of a small training step."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    return super(torch.autograd.Function, function).apply(*arguments)


def _split(options: str, flat: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Operands, inputs, states, parameters."""
    # Out of the string, each time: torch.compile keeps strings as constants through an autograd function, not tuples.
    n_operands, n_inputs, n_states = [int(n) for n in options.split(" ")[3].split(",")]
    b = n_operands + n_inputs
    c = b + n_states
    return list(flat[:n_operands]), list(flat[n_operands:b]), list(flat[b:c]), list(flat[c:])


def _count(options: str) -> int:
    """How many tensors ``_split`` parts."""
    words = options.split(" ")
    return sum([int(n) for n in words[3].split(",")]) + len(words) - 4


class _Sequence(torch.autograd.Function):
    """(cell, options, *tensors) → (y, *finals, saved)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cell: str, options: str, *flat: Tensor) -> tuple[Tensor, ...]:
        y, finals, saved = torch.ops.gatewise.forward(cell, options, *_split(options, flat))
        return (y, *finals, saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.cell, ctx.options, *flat = inputs
        ctx.mark_non_differentiable(output[-1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*flat, output[0], output[-1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *rest: Tensor | None) -> tuple[Any, ...]:
        *flat, y, saved = ctx.saved_tensors
        needed = ctx.needs_input_grad[-len(flat) :]
        wanted = "".join(["1" if need else "0" for need in needed])
        # torch.compile differentiates once, and hands a nested function without gradients its arguments shifted by one.
        gradients = _Backward.forward if torch.compiler.is_compiling() else _differentiable_backward
        grads = gradients(ctx.cell, ctx.options, wanted, *flat, y, saved, dy, *rest[:-1])
        return (None, None, *[g if w else None for g, w in zip(grads, needed, strict=True)])


class _Backward(torch.autograd.Function):
    """The gradient as a function of its own, so that it can be differentiated again, through eager."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cell: str, options: str, wanted: str, *tensors: Any) -> tuple[Tensor, ...]:
        n = _count(options)
        flat, y, saved, dy, finals = tensors[:n], tensors[n], tensors[n + 1], tensors[n + 2], tensors[n + 3 :]
        needed = [w == "1" for w in wanted]
        parts = _split(options, flat)
        return tuple(torch.ops.gatewise.backward(cell, options, *parts, y, saved, dy, list(finals), needed))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.cell, ctx.options, _, *tensors = inputs
        ctx.n = _count(ctx.options)
        ctx.set_materialize_grads(False)
        ctx.present = tuple(t is not None for t in tensors[ctx.n + 2 :])
        ctx.save_for_backward(*tensors[: ctx.n], *(t for t in tensors[ctx.n + 2 :] if t is not None))

    @staticmethod
    def backward(ctx: Any, *second: Tensor | None) -> tuple[Any, ...]:
        flat, arrived = ctx.saved_tensors[: ctx.n], ctx.saved_tensors[ctx.n :]

        def gradients(flat: tuple[Tensor, ...], arrived: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            results: Any = torch.func.vjp(lambda *f: _eager(ctx.cell, ctx.options, f), *flat)
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
        return (None, None, None, *d_flat, None, None, *tail)


def _differentiable_backward(*arguments: Any) -> tuple[Tensor, ...]:
    results: tuple[Tensor, ...] = _apply(_Backward, *arguments)
    return results


def _eager(cell_text: str, options: str, flat: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same function of the same tensors on the eager backend."""
    cell, opts = _cell(cell_text), _options(options)
    operands, inputs, states, parameters = _split(options, flat)
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

    opts = _options(options)
    return sequence.forward(_call(cell, opts, operands, inputs, states, parameters), training=opts.training)


def _forward_fake(
    cell: str,
    options: str,
    operands: list[Tensor],
    inputs: list[Tensor],
    states: list[Tensor],
    parameters: list[Tensor],
) -> tuple[Tensor, list[Tensor], Tensor]:
    opts, plans = _options(options), make_plans(_cell(cell))
    steps = (*operands, *inputs)[0].shape[0]
    y = states[0].new_empty((steps, *states[0].shape))
    slabs = len(plans.saved) + len(plans.histories) if opts.training else 0
    return (
        y,
        [torch.empty_like(s, memory_format=torch.contiguous_format) for s in states],
        y.new_empty((slabs, *y.shape)),
    )


def _trace_cpu(
    cell: str,
    options: str,
    operands: list[Tensor],
    inputs: list[Tensor],
    states: list[Tensor],
    parameters: list[Tensor],
    gates: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    from gatewise.backends.cpu import sequence

    return sequence.trace(_call(cell, _options(options), operands, inputs, states, parameters), gates)


def _trace_fake(
    cell: str,
    options: str,
    operands: list[Tensor],
    inputs: list[Tensor],
    states: list[Tensor],
    parameters: list[Tensor],
    gates: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    return _forward_fake(cell, options, operands, inputs, states, parameters)[:2]


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

    opts = _options(options)
    first = len(wanted) - len(opts.names)
    names = {name for name, want in zip(opts.names, wanted[first:], strict=True) if want}
    if any(wanted[: len(operands)]):
        names.add("operands")
    call = _call(cell, opts, operands, inputs, states, parameters)
    found = gradients.backward(call, y, saved, dy, finals, frozenset(names))
    # Results of an operator share no memory: each missing one is a tensor of its own.
    return [
        *(found.operands or [y.new_empty(0) for _ in operands]),
        *found.inputs.values(),
        *found.states,
        *(found.parameters[name] if name in names else y.new_empty(0) for name in opts.names),
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
    opts = _options(options)
    any_operand = any(wanted[: len(operands)])
    first = len(wanted) - len(opts.names)
    made = [any_operand if k < len(operands) else k < first or wanted[k] for k in range(len(flat))]
    return [t.new_empty(t.shape) if m else t.new_empty(0) for t, m in zip(flat, made, strict=True)]


_library.impl("forward", _forward_cpu, "CPU")
_library.impl("backward", _backward_cpu, "CPU")
_library.impl("trace", _trace_cpu, "CPU")
torch.library.register_fake("gatewise::forward", _forward_fake, lib=_library)
torch.library.register_fake("gatewise::backward", _backward_fake, lib=_library)
torch.library.register_fake("gatewise::trace", _trace_fake, lib=_library)


def _forward_vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
    return batching.forward(torch.ops.gatewise.forward, info, in_dims, *arguments)


def _backward_vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
    return batching.backward(torch.ops.gatewise.backward, info, in_dims, *arguments)


torch.library.register_vmap("gatewise::forward", _forward_vmap, lib=_library)
torch.library.register_vmap("gatewise::backward", _backward_vmap, lib=_library)
