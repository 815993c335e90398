"""Layers in trees of arrays by the names of their cells: Flax (nnx and linen), Equinox, TensorFlow 1, textbooks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gatewise.errors import InputError
from gatewise.formats.blocks import Blocks, read
from gatewise.formats.compare import Reference
from gatewise.formats.formulas import Activations, usual
from gatewise.formats.found import Found
from gatewise.formats.jax_cells import reference as jax_reference
from gatewise.formats.layouts import LAYOUTS, Layout
from gatewise.formats.readings import reading
from gatewise.formats.stack import Stack

FRAMEWORKS = ("flax.nnx", "flax.linen", "equinox", "tensorflow1")
_SIMILAR = tuple(layout for layout in LAYOUTS.values() if layout.framework in FRAMEWORKS)
FORWARD, BACKWARD = "forward_rnn", "backward_rnn"
"""What Flax calls the two directions."""
Own = dict[str, Tensor]


def find(tensors: Mapping[str, Tensor], said: Mapping[str, Activations] | None = None) -> list[Found]:
    """The cells in a tree, in the order of their prefixes.

    Args:
        tensors: by name. said: the activations of layers by their names, where a file says them.

    Raises:
        InputError: when the shapes of a cell contradict each other.
    """
    tensors = {name.removesuffix(":0").removeprefix("params."): value for name, value in tensors.items()}
    candidates: dict[str, list[Layout]] = {}
    for layout in _SIMILAR:
        first = layout.arrays[0].name
        for name in tensors:
            if name == first or name.endswith(f".{first}"):
                candidates.setdefault(name[: -len(first)].removesuffix("."), []).append(layout)
    singles = [
        f for prefix, layouts in candidates.items() if (f := _found(prefix, layouts, tensors, said or {})) is not None
    ]
    return _paired(singles)


def _found(
    prefix: str, layouts: list[Layout], tensors: Mapping[str, Tensor], said: Mapping[str, Activations]
) -> tuple[Found, Own] | None:
    """The first layout whose arrays are all there and fit together; None where some are missing in all of them."""
    problem: InputError | None = None
    for layout in layouts:
        own = arrays_under(prefix, layout, tensors)
        if own is None:
            continue
        try:
            blocks = read(layout, own)
        except InputError as error:
            problem = problem or error
            continue
        known = next((used for name, used in said.items() if f"{prefix}.".startswith(f"{name}.".lstrip("."))), None)
        used, notes = (usual(layout.formula), (UNSAID,)) if known is None else (known, ())
        return from_arrays(prefix, layout, [own], [blocks], used, notes), own
    if problem is not None:
        raise InputError(f"layer {prefix or '(unnamed)'}: {problem}")
    return None


UNSAID = "activations are not stored: the usual ones are taken"


def arrays_under(prefix: str, layout: Layout, tensors: Mapping[str, Tensor]) -> Own | None:
    """The arrays of a layout below a prefix; None where they are not there, or others of the same names are."""
    lead = f"{prefix}." if prefix else ""
    own = {a.name: tensors[lead + a.name] for a in layout.arrays if lead + a.name in tensors}
    # Without them Equinox's cells have the names and the formula of torch's, and are found as those.
    biased = layout.always_biases or layout.framework == "equinox"
    needed = [a.name for a in layout.arrays if biased or not a.is_bias]
    roots = {a.name.partition(".")[0] for a in layout.arrays}
    below = {n[len(lead) :] for n in tensors if n.startswith(lead) and n[len(lead) :].partition(".")[0] in roots}
    return own if all(n in own for n in needed) and below <= own.keys() else None


def from_arrays(
    name: str,
    layout: Layout,
    stored: list[Own],
    directions: list[Blocks],
    activations: Activations,
    notes: tuple[str, ...] = (),
    reverse: bool = False,
) -> Found:
    """A layer from the arrays of its one or two directions, as a format stores them."""
    stack = Stack(layout.formula, activations, tuple(directions), bidirectional=len(directions) == 2, reverse=reverse)
    return Found(name, layout.name, stack, reference(layout, stored, stack), notes, notes)


def reference(layout: Layout, stored: list[Own], stack: Stack) -> Reference:
    """The framework's own cell on the arrays; where it is not installed, or there is none, a reading of its formula."""
    found = jax_reference(layout, stored, stack)
    if found is not None:
        return found
    arrays = [{n: v.double().numpy() for n, v in own.items()} for own in stored]
    return reading(layout.name, arrays, stack.activations, stack.bidirectional, stack.reverse)


def _paired(singles: list[tuple[Found, Own]]) -> list[Found]:
    """The two directions of Flax's ``Bidirectional`` are one layer."""
    by_name = {found.name: (found, own) for found, own in singles}
    result = []
    for name, (found, own) in by_name.items():
        parts = name.split(".")
        there, back = FORWARD in parts, BACKWARD in parts
        other = by_name.get(".".join(_other(part) for part in parts)) if there or back else None
        if other is None or other[0].kind != found.kind or not _alike(found.stack, other[0].stack):
            result.append(found)
        elif there:
            layout, outer = LAYOUTS[found.kind], ".".join(parts[: parts.index(FORWARD)])
            blocks = [found.stack.directions[0], other[0].stack.directions[0]]
            result.append(from_arrays(outer, layout, [own, other[1]], blocks, found.stack.activations, found.notes))
    return result


def _other(part: str) -> str:
    return {FORWARD: BACKWARD, BACKWARD: FORWARD}.get(part, part)


def _alike(one: Stack, other: Stack) -> bool:
    shapes = [{k: b.shape for k, b in s.directions[0].items()} for s in (one, other)]
    return shapes[0] == shapes[1]
