"""The operators ``gatewise::forward``, ``backward`` and ``trace``: schemas, kernels, fakes and vmap rules.

They take a cell by its text, so that an exported program runs in a fresh process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gatewise.backends import EAGER, REGISTERED, get, signature, wish
from gatewise.backends.base import Backend
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import make_plans
from gatewise.compiler.text import parse
from gatewise.ops import batching
from gatewise.torch_internals import constant, observed

library = torch.library.Library("gatewise", "DEF")
library.define("forward(str cell, str options, Tensor[] tensors) -> (Tensor, Tensor[], Tensor)")
library.define(
    "backward(str cell, str options, Tensor[] tensors, "
    "Tensor y, Tensor saved, Tensor? dy, Tensor?[] finals, bool[] wanted) -> Tensor[]"
)
library.define("trace(str cell, str options, Tensor[] tensors, Tensor(a!) gates) -> (Tensor, Tensor[])")

parsed = lru_cache(maxsize=256)(parse)


class Keep(Enum):
    """What the forward keeps for a backward."""

    NOTHING = "0"
    GATES = "1"
    """All that the backward reads."""
    STATES = "2"
    """The states, from which the backward computes the gates again."""


class CallOptions:
    """What the operators need to know beside tensors, as one string: backend and tier, direction, what is kept for a
    backward, how many operands, inputs and states there are, and the names of the parameters."""

    def __init__(self, text: str) -> None:
        where, reverse, keep, counts, *names = text.split(" ")
        self.backend, _, self.tier = where.partition("/")
        self.reverse, self.keep, self.names = reverse == "1", Keep(keep), tuple(names)
        self.counts = tuple([int(n) for n in counts.split(",")])
        """Operands, inputs and states among the tensors; the parameters come behind them."""
        self.training, self.recompute = self.keep is Keep.GATES, self.keep is Keep.STATES

    @staticmethod
    def text(where: str, reverse: bool, keep: Keep, counts: Sequence[int], names: Sequence[str]) -> str:
        if not torch.compiler.is_compiling():
            return _text(where, reverse, keep, tuple(counts), tuple(names))
        return CallOptions.written(where, reverse, keep, counts, names)

    @staticmethod
    def written(where: str, reverse: bool, keep: Keep, counts: Sequence[int], names: Sequence[str]) -> str:
        numbers = ",".join([str(n) for n in counts])
        return " ".join([where, str(int(reverse)), keep.value, numbers, *names])


_text = lru_cache(maxsize=256)(CallOptions.written)
parsed_options = lru_cache(maxsize=256)(CallOptions)


def split(options: str, flat: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Operands, inputs, states, parameters."""
    # Out of the string, each time: torch.compile keeps strings as constants through an autograd function, not tuples.
    n_operands, n_inputs, n_states = [int(n) for n in options.split(" ")[3].split(",")]
    b = n_operands + n_inputs
    c = b + n_states
    return list(flat[:n_operands]), list(flat[n_operands:b]), list(flat[b:c]), list(flat[c:])


def count(options: str) -> int:
    """How many tensors ``split`` parts."""
    words = options.split(" ")
    return sum([int(n) for n in words[3].split(",")]) + len(words) - 4


def meaning(cell: str, options: str) -> Callable[[], tuple[Cell, CallOptions]]:
    return lambda: (parsed(cell), parsed_options(options))


def _backend(options: str) -> tuple[Backend, str]:
    """And its tier."""
    read = parsed_options(options)
    return get(read.backend), read.tier


def _outputs(cell: str, options: str, tensors: list[Tensor]) -> list[Tensor]:
    backend, tier = _backend(options)
    return backend.forward((cell, options), tier, meaning(cell, options), tensors)


def _forward(
    cell: str,
    options: str,
    tensors: list[Tensor],
) -> tuple[Tensor, list[Tensor], Tensor]:
    y, *finals = _outputs(cell, options, tensors)
    saved = y.new_empty((0, *y.shape)) if parsed_options(options).keep is Keep.NOTHING else finals.pop()
    return y, finals, saved


def _forward_fake(
    cell: str,
    options: str,
    tensors: list[Tensor],
) -> tuple[Tensor, list[Tensor], Tensor]:
    signature.check_together(tensors)
    refuse_onnx()
    keep, traced = parsed_options(options).keep, parsed(cell)
    plans, (backend, tier) = make_plans(traced), _backend(options)
    _, _, states, _ = split(options, tensors)
    y = states[0].new_empty((tensors[0].shape[0], *states[0].shape))
    gates, states_kept = len(plans.saved) + len(plans.histories), len(traced.states) - 1
    slabs = {Keep.NOTHING: 0, Keep.GATES: gates, Keep.STATES: states_kept}[keep]
    return (
        y,
        [torch.empty_like(s, memory_format=torch.contiguous_format) for s in states],
        y.new_empty((slabs, *y.shape), dtype=y.dtype if keep is Keep.NOTHING else backend.kept_dtype(tier, y.dtype)),
    )


def _trace(
    cell: str,
    options: str,
    tensors: list[Tensor],
    gates: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    backend, tier = _backend(options)
    return backend.trace((cell, options), tier, meaning(cell, options), tensors, gates)


def _trace_fake(
    cell: str,
    options: str,
    tensors: list[Tensor],
    gates: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    return _forward_fake(cell, options, tensors)[:2]


def _gradients(
    cell: str,
    options: str,
    tensors: list[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    backend, tier = _backend(options)
    read = meaning(cell, options)
    return backend.backward((cell, options), tier, read, tensors, y, saved, dy, finals, wanted)


def _backward(
    cell: str,
    options: str,
    tensors: list[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: list[Tensor | None],
    wanted: list[bool],
) -> list[Tensor]:
    found = _gradients(cell, options, tensors, y, saved, dy, finals, wanted)
    return [t.new_empty(0) if d is None else d for t, d in zip(tensors, found, strict=True)]


def _backward_fake(
    cell: str,
    options: str,
    tensors: list[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: list[Tensor | None],
    wanted: list[bool],
) -> list[Tensor]:
    opts = parsed_options(options)
    operands, terms = opts.counts[0], sum(opts.counts[:2])
    any_operand = any(wanted[:operands])
    made = [any_operand if k < operands else k < terms or wanted[k] for k in range(len(tensors))]
    return [t.new_empty(t.shape) if m else t.new_empty(0) for t, m in zip(tensors, made, strict=True)]


TRANSLATION = "gatewise.formats.onnx.translation"
"""Whoever exports with the table of translations has imported it from there."""


@constant
def in_onnx_export() -> bool:
    """A constant to torch.compile, which takes torch's own answer for False."""
    onnx = sys.modules.get("torch.onnx")  # whoever exports has imported it
    return onnx is not None and onnx.is_in_onnx_export()


def refuse_steps_in_onnx(why: str) -> None:
    """What runs step by step would be written out for the number of steps of the example, whatever comes later."""
    if in_onnx_export() and wish()[0] != EAGER:
        raise RuntimeError(
            f"torch.onnx.export would write out the steps of the example alone, since {why}; export the layer with "
            "gatewise.formats.onnx.export, or say that this is what you want: `with gatewise.backend('eager'):`"
        )


def refuse_bytes_in_onnx() -> None:
    """The graph's products would be in float32."""
    if in_onnx_export():
        raise RuntimeError("torch.onnx.export has no int8 products of Gatewise's; export the model before quantize")


def refuse_onnx() -> None:
    """torch's own error names an operator that nobody wrote down."""
    if not in_onnx_export():
        return
    if TRANSLATION in sys.modules and not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return
    raise RuntimeError(
        "torch.onnx.export does not know Gatewise's operators; pass dynamo=True and custom_translation_table="
        "gatewise.formats.onnx.translations(), or export a layer alone with gatewise.formats.onnx.export"
    )


observers: list[Callable[[], None]] = [refuse_onnx]
"""What is done before a call that others see."""


def _observe() -> None:
    if not torch.compiler.is_compiling():
        for prepare in observers:
            prepare()


_PLAIN = (Tensor, torch.nn.Parameter)


def plain(tensors: Sequence[Tensor]) -> bool:
    """Whether an operator would only call its kernel: nothing transforms, traces or records, and tensors are in memory.
    Then the dispatcher, which takes as long as a small step, is left out."""
    if observed():
        return False
    on_card = tensors[0].is_cuda
    for t in tensors:  # noqa: SIM110 (twice as quick as all() of a generator)
        if type(t) not in _PLAIN or not (t.is_cuda if on_card else t.is_cpu) or t.is_neg():
            return False
    return True


def forward(
    cell: str,
    options: str,
    tensors: list[Tensor],
) -> list[Tensor]:
    """``gatewise::forward``, of tensors whose gradients nobody records: output, final states, and what was kept for a
    backward, if anything."""
    if plain(tensors):
        return _outputs(cell, options, tensors)
    signature.check_together(tensors)
    _observe()
    y, finals, saved = torch.ops.gatewise.forward(cell, options, tensors)
    return [y, *finals, saved]


def backward(
    cell: str,
    options: str,
    tensors: list[Tensor],
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> Sequence[Tensor | None]:
    """``gatewise::backward``, as ``forward``; of what is not wanted None, an empty tensor, or the gradient."""
    whole = (*tensors, y, saved, *[t for t in (dy, *finals) if t is not None])
    if plain(whole):
        return _gradients(cell, options, tensors, y, saved, dy, finals, wanted)
    signature.check_together(whole)
    _observe()
    result: list[Tensor] = torch.ops.gatewise.backward(cell, options, tensors, y, saved, dy, finals, wanted)
    return result


for _name, _function in (("forward", _forward), ("backward", _backward), ("trace", _trace)):
    for _registered in REGISTERED:
        library.impl(_name, _function, _registered.dispatch_key)
torch.library.register_fake("gatewise::forward", _forward_fake, lib=library)
torch.library.register_fake("gatewise::backward", _backward_fake, lib=library)
torch.library.register_fake("gatewise::trace", _trace_fake, lib=library)


def _forward_vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
    return batching.forward(torch.ops.gatewise.forward, split, info, in_dims, *arguments)


def _backward_vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
    return batching.backward(torch.ops.gatewise.backward, info, in_dims, *arguments)


torch.library.register_vmap("gatewise::forward", _forward_vmap, lib=library)
torch.library.register_vmap("gatewise::backward", _backward_vmap, lib=library)
