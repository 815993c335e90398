"""No speed without right numbers: every output and gradient against the equations in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

import gatewise as gw
from benches.columns import Column
from benches.problem import Problem, Run, fill, whole
from benches.shapes import STEP, Shape

OUTPUT_LIMIT = 1e-5
"""Largest difference of an output. States lie in ±1; float32 and 1000 steps leave less than 2e-6."""
GRADIENT_LIMIT = 1e-5
"""Largest difference of a gradient as a share of its largest element."""


class WrongNumbersError(Exception):
    """A layer computes something else than its equations."""


@dataclass(frozen=True)
class Reference:
    """The right numbers of one formula for the first steps of a problem."""

    problem: Problem
    results: dict[str, Tensor]

    @classmethod
    def of(cls, problem: Problem, steps: int) -> Reference:
        short = problem if problem.kind == STEP else problem.shortened(steps)
        layer = fill(short.reference(*short.sizes), short.parameters).double()
        double = replace(short, x=short.x.double(), dy=short.dy.double())
        with gw.backend("eager"), torch.set_grad_enabled(short.training):
            results = {name: value.detach() for name, value in whole(layer, double).results().items()}
        return cls(short, {"y": results["y"]} if short.kind == STEP else results)


def checked_steps(shape: Shape, operations: float, allowed: float) -> int:
    """How many of a shape's steps the reference computes: as many as so many operations allow, at least 2, or all."""
    return min(shape.time, max(2, int(allowed * shape.time / operations)))


def verify(column: Column, problem: Problem, reference: Reference) -> tuple[float, Run]:
    """The largest error of a column, in shares of the limits, and the run that is to be timed.

    Raises:
        WrongNumbersError: naming column, tensor and error.
    """
    with torch.set_grad_enabled(problem.training):
        short = column.start(reference.problem)
        found = short.results()
        if found.keys() != reference.results.keys():
            raise WrongNumbersError(f"{column.title}: gives {sorted(found)}, expected {sorted(reference.results)}")
        worst = max(_error(column, name, found[name], right) for name, right in reference.results.items())
        if reference.problem.x.shape == problem.x.shape:
            return worst, short
        run = column.start(problem)
        return max(worst, _whole(column, run, reference.results["y"])), run


def _whole(column: Column, run: Run, right: Tensor) -> float:
    """A sequence longer than its reference: its first outputs must be those of the short one all the same."""
    found = run.results()
    for name, value in found.items():
        if not bool(value.isfinite().all()):
            raise WrongNumbersError(f"{column.title}: {name} of the whole sequence is not finite")
    return _error(column, "y of the whole sequence", found["y"][: right.shape[0]], right)


def _error(column: Column, name: str, found: Tensor, right: Tensor) -> float:
    if found.shape != right.shape:
        raise WrongNumbersError(f"{column.title}: {name} has shape {tuple(found.shape)}, expected {tuple(right.shape)}")
    gradient = name.startswith("gradient")
    limit = GRADIENT_LIMIT * max(float(right.abs().max()), 1e-30) if gradient else OUTPUT_LIMIT
    error = float((found.detach().double() - right).abs().max())
    if not error <= limit:  # a NaN is wrong too
        raise WrongNumbersError(f"{column.title}: {name} differs by {error:.1e}, allowed {limit:.1e}")
    return error / limit
