"""A recurrent layer that was found in a source: what it is called there, its weights, and what it must compute."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from gatewise.formats.compare import Problem, Reference, difference, problem, run
from gatewise.formats.reverse import Reversed
from gatewise.formats.stack import GatewiseLayer, Stack, checked, to_layer
from gatewise.nn import Recurrent


@dataclass(frozen=True, repr=False)
class Found:
    """A layer in a source.

    Args:
        name: its prefix or name there; empty where the source is the layer. kind: such as ``torch.nn.GRU``. stack: its
            weights. reference: computes what it must. notes: what the source does not say, and what was taken.
            assumed: those of the notes without which the numbers may be others.
    """

    name: str
    kind: str
    stack: Stack
    reference: Reference
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        return self.name or "(unnamed)"

    def __repr__(self) -> str:
        """Without its weights."""
        return f"Found(name={self.name!r}, kind={self.kind!r}, stack={self.stack}, notes={self.notes})"


@dataclass(frozen=True)
class Left:
    """A recurrent layer in a source that Gatewise does not compute, and the reason."""

    name: str
    reason: str


Here = list[Found | Left]
"""What a source holds."""


@dataclass(frozen=True)
class Converted:
    """A layer of Gatewise's that was run beside what it was made of.

    Args:
        found: what was there. layer: with the same weights, in evaluation mode; a ``Reversed`` one where it runs from
            the last step to the first. difference: the largest on random input, relative to the largest value above 1.
    """

    found: Found
    layer: nn.Module
    difference: float


def converted(found: Found) -> Converted:
    """Gatewise's layer of what was found, run beside it.

    Raises:
        InputError: when the weights are no numbers, or the two differ.
    """
    stack = checked(found.stack, found.shown)
    layer = to_layer(stack)
    apart = difference(layer, stack, found.reference, found.shown)
    made = Reversed(layer) if isinstance(layer, Recurrent) and stack.reverse else layer
    notes = (*found.notes, SATURATED) if _saturated(layer, stack) else found.notes
    return Converted(replace(found, notes=notes), made, apart)


SATURATED = "the output is the same for every input, so that the comparison says little (all gates are saturated)"


def _saturated(layer: GatewiseLayer, stack: Stack) -> bool:
    """Whether other input gives the same output to the last bit."""
    given = problem(stack)
    other = Problem(given.x * 1.1, given.initial)
    return bool((run(layer, given).y == run(layer, other).y).all())
