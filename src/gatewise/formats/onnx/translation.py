"""How torch.onnx.export(dynamo=True) is to write Gatewise's operator, for ``custom_translation_table``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import Node, make
from gatewise.compiler.masking import VALID, with_lengths
from gatewise.compiler.plan import input_operands, make_plans
from gatewise.errors import need
from gatewise.formats.onnx.builder import Builder, Value, graph, typed
from gatewise.formats.onnx.sequence import Direction, scan
from gatewise.formats.onnx.standard import STANDARD, Standard, run, standard
from gatewise.formats.onnx.step import Maps
from gatewise.ops.operators import CallOptions, parsed, split

_numbers = count()


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The table that ``torch.onnx.export`` needs for models that contain Gatewise's layers.

    ``torch.onnx.export(model, args, path, dynamo=True, custom_translation_table=translations())``: formulas that ONNX
    has become its ``GRU``, ``LSTM`` and ``RNN``, all others a ``Scan`` over standard operators. A layer with a
    ``proj_size`` is refused, since torch would write out the steps of the example alone.

    Raises:
        InputError: where onnxscript is not installed, through which torch writes ONNX.
    """
    need("onnxscript", "onnx")
    # Without annotations: torch reads those, and warns of types that are not its own.
    return {
        torch.ops.gatewise.forward.default: lambda cell, options, tensors: _forward(cell, options, tensors),
        # Which ``gatewise.gaps`` calls and torch cannot export.
        torch.ops.aten.cummax.default: lambda values, axis: _cummax(values, axis),
    }


def _forward(cell: str, options: str, tensors: Sequence[ir.Value]) -> list[Any]:
    """``gatewise::forward``: output, final states, and nothing that was kept for a backward."""
    import onnxscript

    recorder: Any = onnxscript.evaluator.default()
    dtype = tensors[0].dtype.numpy()
    b = Builder(dtype, f"gatewise_{next(_numbers)}_")
    y, finals = _sequence(b, parsed(cell), CallOptions(options), *split(options, tensors))
    recorder.nodes.extend(b.nodes)
    # The recorder's own values know the arithmetic that torch's translations of other operators write.
    opset = onnxscript.values.Opset("", recorder.opset.version)
    nothing = opset.Constant(value=ir.tensor(np.zeros(0, dtype)))
    return [opset.Identity(y), _Several(opset.Identity(final) for final in finals), nothing]


def _cummax(values: ir.Value, axis: int) -> list[Any]:
    """The largest so far along an axis, and where it stood last."""
    import onnxscript

    recorder: Any = onnxscript.evaluator.default()
    dtype, rank = values.dtype.numpy(), len(values.shape)
    b = Builder(dtype, f"gatewise_{next(_numbers)}_")
    body = Builder(dtype, b.name("step_"), around=b)
    whole, axis, shape = np.dtype(np.int64), axis % rank, [None] * (rank - 1)
    least = -np.inf if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).min
    zero, one = (b.value(np.array(n, whole)) for n in (0, 1))
    lead = b.op("Shape", b.op("Gather", values, zero, axis=axis))
    starts = b.op("Expand", np.array(least, dtype), lead), b.op("Expand", zero, lead), zero
    largest, at, time, now = (
        typed(body.name("given"), kind, size)
        for kind, size in ((dtype, shape), (whole, shape), (whole, []), (dtype, shape))
    )
    newer = body.op("GreaterOrEqual", now, largest)
    new = body.op("Where", newer, now, largest), body.op("Where", newer, time, at)
    made = [*new, body.op("Add", time, one), *(body.op("Identity", value) for value in new)]
    for value, like in zip(made, (largest, at, time, largest, at), strict=True):
        value.type, value.shape = like.type, like.shape
    *_, found, where = b.op(
        "Scan",
        *starts,
        values,
        outputs=5,
        body=graph([largest, at, time, now], made, body.nodes, body.prefix),
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[axis, axis],
    )
    recorder.nodes.extend(b.nodes)
    opset = onnxscript.values.Opset("", recorder.opset.version)
    return [opset.Identity(found), opset.Identity(where)]


class _Several(list[Any]):
    """Values that are one result. torch names every result, and asks for its node to name that; it knows results of
    one value alone."""

    name: str | None = None

    def producer(self) -> None:
        return None


def _sequence(
    b: Builder,
    cell: Cell,
    options: CallOptions,
    operands: Sequence[Value],
    terms: Sequence[Value],
    states: Sequence[Value],
    parameters: Sequence[Value],
) -> tuple[Value, list[Value]]:
    weights = dict(zip(options.names, parameters, strict=True))
    widths = [state.shape[-1] for state in states]
    bias = weights.get("bias_hh")
    full = bias is not None and bias.shape[0] != len(cell.rows("bias_hh")) * widths[0]
    named = dict(zip(make_plans(cell).input_terms, terms, strict=True))
    plain, lengths = _standard(b, cell, named)
    if plain is not None:
        kind = standard(plain, b.dtype)
        assert isinstance(kind, Standard)
        one = Direction(Maps(plain, weights, widths[0], full), widths, reverse=options.reverse)
        y, finals = run(b, kind, [one], operands[0], [_axis(b, s, "Unsqueeze") for s in states], lengths)
        return y, [_axis(b, final, "Squeeze") for final in finals]
    leaves: dict[Node, Value] = {_leaf(cell, name): value for name, value in named.items()}
    # What stands before a product was computed by torch already.
    leaves |= dict(zip((node for _, node in input_operands(cell)), operands, strict=False))
    one = Direction(Maps(cell, weights, widths[0], full), widths, reverse=options.reverse)
    clock = (*operands, *terms)[0]
    return scan(b, one, leaves, frozenset(), states, clock)


def _standard(b: Builder, cell: Cell, terms: dict[str, Value]) -> tuple[Cell | None, Value | None]:
    """The cell that ONNX has an operator for, and how long rows are where that goes along."""
    for plain in STANDARD:
        if standard(plain, b.dtype) is None:
            continue
        if cell.body() == plain.body():
            return plain, None
        if cell.body() == with_lengths(plain).body():
            counted = b.op("ReduceSum", terms[VALID], b.integers(0, 2), keepdims=0)
            return plain, b.op("Cast", counted, to=ir.DataType.INT32)
    return None, None


def _leaf(cell: Cell, name: str) -> Node:
    kind = "vector" if name in dict(cell.vectors) else "input"
    return make(kind, (), name, cell.leaf_widths[name])


def _axis(b: Builder, value: Value, kind: str) -> Value:
    return b.op(kind, value, b.integers(0))
