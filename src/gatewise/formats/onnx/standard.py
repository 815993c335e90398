"""The formulas that ONNX has an operator for, and how their weights lie there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gatewise import cells
from gatewise.compiler.cell import Cell
from gatewise.formats.layouts import LAYOUTS
from gatewise.formats.onnx.builder import Builder, Value
from gatewise.formats.onnx.sequence import Direction
from gatewise.formats.onnx.step import Maps


@dataclass(frozen=True)
class Standard:
    """An operator of ONNX that computes a cell.

    kind: its name. gates: of the cell, in the operator's order of blocks, and whether their signs change: σ(−a) is
    1 − σ(a). peepholes: rows of ``weight_diagonal`` in the operator's order. attributes: that make it this formula.
    """

    kind: str
    gates: tuple[tuple[str, bool], ...]
    peepholes: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


def _of(own: str, theirs: str, **attributes: Any) -> Standard:
    """From the two layouts of the weights."""
    layout, cell = LAYOUTS[f"onnx {theirs}"], LAYOUTS[f"gatewise {own}"]
    meant = dict(map(_signed, cell.arrays[0].gates))
    gates = tuple((name, sign != meant[name]) for name, sign in map(_signed, layout.arrays[0].gates))
    rows = {array.name: array.gates for array in (*layout.arrays, *cell.arrays)}
    peepholes = tuple(rows["weight_diagonal"].index(gate) for gate in rows.get("P", ()))
    return Standard(theirs.split(" ")[0], gates, peepholes, attributes)


def _signed(gate: str) -> tuple[str, bool]:
    return gate.lstrip("-"), gate.startswith("-")


# A coupled LSTM is not among them: what ``input_forget`` couples is not written in the standard.
STANDARD: dict[Cell, Standard] = {
    cells.gru: _of("gru", "GRU", linear_before_reset=0),
    cells.gru_renew: _of("gru_renew", "GRU", linear_before_reset=0),
    cells.gru_reset_after: _of("gru_reset_after", "GRU linear_before_reset=1", linear_before_reset=1),
    cells.lstm: _of("lstm", "LSTM"),
    cells.lstm_peephole: _of("lstm_peephole", "LSTM P"),
    cells.rnn: _of("rnn", "RNN", activations=["Tanh"]),
    cells.rnn_relu: _of("rnn", "RNN", activations=["Relu"]),
}


def standard(cell: Cell, dtype: np.dtype[Any]) -> Standard | None:
    """The operator of a cell, whatever its name; None where there is none, or where ONNX Runtime computes it in float32
    alone."""
    same = (kind for known, kind in STANDARD.items() if known.body() == cell.body())
    return next(same, None) if dtype == np.float32 else None


def run(
    b: Builder, kind: Standard, ways: Sequence[Direction], x: Value, states: Sequence[Value], lengths: Value | None
) -> tuple[Value, list[Value]]:
    """Output, (T, B, directions · hidden_size), and final states, (directions, B, hidden_size) each.

    Args:
        ways: one direction, or forward and reverse. x: (T, B, width). states: as the final ones.
        lengths: int32 (B,); past the end of a row the output is zero.
    """
    each = zip(*(_weights(b, kind, one.maps) for one in ways), strict=True)
    w, r, bias, peepholes = (None if part[0] is None else b.stacked(part) for part in each)
    both = len(ways) > 1
    way = "bidirectional" if both else "reverse" if ways[0].reverse else "forward"
    attributes = dict(kind.attributes)
    if "activations" in attributes:
        attributes["activations"] = attributes["activations"] * len(ways)
    y, *finals = b.op(
        kind.kind,
        x,
        w,
        r,
        bias,
        lengths,
        *states,
        peepholes,
        outputs=1 + len(states),
        hidden_size=ways[0].maps.hidden_size,
        direction=way,
        **attributes,
    )
    if lengths is not None:  # of a row without steps ONNX Runtime gives zeros
        empty = b.op("Unsqueeze", b.op("Equal", lengths, b.value(np.zeros(1, np.int32))), b.integers(0, 2))
        finals = [b.op("Where", empty, start, final) for start, final in zip(states, finals, strict=True)]
    # (T, directions, B, hidden_size) as it comes.
    if not both:
        return b.op("Squeeze", y, b.integers(1)), finals
    return b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3]), b.integers(0, 0, -1)), finals


def _weights(b: Builder, kind: Standard, maps: Maps) -> tuple[Value, Value, Value | None, Value | None]:
    """W, R, B and P of one direction."""

    def blocks(parameter: str) -> list[Value | None]:
        found = ((maps.block(b, parameter, gate), turned) for gate, turned in kind.gates)
        return [b.negative(block) if turned and block is not None else block for block, turned in found]

    w, r = b.concat(blocks("weight_ih")), b.concat(blocks("weight_hh"))
    biases = [*blocks("bias_ih"), *blocks("bias_hh")]
    zero = np.zeros(maps.hidden_size, b.dtype)
    bias = None if all(one is None for one in biases) else b.concat([zero if one is None else one for one in biases])
    rows = [b.flat(maps.diagonal(b, k)) for k in kind.peepholes]
    return w, r, bias, b.concat(rows) if rows else None
