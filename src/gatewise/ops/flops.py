"""What ``torch.utils.flop_counter`` counts for the operators: their products of matrices, two operations a term, as it
counts them for torch.nn's layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewise.compiler.cell import is_matrix
from gatewise.compiler.expression import depends
from gatewise.compiler.plan import input_operands
from gatewise.ops.operators import Keep, parsed, parsed_options, split
from gatewise.torch_internals import flop_tables

Tensors = Sequence[Tensor]


def enrol() -> None:
    """Make the operators known to the counters that count now."""
    operators = torch.ops.gatewise
    for table in flop_tables():
        table.setdefault(operators.forward, _forward)
        table.setdefault(operators.backward, _backward)


def _terms(options: str, parameters: Tensors) -> dict[str, int]:
    """How many terms the product with each matrix has in one step of one row."""
    return {n: p.numel() for n, p in zip(parsed_options(options).names, parameters, strict=True) if is_matrix(n)}


def _forward(
    cell: str,
    options: str,
    tensors: Tensors,
    *_: Any,
    **__: Any,
) -> int:
    states, parameters = split(options, tensors)[2:]
    rows = int(tensors[0].shape[0]) * int(states[0].shape[0])
    return 2 * rows * sum(_terms(options, parameters).values())


def _backward(
    cell: str,
    options: str,
    tensors: Tensors,
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    wanted: Sequence[bool],
    **_: Any,
) -> int:
    operands, inputs, states, parameters = split(options, tensors)
    terms, opts, uses = _terms(options, parameters), parsed_options(options), parsed(cell).uses
    steps, (rows, units) = int(tensors[0].shape[0]), (int(n) for n in states[0].shape)
    weights = sum(terms.get(n, 0) for n, want in zip(opts.names, wanted[-len(opts.names) :], strict=True) if want)
    gates = Counter(pair for use in uses for pair in use.inputs)  # that multiply an operand
    widths = [gates[pair] * int(t.shape[-1]) for pair, t in zip(input_operands(parsed(cell)), operands, strict=False)]
    given = units * sum(width for width, want in zip(widths, wanted, strict=False) if want)
    start = len(operands) + len(inputs)
    first = any(wanted[start : start + len(states)])
    recurrent = [use.state for use in uses if use.state is not None]
    # Where the first states have no gradient, gates that stand before a product still have one.
    back = sum(steps if first or depends(node, ("affine",)) else max(steps - 1, 0) for node in recurrent)
    again = _forward(cell, options, tensors) if opts.keep is Keep.STATES else 0
    return 2 * rows * (steps * (weights + given) + units * units * back) + again
