"""The input-like operands of a cell's affine maps as a list of torch operations, in plain values.

Mostly they are inputs as they came. Where equations compute with inputs before the product, these operations run for
all steps at once. No node of the graph remains in the list, so that torch.compile can trace it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gatewise.backends.eager import OPERATORS, TENSOR_FUNCTIONS
from gatewise.compiler.expression import postorder
from gatewise.compiler.plan import input_operands, make_plans
from gatewise.compiler.text import parse
from gatewise.torch_internals import constant

Step = tuple[str, str | float | None, tuple[int, ...], tuple[float, ...]]
"""(operation, name of an input or a number, positions of arguments, further arguments)."""


def _decay(x: Tensor) -> Tensor:
    """e^-|x|, with the derivative from the right at 0."""
    return torch.exp(torch.where(x >= 0, -x, x))


def _sigmoid(x: Tensor) -> Tensor:
    e = _decay(x)
    return torch.where(x >= 0, torch.ones_like(e), e) / (1 + e)


def _softplus(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x, torch.zeros_like(x)) + torch.log1p(_decay(x))


# torch's own sigmoid and softplus compute the last numbers of a tensor, and of each thread's share, by another method
# than the others: a step alone had other bits than in its sequence. Its exp, log, log1p and tanh do not.
_FUNCTIONS = {**TENSOR_FUNCTIONS, **OPERATORS, "sigmoid": _sigmoid, "softplus": _softplus}


@lru_cache(maxsize=256)
def _prologue(text: str) -> tuple[tuple[Step, ...], tuple[int, ...], tuple[str, ...]]:
    cell = parse(text)
    nodes = [node for _, node in input_operands(cell)]
    everything = postorder(nodes)
    position = {node: k for k, node in enumerate(everything)}
    steps: list[Step] = []
    for node in everything:
        leaf = node.attr if isinstance(node.attr, (str, float)) else None
        extra = tuple(float(v) for v in node.attr) if isinstance(node.attr, tuple) else ()
        steps.append((node.op, leaf, tuple(position[a] for a in node.args), extra))
    return tuple(steps), tuple(position[n] for n in nodes), make_plans(cell).input_terms


@constant
def prologue(text: str) -> tuple[tuple[Step, ...], tuple[int, ...], tuple[str, ...]]:
    """What of the inputs reaches the kernels of the cell with this text; a constant to torch.compile.

    Returns:
        The operations, the positions of the operands among their values (in the order of ``input_operands``), and the
        keyword inputs and vectors that are used outside affine maps.
    """
    return _prologue(text)


def operands(steps: tuple[Step, ...], results: tuple[int, ...], leaves: Mapping[str, Tensor]) -> list[Tensor]:
    """The operands from the inputs, ``x`` among them, and the vectors."""
    values: list[Any] = []
    for op, leaf, arguments, extra in steps:
        if op in ("input", "vector"):
            values.append(leaves[str(leaf)])
        elif op == "const":
            values.append(leaf)
        else:
            values.append(_FUNCTIONS[op](*[values[k] for k in arguments], *extra))
    return [values[k] for k in results]
