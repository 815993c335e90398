"""Arrays in any layout of the table, in and out: textbooks' ``W·[h, x]``, TensorFlow 1's cells, any framework's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gatewise.errors import InputError
from gatewise.formats.blocks import read, write
from gatewise.formats.compare import difference
from gatewise.formats.flat import as_tensor
from gatewise.formats.formulas import Activation, Activations, usual
from gatewise.formats.found import Converted, converted
from gatewise.formats.layouts import layout_named
from gatewise.formats.stack import GatewiseLayer, double, express, from_layer, to_layer
from gatewise.formats.trees import from_arrays as found_in_arrays
from gatewise.formats.trees import reference

Arrays = Mapping[str, Any]


def from_arrays(
    layout: str, arrays: Arrays | Sequence[Arrays], activations: Sequence[Activation] | None = None
) -> Converted:
    """A layer of Gatewise's from arrays, run beside the formula that the layout says.

    Args:
        layout: a name of ``LAYOUTS``, such as ``textbook GRU``. arrays: by the names of the layout; two of them for
            both directions. activations: of the formula; the usual ones where absent.

    Raises:
        InputError: for a layout that is none, arrays that are missing or contradict each other, numbers that are not
            finite, and when Gatewise's layer differs from the formula.
    """
    own = layout_named(layout)
    given = [arrays] if isinstance(arrays, Mapping) else list(arrays)
    if len(given) not in (1, 2):
        raise InputError(f"arrays must be those of one or two directions, got {len(given)}")
    if own.framework in ("torch", "gatewise"):
        raise InputError(f"arrays of {layout} are a state_dict: give that to gatewise.formats.layer")
    unknown = [n for one in given for n in one if n not in {a.name for a in own.arrays}]
    if unknown:
        raise InputError(f"{layout} has no array {unknown[0]!r}, expected {', '.join(a.name for a in own.arrays)}")
    stored = [{name: as_tensor(value) for name, value in one.items()} for one in given]
    used: Activations = usual(own.formula) if activations is None else tuple(activations)
    return converted(found_in_arrays("", own, stored, [read(own, one) for one in stored], used))


def to_arrays(layer: GatewiseLayer, layout: str) -> list[dict[str, Tensor]]:
    """The arrays of each direction of a layer with one layer, checked by running the formula that the layout says.

    Args:
        layer: of Gatewise's. layout: a name of ``LAYOUTS``.

    Raises:
        InputError: for a layout that is none, when it has another formula or no place for a bias, and when its formula
            on the arrays differs from the layer.
    """
    own, stack = layout_named(layout), from_layer(layer)
    if stack.num_layers != 1:
        raise InputError(f"layer must have one layer, got {stack.num_layers}")
    made = express(stack, own.formula, own.name)
    if own.framework not in ("torch", "gatewise"):
        exact = [write(own, blocks) for blocks in double(made).directions]
        difference(to_layer(stack), stack, reference(own, exact, double(made)), own.name)
    return [write(own, blocks) for blocks in made.directions]
