"""No speed without right numbers: every output and gradient against the equations in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import gatewise as gw
from benches.columns import REFERENCES, Column, Problem, call, fill, labelled
from benches.shapes import Shape

OUTPUT_LIMIT = 1e-5
"""Largest difference of an output. States lie in ±1; float32 and 1000 steps leave less than 2e-6."""
GRADIENT_LIMIT = 1e-4
"""Largest difference of a gradient as a share of its largest element; float32 leaves less than 1e-5."""


class WrongNumbersError(Exception):
    """A layer computes something else than its equations."""


@dataclass(frozen=True)
class Reference:
    """The right numbers of one formula for the first steps of a problem."""

    problem: Problem
    training: bool
    results: dict[str, Tensor]

    @classmethod
    def of(cls, problem: Problem, formula: str, steps: int, training: bool) -> Reference:
        short = problem.shortened(steps)
        layer = fill(REFERENCES[formula](short.x.shape[2], short.dy.shape[2]), short.parameters).double()
        double = Problem(short.parameters, short.x.double(), short.dy.double())
        with gw.backend("eager"), torch.set_grad_enabled(training):
            results = [r.detach() for r in call(layer, double, training)()]
        return cls(short, training, labelled(layer, results, training))


def checked_steps(shape: Shape, formula: str, operations: float) -> int:
    """How many of a shape's steps the reference computes: as many as so many operations allow, at least 2, or all."""
    return min(shape.time, max(2, int(operations * shape.time / shape.operations(formula))))


def verify(column: Column, layer: nn.Module, problem: Problem, reference: Reference) -> float:
    """The largest error of a layer, in shares of the limits.

    Raises:
        WrongNumbersError: naming column, tensor and error.
    """
    with torch.set_grad_enabled(reference.training):
        results = call(layer, reference.problem, reference.training)()
    found = labelled(layer, results, reference.training)
    if found.keys() != reference.results.keys():
        raise WrongNumbersError(f"{column.title}: gives {sorted(found)}, expected {sorted(reference.results)}")
    worst = max(_error(column, name, found[name], right) for name, right in reference.results.items())
    if reference.problem.x.shape[0] < problem.x.shape[0]:
        worst = max(worst, _whole(column, layer, problem, reference.results["y"]))
    return worst


def _whole(column: Column, layer: nn.Module, problem: Problem, right: Tensor) -> float:
    """A sequence longer than its reference: its first outputs must be those of the short one all the same."""
    with torch.no_grad():
        y = call(layer, problem, False)()[0]
    if not bool(y.isfinite().all()):
        raise WrongNumbersError(f"{column.title}: y of the whole sequence is not finite")
    return _error(column, "y of the whole sequence", y[: right.shape[0]], right)


def _error(column: Column, name: str, found: Tensor, right: Tensor) -> float:
    if found.shape != right.shape:
        raise WrongNumbersError(f"{column.title}: {name} has shape {tuple(found.shape)}, expected {tuple(right.shape)}")
    gradient = name.startswith("gradient")
    limit = GRADIENT_LIMIT * max(float(right.abs().max()), 1e-30) if gradient else OUTPUT_LIMIT
    error = float((found.detach().double() - right).abs().max())
    if not error <= limit:  # a NaN is wrong too
        raise WrongNumbersError(f"{column.title}: {name} differs by {error:.1e}, allowed {limit:.1e}")
    return error / limit
