"""Gradients of weights: sums over time and batch of δᵀ·operand, on the same register tiles as everything else."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gatewise.backends.cpu import launch, openmp
from gatewise.backends.cpu.launch import Target, place
from gatewise.compiler.plan import reduction

RUN = 256
"""Rows summed in registers before they are added to the total: 256 rows of δ stay in the second-level cache."""


def reduce(to: Target, total: Tensor, delta: Tensor, operand: Tensor) -> None:
    """total += Σ deltaᵀ·operand.

    Args:
        total: (M, N), contiguous rows. delta: (T, B, ...) with M numbers side by side for each of T·B rows at one
            distance. operand: (T, B, N), contiguous.
    """
    count, size = delta.shape[0] * delta.shape[1], to.size
    operand = operand.contiguous()
    row = operand.shape[-1] * size
    rows, units = total.shape
    # Read in place, δ would touch another page at every row: 98 against 149 GFLOP/s at 650 units.
    left = launch.pack_rows(to, delta.data_ptr(), delta.stride(1) * size, count, rows, openmp.threads())
    vector = to.length * size
    for first, steps, depth in launch.portions(count, RUN):
        launch.run(
            "reduction",
            reduction(),
            to,
            steps=steps,
            rows=rows,
            units=units,
            widths={"left": depth},
            places={
                "left": place(left.data_ptr() + first * vector, depth * vector, count * vector),
                "total": place(total.data_ptr(), 0, total.stride(0) * size),
            },
            weights=_the_one(operand.data_ptr() + first * row, row),
            entry="copied",
            advance=True,
        )


def _the_one(address: int, row: int) -> Callable[[str], tuple[int, int]]:
    """What a plan with a single weight asks for it by name."""
    return lambda _: (address, row)
