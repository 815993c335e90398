"""Nothing is returned or written before it was run: the same random input through both, and the largest difference."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.backends import backend
from gatewise.errors import InputError
from gatewise.formats.stack import GatewiseLayer, Stack, double, to_layer
from gatewise.nn import Recurrent

ROWS, STEPS = 3, 6
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.1}
"""How far results may lie apart, relative to the largest, by the dtype of what was rounded last: the sums of two biases
of the weights that were made, or all of the arithmetic."""
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Problem:
    """Random input (rows, steps, input_size) and initial states (number of directions, rows, width), float64."""

    x: Array
    initial: tuple[Array, ...]


@dataclass(frozen=True)
class Results:
    """The output of every step (rows, steps, width), and the final states as the initial ones."""

    y: Array
    final: tuple[Array, ...]


@dataclass(frozen=True)
class Reference:
    """Something that computes what a layer of a format should.

    Args:
        against: what it is, for people. run: results of a problem. precision: in which it computes.
        also: another one in float64, where this one is a framework that computes in float32.
    """

    against: str
    run: Callable[[Problem], Results]
    precision: torch.dtype = torch.float64
    also: Reference | None = None


def problem(stack: Stack) -> Problem:
    """Different numbers everywhere; the same for the same sizes."""
    random = np.random.default_rng(7)
    x = random.normal(size=(ROWS, STEPS, stack.input_size))
    shapes = [(len(stack.directions), ROWS, size) for size in stack.state_sizes]
    return Problem(x, tuple(random.normal(size=s) for s in shapes))


def from_zero(given: Problem) -> Problem:
    """The same without initial states."""
    return Problem(given.x, tuple(np.zeros_like(s) for s in given.initial))


def difference(layer: GatewiseLayer, stack: Stack, reference: Reference, name: str, rounded: bool = False) -> float:
    """The largest difference between Gatewise's layer and a reference, relative to the largest value above 1.

    It is taken twice: of the layer, whose weights may be rounded sums of two biases, and of one like it in float64,
    which may differ by rounding alone, so that no small bias is lost.

    Args:
        layer: to be checked. stack: that it was made of. reference: what is right. name: for the sentence.
        rounded: the reference has sums of two biases in the dtype of the stack.

    Returns:
        That of the layer.

    Raises:
        InputError: when they differ by more than rounding.
    """
    if reference.also is not None:
        difference(layer, stack, reference.also, name, rounded)
    given = problem(stack)
    expected = _results(reference, given, name)
    found = apart(expected, run(layer, given, stack.reverse))
    exact = apart(expected, run(to_layer(double(stack)), given, stack.reverse))
    allowed = TOLERANCE[reference.precision]
    loose = max(allowed, TOLERANCE[stack.dtype])
    if not (exact <= (loose if rounded else allowed) and found <= loose):
        raise InputError(
            f"layer {name}: {reference.against} and Gatewise differ by {max(exact, found):.1e} on random input, so "
            "nothing was written"
        )
    return found


def _results(reference: Reference, given: Problem, name: str) -> Results:
    """Those of a reference; what a framework raises has any type."""
    try:
        return reference.run(given)
    except InputError:
        raise
    except Exception as error:
        cause = str(error).partition("\n")[0][:300] or type(error).__name__
        raise InputError(f"layer {name}: {reference.against} cannot run it: {cause}") from error


def apart(expected: Results, actual: Results) -> float:
    """The largest difference relative to the largest expected value above 1; infinite where shapes differ."""
    pairs = list(zip((expected.y, *expected.final), (actual.y, *actual.final), strict=False))
    if len(expected.final) != len(actual.final) or any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    scale = max(1.0, *(float(np.abs(a).max(initial=0.0)) for a, _ in pairs))
    worst = max(float(np.abs(a - b).max(initial=0.0)) for a, b in pairs)
    return worst / scale if np.isfinite(worst) else float("inf")


def run(layer: GatewiseLayer, given: Problem, reverse: bool = False) -> Results:
    """Gatewise's layer in float64; reverse: from the last step to the first."""
    double = copy.deepcopy(layer).double().eval()
    x = torch.from_numpy(given.x)
    x = x.flip(1) if reverse else x
    with torch.no_grad(), backend("eager"):
        y, final = _layer(double, x, given) if isinstance(double, Recurrent) else _steps(double, x, given)
    y = y.flip(1) if reverse else y
    return Results(y.numpy(), tuple(f.numpy() for f in final))


def _layer(layer: Recurrent, x: Tensor, given: Problem) -> tuple[Tensor, tuple[Tensor, ...]]:
    hx = tuple(torch.from_numpy(s) for s in given.initial)
    y, final = layer(x if layer.batch_first else x.transpose(0, 1), hx if len(hx) > 1 else hx[0])
    return (y if layer.batch_first else y.transpose(0, 1)), final if isinstance(final, tuple) else (final,)


def _steps(cell: GatewiseLayer, x: Tensor, given: Problem) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A single step, repeated."""
    states = tuple(torch.from_numpy(s[0]) for s in given.initial)
    outputs = []
    for step in x.unbind(1):
        new = cell(step, states if len(states) > 1 else states[0])
        states = new if isinstance(new, tuple) else (new,)
        outputs.append(states[0])
    return torch.stack(outputs, 1), tuple(s.unsqueeze(0) for s in states)
