"""``scaling.py`` in torch operations, which exporters read: windows in units of their own, and the way back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gatewise.tasks.forecast.intervals import NEAREST
from gatewise.tasks.forecast.scaling import FAR, TINY


def scale(windows: Tensor, horizon: int, lags: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """As ``scaling.scale`` of (B, W) float64 windows: what the network reads, the base (B, horizon), and the size (B,)
    of a unit of its output, 0 where the window does not move."""
    known = ~windows.isnan()
    filled = carried(windows, known)
    count = known.sum(1).clamp(min=1)
    last = filled[:, -1:]
    away = torch.where(known, filled - last, 0.0)
    mean = away.sum(1, keepdim=True) / count[:, None]
    spread = (torch.where(known, (away - mean) ** 2, 0.0).sum(1) / count).sqrt()
    moving = spread > TINY * last[:, 0].abs().clamp(min=1e-300)
    spread = torch.where(moving, spread, 1.0)
    errors = torch.stack([naive_error(filled, known, horizon, lag, spread) for lag in lags])
    weights = (errors.amin(0) / errors) ** 2
    weights = weights / weights.sum(0)
    naives = [naive(filled, known, horizon, lag) for lag in lags]
    base = sum(weights[k].unsqueeze(1) * one for k, one in enumerate(naives))
    unit = 1 / (weights / errors).sum(0)
    best = torch.tensor([abs(lag) for lag in lags])[errors.argmin(0)]
    steps = torch.arange(filled.shape[1])
    at = steps - best.unsqueeze(1)
    change = filled - filled.gather(1, torch.where(at < 0, steps, at))
    x = torch.stack([(filled - last) / spread[:, None], change / unit[:, None]], -1).clamp(-FAR, FAR)
    assert isinstance(base, Tensor)
    return torch.cat([x, known[..., None].to(x.dtype)], -1).float(), base, torch.where(moving, unit, 0.0)


def carried(windows: Tensor, known: Tensor) -> Tensor:
    """As ``scaling.carried``."""
    width = windows.shape[1]
    steps = torch.arange(width)
    at = torch.where(known, steps, -1).cummax(1).values
    first = torch.where(known, steps, width).amin(1, keepdim=True) % width
    found = windows.gather(1, torch.where(at < 0, first, at))
    return torch.where(found.isnan(), 0.0, found)


def naive_error(filled: Tensor, known: Tensor, horizon: int, lag: int, spread: Tensor) -> Tensor:
    """As ``scaling.naive_error``."""
    width, drifting, lag = filled.shape[1], lag < 0, abs(lag)
    reach = min(lag * -(-max(1, horizon // 2) // lag), max(1, width // 2) if lag == 1 else width)
    if reach >= width:
        return spread
    both = known[:, reach:] & known[:, :-reach]
    change, pairs = filled[:, reach:] - filled[:, :-reach], both.sum(1)
    if drifting:
        change = change - (torch.where(both, change, 0.0).sum(1) / pairs.clamp(min=1))[:, None]
    total = torch.where(both, change.abs(), 0.0).sum(1)
    enough = pairs >= min(lag, horizon, width - reach) / 2
    return torch.where(enough, torch.maximum(total / pairs.clamp(min=1), 0.05 * spread), 1.5 * spread)


def naive(filled: Tensor, known: Tensor, horizon: int, lag: int) -> Tensor:
    """As ``scaling.naive``."""
    season, width = abs(lag), filled.shape[1]
    found = repeated(filled, known, horizon, season)
    if lag > 0 or season >= width:
        return found
    both = known[:, season:] & known[:, :-season]
    change = torch.where(both, filled[:, season:] - filled[:, :-season], 0.0).sum(1) / both.sum(1).clamp(min=1)
    return found + change[:, None] * (1 + torch.arange(horizon) // season)


def repeated(filled: Tensor, known: Tensor, horizon: int, lag: int) -> Tensor:
    """As ``scaling.repeated``."""
    width, last = filled.shape[1], filled[:, -1:]
    if lag == 1 or lag > width:
        return last.expand(-1, horizon)
    whole = width // lag
    seasons, there = (a[:, width - whole * lag :].unflatten(1, (whole, lag)) for a in (filled, known))
    newest = torch.where(there, torch.arange(whole).unsqueeze(1), -1).amax(1).clamp(min=0)
    season = torch.where(there.any(1), seasons.gather(1, newest.unsqueeze(1)).squeeze(1), last)
    return season[:, torch.arange(horizon) % lag]


def stretched(said: Tensor, factors: Tensor) -> Tensor:
    """As ``intervals.stretched``, of quantiles (B, horizon, Q)."""
    middle = said[..., :1]
    if said.shape[-1] == 1:
        return said
    low, high = torch.minimum(said[..., 1::2], middle), torch.maximum(said[..., 2::2], middle)
    least = NEAREST * (high - low).mean(-2, keepdim=True) / 2
    low, high = torch.minimum(low, middle - least), torch.maximum(high, middle + least)
    ends = middle[..., None] + factors[:, None] * (torch.stack([low, high], -1) - middle[..., None])
    nested = [ends[..., 0, :]]
    for k in range(1, ends.shape[-2]):
        low, high = torch.minimum(nested[-1], ends[..., k, :]), torch.maximum(nested[-1], ends[..., k, :])
        nested.append(torch.stack([low[..., 0], high[..., 1]], -1))
    return torch.cat([middle, *nested], -1)
