"""Arrays of any format into the parts of gates, and back, by the one table of ``layouts``.

Two biases of a gate are added up where a layout keeps one, and a layout that keeps two gets the sum and zeros. Where
the reset gate acts after the product, the candidate's second bias is multiplied by it and stays by itself: what has no
place for it is refused, unless it is zero. All else is moved, transposed or negated: no number changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gatewise.errors import InputError
from gatewise.formats.formulas import cell_of
from gatewise.formats.layouts import BIASES, Array, Layout

Blocks = dict[tuple[str, str], Tensor]
"""By part and gate."""


def apart(formula: str) -> tuple[str, ...]:
    """The gates whose two biases may not be added up: those that the equations apply to the state by itself."""
    return cell_of(formula).rows("bias_hh")


def read(layout: Layout, arrays: Mapping[str, Tensor]) -> Blocks:
    """The parts of every gate from a format's arrays.

    Args:
        layout: of the arrays. arrays: by the names of the layout; the biases may be absent, all or none.

    Raises:
        InputError: where arrays are missing, or their shapes contradict each other.
    """
    here = {a.name: arrays[a.name] for a in layout.arrays if a.name in arrays}
    for name, value in here.items():
        if value.layout != torch.strided or value.is_nested or value.is_meta:
            raise InputError(f"{name} must be a dense tensor with values, got a sparse or nested one, or one without")
    without = {a.name for a in layout.arrays if a.is_bias}
    missing = [a.name for a in layout.arrays if a.name not in here]
    if missing and (layout.always_biases or set(missing) != without):
        raise InputError(f"{layout.name}: {', '.join(missing)} missing, expected {_names(layout)}")
    units, blocks = _units(layout, here), Blocks()
    for array in layout.arrays:
        if array.name in here:
            blocks |= _taken_apart(array, here[array.name], units)
    _check_sizes(layout, blocks, units)
    return blocks


def write(layout: Layout, blocks: Blocks) -> dict[str, Tensor]:
    """The arrays of a format from the parts of every gate.

    Args:
        layout: of the arrays. blocks: as ``read`` gives them, of the layout's own formula .

    Raises:
        InputError: where a bias, a peephole or a projection has no place in the layout.
    """
    fitted = _fitted(layout, blocks)
    biased = layout.always_biases or any(part in BIASES for part, _ in blocks)
    return {a.name: _put_together(a, fitted) for a in layout.arrays if biased or not a.is_bias}


def _names(layout: Layout) -> str:
    return ", ".join(a.name for a in layout.arrays)


def _units(layout: Layout, arrays: Mapping[str, Tensor]) -> int:
    """hidden_size, that of most matrices, so that a wrong one is named and not a right one."""
    found = []
    for array in layout.arrays:
        if array.is_vector or array.parts == ("r",):
            continue
        shape = tuple(arrays[array.name].shape)
        if len(shape) != 2:
            raise InputError(f"{layout.name}: {array.name} must have 2 dimensions, got shape {shape}")
        rows = shape[1 if array.transposed else 0]
        if rows == 0 or rows % len(array.gates):
            raise InputError(
                f"{layout.name}: {array.name} must have {len(array.gates)} gates of equal size, got shape {shape}"
            )
        found.append(rows // len(array.gates))
    return _most(found)


def _most(widths: Sequence[int]) -> int:
    """The commonest; the first of those that are as common."""
    return Counter(widths).most_common(1)[0][0]


def _taken_apart(array: Array, value: Tensor, units: int) -> Blocks:
    if array.is_vector:
        count = len(array.parts) * len(array.gates)
        expected = (array.rows, count * units // array.rows) if array.rows else (count * units,)
        _check_shape(array, value, expected)
        pieces = value.reshape(len(array.parts), len(array.gates), units)
        return _blocks(array, {part: list(rows.unbind(0)) for part, rows in zip(array.parts, pieces, strict=True)})
    if value.dim() != 2:
        raise InputError(f"{array.name} must have 2 dimensions, got shape {tuple(value.shape)}")
    matrix = value.mT if array.transposed else value
    if array.parts == ("r",):
        return {("r", ""): matrix}
    if matrix.shape[0] != units * len(array.gates) or (len(array.parts) == 2 and matrix.shape[1] <= units):
        raise InputError(
            f"{array.name} must have {len(array.gates)} gates of {units} units, got shape {tuple(value.shape)}"
        )
    widths = {"x": matrix.shape[1] - units * ("h" in array.parts), "h": units}
    parts = [matrix] if len(array.parts) == 1 else matrix.split([widths[p] for p in array.parts], 1)
    return _blocks(array, {part: m.split(units) for part, m in zip(array.parts, parts, strict=True)})


def _check_shape(array: Array, value: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(value.shape) != expected:
        raise InputError(f"{array.name} must have shape {expected}, got {tuple(value.shape)}")


def _blocks(array: Array, pieces: Mapping[str, Sequence[Tensor]]) -> Blocks:
    """By gate, with the signs of Gatewise's."""
    return {
        (part, gate.lstrip("-")): -piece if gate.startswith("-") else piece
        for part, of_gates in pieces.items()
        for gate, piece in zip(array.gates, of_gates, strict=True)
        if gate != "_"
    }


def _check_sizes(layout: Layout, blocks: Blocks, units: int) -> None:
    """All widths of one kind are the same."""
    projection = blocks.get(("r", ""))
    if projection is not None and projection.shape[1] != units:
        raise InputError(
            f"{layout.name}: the projection must have {units} columns, got shape {tuple(projection.shape)}"
        )
    state = units if projection is None else projection.shape[0]
    inputs = _most([b.shape[1] for (part, _), b in blocks.items() if part == "x"])
    for (part, gate), block in blocks.items():
        width = {"x": inputs, "h": state}.get(part)
        if width is not None and block.shape[1] != width:
            array = next(a.name for a in layout.arrays if a.holds(part, gate))
            raise InputError(
                f"{layout.name}: {array} must be {width} wide for the {'input' if part == 'x' else 'state'}, got "
                f"{block.shape[1]}"
            )


def _fitted(layout: Layout, blocks: Blocks) -> Blocks:
    """The blocks with every bias in a place that the layout has."""
    fitted = dict(blocks)
    kept = apart(layout.formula)
    for part, gate in blocks:
        if layout.holds(part, gate):
            continue
        value, other = fitted.pop((part, gate)), {"bx": "bh", "bh": "bx"}.get(part, "")
        if other and gate not in kept and layout.holds(other, gate):
            there = fitted.get((other, gate))
            fitted[other, gate] = value if there is None else there + value
        elif value.count_nonzero():
            raise InputError(_no_place(layout, part, gate))
    return fitted


def _no_place(layout: Layout, part: str, gate: str) -> str:
    what = {"bx": "the bias", "bh": "the second bias", "p": "the peephole", "r": "the projection of the state"}[part]
    why = ""
    if part == "bh":
        why = ", and it cannot be added to the first: the reset gate multiplies it"
    return f"{layout.name} has no place for {what}{f' of gate {gate}' if gate else ''}{why}"


def _put_together(array: Array, blocks: Blocks) -> Tensor:
    if array.parts == ("r",):
        if ("r", "") not in blocks:
            raise InputError(f"{array.name} is missing: these weights have no projection of the state")
        matrix = blocks["r", ""]
    else:
        sides = [torch.cat([_block(array, part, gate, blocks) for gate in array.gates]) for part in array.parts]
        matrix = torch.cat(sides, 0 if array.is_vector else 1)
    if array.is_vector:
        return matrix.reshape(array.rows, -1) if array.rows else matrix
    return (matrix.mT if array.transposed else matrix).contiguous()


def _block(array: Array, part: str, gate: str, blocks: Blocks) -> Tensor:
    """One block with the format's sign; zeros where there is none."""
    own = blocks.get((part, gate.lstrip("-")))
    if own is None:
        like = next(b for (p, _), b in blocks.items() if p == ("x" if part == "x" else "h"))
        return like.new_zeros(like.shape[:1] if array.is_vector else like.shape)
    return -own if gate.startswith("-") else own
