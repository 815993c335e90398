"""Sample paths: the states at origins from one pass over a series, and the values that are drawn from there on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.tasks.forecast.distributions import Distribution
from gatewise.tasks.forecast.known import Known
from gatewise.tasks.forecast.panel import Places
from gatewise.tasks.forecast.reader import Reader, Walk
from gatewise.tasks.forecast.recurrence import RecursiveMembers
from gatewise.tasks.forecast.table import Values
from gatewise.tasks.objective import mapped
from gatewise.tasks.text.exact import Exact

BLOCKS = 128
"""Blocks that are read at once."""
NUMBERS = 1 << 21
"""Values of pasts and paths that are held at once."""


@dataclass(frozen=True)
class Past:
    """Series as they are forecast: the values and the number of each, 0 for a new one, and what is known beside them.

    context: values between places where the layer may start, see ``first_steps``.
    """

    context: int
    values: Sequence[Values]
    numbers: Places
    known: Known

    def buffer(self, which: Places, first: Places, steps: int, before: int) -> Values:
        """Values (n, before + steps) of series around the places where the layer starts; NaN where there are none."""
        found = np.full((len(which), before + steps), np.nan)
        for row, (i, at) in enumerate(zip(which, first, strict=True)):
            low = max(0, at - before)
            part = self.values[i][low : at + steps]
            found[row, before - at + low :][: len(part)] = part
        return found


@dataclass(frozen=True)
class Drawing:
    """How paths are drawn: from which distribution, and the shares (samples, horizon) in (0, 1) at which."""

    reader: Reader
    distribution: Distribution
    shares: Values

    @property
    def horizon(self) -> int:
        return int(self.shares.shape[1])


def first_steps(origins: Places, context: int) -> Places:
    """Where the layer starts for origins.

    A forecast of origin o is made from the state that the layer has after the steps from ``(o // context - 1) ·
    context`` on, ``context`` of them at least and less than two times as many. So what it depends on has a bound, and
    all origins of a block have their states from one pass.
    """
    return np.asarray(np.maximum(0, origins // context - 1) * context)


def shares(samples: int, horizon: int, seed: int) -> Values:
    """Random numbers (samples, horizon) in (0, 1), one in each of ``samples`` equal parts for every step ahead (Latin
    hypercube sampling, McKay et al. 1979): quantiles of the paths then vary less than those of independent numbers.

    All series have the same ones, so that the forecast of a series does not depend on which others there are.
    """
    generator = np.random.default_rng([seed, samples])
    order = np.stack([generator.permutation(samples) for _ in range(horizon)], 1)
    inside = generator.random((samples, horizon)).clip(1e-9, 1 - 1e-9)
    return np.asarray((order + inside) / samples)


def drawn(module: RecursiveMembers, past: Past, how: Drawing, which: Places, origins: Places) -> Values:
    """Sample paths (n, samples, horizon) of series from origins, in units of the data."""
    found = np.empty((len(which), *how.shares.shape))
    first = first_steps(origins, past.context)
    blocks, of = np.unique(np.stack([which, first]), axis=1, return_inverse=True)
    of = of.reshape(-1)
    order = np.argsort(of, kind="stable")
    for low in range(0, blocks.shape[1], BLOCKS):
        rows = order[(of[order] >= low) & (of[order] < low + BLOCKS)]
        series, begin = blocks[:, low : low + BLOCKS]
        for k, net in enumerate(module.members):
            own = how.shares[k :: len(module.members)]
            part = Part(net, past, how, series, begin, of[rows] - low, origins[rows])
            found[rows, k :: len(module.members)] = part.drawn(own)
    return found


class Part:
    """Forecasts from some blocks by one network.

    Args:
        series, begin: of each block, which series it is of and where it starts. of, origins: of each forecast.
    """

    def __init__(
        self, net: Any, past: Past, how: Drawing, series: Places, begin: Places, of: Places, origins: Places
    ) -> None:
        self.net, self.past, self.how, self.of = net, past, how, of
        self.stops, self.before = origins - begin[of], how.reader.lookback
        self.steps = int(self.stops.max())
        self.begin, self.series, self.numbers = begin, series, past.numbers[series]
        self.values = past.buffer(series, begin, self.steps, self.before)
        self.observed = ~np.isnan(self.values)
        self.told = past.known.told(series, begin, self.steps)
        ends = np.zeros(len(series), np.int64)
        np.maximum.at(ends, of, self.stops)
        fill(net, how, self.values, self.told, self.numbers, ends)

    def drawn(self, shares: Values) -> Values:
        """Paths (forecasts, samples, horizon) at shares (samples, horizon)."""
        states, found = self._states(), np.empty((len(self.of), *shares.shape))
        each = max(1, NUMBERS // (shares.size + self.before))
        for low in range(0, len(self.of), each):
            part = slice(low, low + each)
            state = mapped(lambda s, part=part: s[:, part], states)  # type: ignore[misc]
            found[part] = self._paths(state, self.of[part], self.stops[part], shares)
        return found

    def _states(self) -> Any:
        """The states (layers, forecasts, hidden_size) before the first value of each forecast: the layer goes over the
        blocks once, from stop to stop."""
        x, _ = self.how.reader.read(self.values, self.observed, self.told)
        inputs = self.net.inputs(tensor(x, self.net), torch.from_numpy(self.numbers).to(self.net.head.weight.device))
        at, now, parts = np.zeros(len(self.begin), np.int64), None, []
        turns = in_turn(self.of, self.stops)
        for rows in turns:
            count = np.zeros_like(at)
            count[self.of[rows]] = self.stops[rows] - at[self.of[rows]]
            places = np.minimum(at[:, None] + np.arange(max(1, count.max())), self.steps - 1)
            piece = inputs[torch.arange(len(at))[:, None], torch.from_numpy(places)]
            _, now = self.net.encoder(piece, now, lengths=torch.from_numpy(count))
            at += count
            mine = torch.from_numpy(self.of[rows])
            parts.append(mapped(lambda s, mine=mine: s[:, mine], now))  # type: ignore[misc]
        back = torch.from_numpy(np.argsort(np.concatenate(turns)))
        if isinstance(now, Tensor):
            return torch.cat(parts, 1)[:, back]
        return tuple(torch.cat(own, 1)[:, back] for own in zip(*parts, strict=True))

    def _paths(self, state: Any, of: Places, stops: Places, shares: Values) -> Values:
        samples, horizon = shares.shape
        past = self.values[of[:, None], stops[:, None] + np.arange(self.before)]
        walk = Walk(self.how.reader, past, self.observed[of, stops + self.before - 1], samples, horizon)
        told = self.past.known.told(self.series[of], self.begin[of] + stops, horizon)
        numbers = np.repeat(self.numbers[of], samples)
        go = Steps(self.net, mapped(lambda s: s.repeat_interleave(samples, 1), state), numbers)
        drawn = np.ones((len(of), samples), np.bool_)
        for step in range(horizon):
            units, said = walk.units, go.said(walk.read(told[:, step])).reshape(len(of), samples, -1)
            value = self.how.distribution.drawn(said, units.level, units.scale, shares[:, step])
            walk.take(np.where(units.moving, value, units.last), drawn)
        return np.moveaxis(walk.paths, 0, 2)


class Steps:
    """A network that goes on step by step from states (layers, R, hidden_size); what a row gets depends on no other."""

    def __init__(self, net: Any, state: Any, numbers: Places) -> None:
        self.net, self.numbers = net, torch.from_numpy(numbers).to(net.head.weight.device)
        self.stream = net.encoder.stream(len(numbers))
        if state is not None:
            self.stream.state = state
        self.head = Exact(net.head.weight, net.head.bias)

    def said(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the network says (R, parameters) after what it reads (R, channels)."""
        with torch.no_grad():
            read = tensor(x, self.net)
            y = self.stream.step(self.net.inputs(read, self.numbers))
            found = self.head(torch.cat([y, self.net.beside(read)], 1))
        return np.asarray(found.double().cpu().numpy())


def in_turn(of: Places, stops: Places) -> list[Places]:
    """Forecasts by turns: first the earliest of each block, then the second of each …"""
    order = np.lexsort((stops, of))
    new = np.r_[True, of[order][1:] != of[order][:-1]]
    turn = np.arange(len(order)) - np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    by = np.argsort(turn, kind="stable")
    return list(np.split(order[by], np.cumsum(np.bincount(turn))[:-1]))


def fill(net: Any, how: Drawing, values: Values, told: NDArray[np.float64], numbers: Places, ends: Places) -> None:
    """Put the means that a network says in place of missing values.

    Args:
        values: (n, lookback + T), which are changed: those of the lookback are carried on. told: (n, T, …).
        ends: of the T steps, before which none is left out.
    """
    before, steps = how.reader.lookback, told.shape[1]
    observed = ~np.isnan(values[:, before - 1])
    values[:, :before] = carried(values[:, :before])
    missing = np.isnan(values[:, before:]) & (np.arange(steps) < ends[:, None])
    rows = np.flatnonzero(missing.any(1))
    if not len(rows):
        return
    last = int(np.flatnonzero(missing.any(0))[-1]) + 1
    walk = Walk(how.reader, values[rows, :before], observed[rows], 1, last)
    go = Steps(net, None, numbers[rows])
    for step in range(last):
        units, said = walk.units, go.said(walk.read(told[rows, step]))[:, None]
        mean = np.where(units.moving, how.distribution.mean(said, units.level, units.scale), units.last)
        came = values[rows, before + step, None]
        seen = ~np.isnan(came)
        walk.take(np.where(seen, came, mean), seen)
    part = values[rows, before : before + last]
    values[rows, before : before + last] = np.where(missing[rows, :last], walk.paths[:, :, 0].T, part)


def carried(values: Values) -> Values:
    """Values (n, L) with the one before in place of those that are missing; NaN before the first."""
    at = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(values.shape[1])), 1)
    return np.take_along_axis(values, at, 1)


def tensor(x: NDArray[np.float64], net: Any) -> Tensor:
    """As a network takes it."""
    return torch.from_numpy(x).to(net.head.weight)
