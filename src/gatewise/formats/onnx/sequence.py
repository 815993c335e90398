"""A cell over a sequence: a Scan whose body is one step; and a step alone."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gatewise.compiler.expression import COMPARISONS, Node
from gatewise.formats.onnx.builder import Builder, Value, graph, typed
from gatewise.formats.onnx.step import Before, Maps, after


@dataclass(frozen=True)
class Direction:
    """One direction of one layer.

    Args:
        maps: the cell and its parameters. widths: of its states. project: multiplies the first state behind each step,
            (projection, hidden_size). reverse: from the last step to the first; outputs keep their place in time.
    """

    maps: Maps
    widths: Sequence[int]
    project: Value | None = None
    reverse: bool = False


def step(b: Builder, one: Direction, leaves: Mapping[Node, Value], states: Sequence[Value]) -> list[Value]:
    """The states after one step, (B, width) each; ``leaves`` are inputs (B, width) and vectors (width,)."""
    return _projected(b, one, after(b, one.maps, states, Before(b, one.maps, leaves).values))


def scan(
    b: Builder,
    one: Direction,
    leaves: Mapping[Node, Value],
    still: Container[Node],
    states: Sequence[Value],
    clock: Value,
    valid: Value | None = None,
) -> tuple[Value, list[Value]]:
    """The first state at every step, (T, B, width), and the final states.

    Args:
        leaves: the inputs, (T, B, width), and what is ``still`` among them: vectors, (width,).
        clock: any (T, B, width), which says how many steps there are where no input does.
        valid: (T, B, 1) bool: where it is False the states stay, and the output is zero.
    """
    before = Before(b, one.maps, leaves, still)
    moving = [before.values[key] for key in before.moving] + ([] if valid is None else [valid])
    moving = moving or [clock]
    name = b.name("scan")
    body = Builder(b.dtype, f"{name}_", around=b)
    old = [typed(body.name("state"), b.dtype, ["batch", width]) for width in one.widths]
    kinds = [np.dtype(bool) if node.op in COMPARISONS else b.dtype for _, node in before.moving]
    now = [typed(body.name("given"), kind, ["batch", None]) for kind in kinds]
    if valid is not None:
        now.append(typed(body.name("valid"), bool, ["batch", 1]))
    elif not now:
        now.append(typed(body.name("clock"), b.dtype, ["batch", None]))
    given = {**before.values, **dict(zip(before.moving, now, strict=False))}
    new = _projected(body, one, after(body, one.maps, old, given))
    if valid is not None:
        new = [body.op("Where", now[-1], a, c) for a, c in zip(new, old, strict=True)]
    # Names of their own, since an output must be neither an input nor another output.
    made = [body.op("Identity", value) for value in [*new, new[0]]]
    for value, width in zip(made, [*one.widths, one.widths[0]], strict=True):
        _declare(value, typed("", b.dtype, ["batch", width]))
    way = int(one.reverse)
    *finals, y = b.op(
        "Scan",
        *states,
        *moving,
        outputs=len(states) + 1,
        body=graph([*old, *now], made, body.nodes, f"{name}_step"),
        num_scan_inputs=len(moving),
        scan_input_directions=[way] * len(moving),
        scan_output_directions=[way],
    )
    return (y if valid is None else b.op("Where", valid, y, 0.0)), finals


def _declare(value: Value, like: Value) -> None:
    value.type, value.shape = like.type, like.shape


def _projected(b: Builder, one: Direction, states: list[Value]) -> list[Value]:
    if one.project is None:
        return states
    return [b.op("MatMul", states[0], b.transposed(one.project)), *states[1:]]
