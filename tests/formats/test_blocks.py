"""The one table of orders and biases: what is written is read again, and what cannot be written is refused."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from gatewise.errors import InputError
from gatewise.formats.blocks import Blocks, apart, read, write
from gatewise.formats.formulas import cell_of
from gatewise.formats.layouts import LAYOUTS, Layout

INPUT, HIDDEN, PROJECTED = 3, 4, 2
ALL = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)


def random_arrays(layout: Layout) -> dict[str, Tensor]:
    """Different numbers everywhere."""
    arrays, generator = {}, torch.Generator().manual_seed(1)
    projected = any(a.parts == ("r",) for a in layout.arrays)
    widths = {"x": INPUT, "h": PROJECTED if projected else HIDDEN}
    for array in layout.arrays:
        rows = HIDDEN * len(array.gates)
        if array.parts == ("r",):
            shape: tuple[int, ...] = (PROJECTED, HIDDEN)
        elif array.is_vector:
            shape = (rows * len(array.parts),)
            shape = (array.rows, shape[0] // array.rows) if array.rows else shape
        else:
            shape = (rows, sum(widths[part] for part in array.parts))
            shape = shape[::-1] if array.transposed else shape
        arrays[array.name] = torch.randn(shape, generator=generator)
    return arrays


def without_unread(layout: Layout, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The arrays with zeros in rows that the format does not read."""
    found = dict(arrays)
    for array in layout.arrays:
        if "_" in array.gates:
            value = found[array.name].clone()
            value.reshape(len(array.parts) if array.is_vector else 1, len(array.gates), HIDDEN, -1)[
                :, array.gates.index("_")
            ] = 0
            found[array.name] = value
    return found


@ALL
def test_what_is_read_is_written_as_it_was(layout: Layout) -> None:
    arrays = random_arrays(layout)
    written = write(layout, read(layout, arrays))
    for name, value in without_unread(layout, arrays).items():
        assert torch.equal(written[name], value), name


@ALL
def test_without_biases(layout: Layout) -> None:
    arrays = {a.name: v for a, v in zip(layout.arrays, random_arrays(layout).values(), strict=True) if not a.is_bias}
    if layout.always_biases:
        with pytest.raises(InputError, match="missing"):
            read(layout, arrays)
        return
    assert write(layout, read(layout, arrays)).keys() == arrays.keys()


@ALL
def test_the_gates_are_those_of_the_cell(layout: Layout) -> None:
    cell = cell_of(layout.formula)
    for part in ("x", "h"):
        gates = [g.lstrip("-") for a in layout.arrays if part in a.parts for g in a.gates if g != "_"]
        assert sorted(gates) == sorted(cell.gates)
    peepholes = [g.lstrip("-") for a in layout.arrays if "p" in a.parts for g in a.gates if g != "_"]
    assert sorted(peepholes) == sorted(cell.uses[k].gate for k, _ in cell.diagonals)


@pytest.mark.parametrize("layout", [v for v in LAYOUTS.values() if v.framework == "gatewise"], ids=lambda v: v.name)
def test_gatewise_own_layouts_are_those_of_the_cells(layout: Layout) -> None:
    from gatewise import cells

    cell = getattr(cells, layout.layer, None) or cell_of(layout.layer)
    for array in layout.arrays:
        rows = cell.rows(array.name) or tuple(cell.uses[k].gate for k, _ in cell.diagonals)
        assert tuple(g.lstrip("-") for g in array.gates) == rows
    assert cell.parameter_shapes(INPUT, HIDDEN) == {n: tuple(v.shape) for n, v in random_arrays(layout).items()}


def test_biases_are_added_up_where_one_is_kept_and_only_where_that_is_exact() -> None:
    blocks = read(LAYOUTS["torch LSTM"], random_arrays(LAYOUTS["torch LSTM"]))
    arrays = write(LAYOUTS["keras LSTM"], blocks)
    assert torch.equal(arrays["bias"][:HIDDEN], blocks["bx", "i"] + blocks["bh", "i"])
    assert apart("gru_reset_after") == ("n",)
    gru = read(LAYOUTS["torch GRU"], random_arrays(LAYOUTS["torch GRU"]))
    with pytest.raises(InputError, match=r"no place for the second bias of gate n.*the reset gate multiplies it"):
        write(LAYOUTS["flax.nnx GRUCell"], gru)
    gru["bh", "n"] = torch.zeros(HIDDEN)
    folded = write(LAYOUTS["flax.nnx GRUCell"], gru)
    expected = [gru["bx", "r"] + gru["bh", "r"], gru["bx", "z"] + gru["bh", "z"], gru["bx", "n"]]
    assert torch.equal(folded["dense_i.bias"], torch.cat(expected))


def test_a_layout_that_keeps_two_gets_one_and_zeros() -> None:
    blocks = read(LAYOUTS["equinox GRUCell"], random_arrays(LAYOUTS["equinox GRUCell"]))
    arrays = write(LAYOUTS["torch GRU"], blocks)
    assert torch.equal(arrays["bias_hh"][: 2 * HIDDEN], torch.zeros(2 * HIDDEN))
    assert torch.equal(arrays["bias_hh"][2 * HIDDEN :], blocks["bh", "n"])


def _spoiled(layout: Layout, name: str, value: Tensor) -> Blocks:
    return read(layout, random_arrays(layout) | {name: value})


@pytest.mark.parametrize(
    ("layout", "name", "shape", "sentence"),
    [
        ("torch GRU", "weight_ih", (13, 3), "weight_ih must have 3 gates of equal size, got shape (13, 3)"),
        ("torch GRU", "weight_hh", (12, 5), "weight_hh must be 4 wide for the state, got 5"),
        ("torch GRU", "bias_hh", (11,), "bias_hh must have shape (12,), got (11,)"),
        ("keras GRU", "bias", (24,), "bias must have shape (2, 12), got (24,)"),
        ("keras GRU", "recurrent_kernel", (4, 15), "recurrent_kernel must have 3 gates of 4 units, got shape (4, 15)"),
        ("onnx LSTM P", "P", (16,), "P must have shape (12,), got (16,)"),
        ("torch LSTM proj_size", "weight_hr", (2, 5), "the projection must have 4 columns, got shape (2, 5)"),
        ("torch RNN", "weight_ih", (12,), "weight_ih must have 2 dimensions, got shape (12,)"),
        ("flax.linen GRUCell", "iz.kernel", (5, 4), "iz.kernel must be 3 wide for the input, got 5"),
        ("textbook LSTM", "W_i", (4, 4), "W_i must have 1 gates of 4 units, got shape (4, 4)"),
    ],
)
def test_shapes_that_contradict_each_other(layout: str, name: str, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        _spoiled(LAYOUTS[layout], name, torch.ones(shape))


def test_a_projection_or_a_peephole_has_no_place_elsewhere() -> None:
    blocks = read(LAYOUTS["torch LSTM proj_size"], random_arrays(LAYOUTS["torch LSTM proj_size"]))
    with pytest.raises(InputError, match="keras LSTM has no place for the projection of the state"):
        write(LAYOUTS["keras LSTM"], blocks)
