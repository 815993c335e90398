"""What a cell for series with gaps is told of them: which values are there, since when not, and what was last seen."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Gaps(NamedTuple):
    """A series without NaN and what says where it had some; all of the shape and dtype of the series."""

    x: Tensor
    """The values, 0 where they are missing."""
    mask: Tensor
    """1 where a value was observed, else 0."""
    gap: Tensor
    """Time since the observation before (t' < t), of each variable by itself; until the first one since the start."""
    last: Tensor
    """The value of that observation; 0 before the first one, which is the mean of a standardised series."""

    @property
    def inputs(self) -> dict[str, Tensor]:
        """``mask``, ``gap`` and ``last`` by name, as ``cells.gru_d`` takes them."""
        return {"mask": self.mask, "gap": self.gap, "last": self.last}


def gaps(series: Tensor, times: Tensor | None = None, *, batch_first: bool = False) -> Gaps:
    """Mask, time gaps and last observations of a series whose missing values are NaN (Che et al. 2016,
    arXiv 1606.01865, sec. 2.1).

    Args:
        series: (T, B, variables), (B, T, variables) with ``batch_first``, or (T, variables); floating.
        times: when the steps are, in the unit in which gaps are wanted: (T,), or (T, B) or (B, T) as the series lies;
            0, 1, 2 … when absent.
        batch_first: how a series with a batch lies.

    Raises:
        TypeError, ValueError: for what is no floating tensor, has a wrong shape, or times that go back.
    """
    if not isinstance(series, Tensor) or not series.is_floating_point():
        got = f"dtype {series.dtype}" if isinstance(series, Tensor) else type(series).__name__
        raise TypeError(f"series must be a floating tensor, got {got}")
    if series.dim() not in (2, 3):
        raise ValueError(f"series must have 2 (steps, variables) or 3 dimensions, got {series.dim()}")
    swapped = batch_first and series.dim() == 3
    values = series.transpose(0, 1) if swapped else series
    clock = _clock(values, times, swapped)
    observed = ~values.isnan()
    x = torch.where(observed, values, 0.0)
    steps = torch.arange(len(values), device=values.device).view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    seen = torch.where(observed, steps, -1)
    # The step of the observation before each step, -1 where there was none.
    earlier = torch.cat([torch.full_like(seen[:1], -1), seen.cummax(0).values[:-1]]) if len(seen) else seen
    at = earlier.clamp(min=0)
    found = (
        x,
        observed.to(x.dtype),
        (clock - clock.gather(0, at)).to(x.dtype),
        torch.where(earlier >= 0, x.gather(0, at), 0.0),
    )
    return Gaps(*(v.transpose(0, 1) if swapped else v for v in found))


def _clock(values: Tensor, times: Tensor | None, swapped: bool) -> Tensor:
    """The time of every value; values lie time first."""
    if times is None:
        times = torch.arange(len(values), device=values.device)
    elif not isinstance(times, Tensor) or times.is_complex() or times.dtype == torch.bool:
        got = f"dtype {times.dtype}" if isinstance(times, Tensor) else type(times).__name__
        raise TypeError(f"times must be a tensor of real numbers, got {got}")
    else:
        lead = tuple(values.shape[:-1])
        own = lead[::-1] if swapped else lead
        if tuple(times.shape) not in {own, lead[:1]}:
            shapes = " or ".join(str(shape) for shape in dict.fromkeys((lead[:1], own)))
            raise ValueError(f"times must have shape {shapes}, got {tuple(times.shape)}")
        times = times.transpose(0, 1) if swapped and times.dim() == 2 else times
        if not bool((times[1:] >= times[:-1]).all()):
            raise ValueError("times must not go back from one step to the next, but they do")
    return times.view(*times.shape, *[1] * (values.dim() - times.dim())).expand_as(values)
