"""The table of orders and biases against an independent reading of every format's formula."""

from __future__ import annotations

import pytest
from formats.test_blocks import random_arrays

from gatewise.errors import InputError
from gatewise.formats.blocks import read
from gatewise.formats.compare import difference
from gatewise.formats.formulas import usual
from gatewise.formats.layouts import LAYOUTS, Layout
from gatewise.formats.readings import STEPS, reading
from gatewise.formats.stack import Stack, to_layer

FOREIGN = [layout for layout in LAYOUTS.values() if layout.framework not in ("torch", "gatewise")]
EACH = pytest.mark.parametrize("layout", FOREIGN, ids=lambda layout: layout.name)


def test_every_foreign_layout_has_a_reading() -> None:
    assert STEPS.keys() == {layout.name for layout in FOREIGN}


@EACH
def test_gatewise_computes_what_the_format_says(layout: Layout) -> None:
    arrays = random_arrays(layout)
    stack = Stack(layout.formula, usual(layout.formula), (read(layout, arrays),))
    reference = reading(layout.name, [{n: v.numpy() for n, v in arrays.items()}], usual(layout.formula))
    assert difference(to_layer(stack), stack, reference, "it") < 1e-6


@EACH
def test_every_number_matters(layout: Layout) -> None:
    """A number changed anywhere is seen by the comparison; but for rows that nobody reads."""
    arrays = random_arrays(layout)
    stack = Stack(layout.formula, usual(layout.formula), (read(layout, arrays),))
    layer = to_layer(stack)
    for array in layout.arrays:
        value = arrays[array.name].clone()
        value.view(-1)[0] += 1e-3
        spoiled = {n: v.numpy() for n, v in (arrays | {array.name: value}).items()}
        with pytest.raises(InputError, match="differ by"):
            difference(layer, stack, reading(layout.name, [spoiled], usual(layout.formula)), "it")


@EACH
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stacks(layout: Layout, bidirectional: bool) -> None:
    layers = [{n: v + k / 10 for n, v in random_arrays(layout).items()} for k in range(2 if bidirectional else 1)]
    directions = tuple(read(layout, own) for own in layers)
    stack = Stack(layout.formula, usual(layout.formula), directions, bidirectional=bidirectional)
    weights = [{n: v.numpy() for n, v in own.items()} for own in layers]
    reference = reading(layout.name, weights, usual(layout.formula), bidirectional)
    difference(to_layer(stack), stack, reference, "it")
    if bidirectional:
        swapped = reading(layout.name, weights[::-1], usual(layout.formula), True)
        with pytest.raises(InputError, match="differ by"):
            difference(to_layer(stack), stack, swapped, "it")
