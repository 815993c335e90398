"""Sample paths against a slow, obvious forecaster: one path, one step, one value after the other, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gatewise import cells
from gatewise.tasks.forecast.cycles import Cycles
from gatewise.tasks.forecast.distributions import DISTRIBUTIONS
from gatewise.tasks.forecast.frequency import Frequency
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.known import Known, Plan
from gatewise.tasks.forecast.paths import Drawing, Past, drawn, in_turn, shares
from gatewise.tasks.forecast.reader import Reader
from gatewise.tasks.forecast.recurrence import RecursiveMembers
from gatewise.tasks.forecast.scheme import Scheme

PLAN = Plan(Cycles((7.0,)), Scheme())
CONTEXT, HORIZON, SAMPLES, LAGS, WIDTH = 6, 5, 4, (1, 2, 5), 4


def members(cell: str, kind: str, layers: int = 1, count: int = 1, lags: tuple[int, ...] = LAGS) -> RecursiveMembers:
    torch.manual_seed(0)
    how = reader(kind, lags)
    module = RecursiveMembers(
        count,
        0,
        cell=cells.get(cell),
        hidden_size=5,
        num_layers=layers,
        dropout=0.0,
        channels=how.channels,
        told=PLAN.part,
        start=DISTRIBUTIONS[kind].start,
        first=[0.0] * len(lags),
        series=2,
    )
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.double().eval()


def reader(kind: str, lags: tuple[int, ...] = LAGS) -> Reader:
    return Reader(lags, WIDTH, DISTRIBUTIONS[kind].counts)


def series(kind: str, gaps: bool) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    counts = DISTRIBUTIONS[kind].counts
    found = [
        np.asarray(generator.poisson(4, n), np.float64) if counts else 50 + generator.normal(0, 9, n) for n in (30, 9)
    ]
    if gaps:
        found[0][[5, 8, 9, 14, 20]] = np.nan
        found[1][[1, 4]] = np.nan
    return found


def past_of(values: list[np.ndarray], starts: np.ndarray, numbers: np.ndarray) -> Past:
    step = Frequency(units=1)
    series = [Series("", np.int64(start), own, step) for start, own in zip(starts, values, strict=True)]
    return Past(CONTEXT, values, numbers, Known(PLAN, series, HORIZON))


class Slowly:
    """The forecaster as one would write it down."""

    def __init__(self, net: Any, kind: str, start: float, number: int, lags: tuple[int, ...] = LAGS) -> None:
        self.net, self.kind, self.start, self.number = net, DISTRIBUTIONS[kind], start, number
        self.how = reader(kind, lags)

    def read(self, past: list[float], observed: bool, time: int) -> tuple[list[float], float, float]:
        def level(end: int) -> float:
            return 0.0 if self.kind.counts or end == 0 else float(np.mean(past[max(0, end - WIDTH) : end]))

        n = len(past)
        # the lookback holds no more than two windows: the first of its levels are means of what is left
        away = [abs(past[i] - level(i)) if i or self.kind.counts else 0.0 for i in range(max(0, n - WIDTH), n)]
        scale = float(np.mean(away)) if away else 0.0
        scale = 1 + scale if self.kind.counts else scale
        middle = level(n)
        lagged = [(past[-k] - middle) / scale if k <= n and scale > 0 else 0.0 for k in self.how.lags]
        size = [np.log(scale)] if self.kind.counts else []
        turn = 2 * np.pi * (self.start + time) / 7
        waves = [f(k * turn) for f in (np.sin, np.cos) for k in (1, 2, 3)]
        return [*np.clip(lagged, -20, 20), float(observed), *size, *waves], middle, scale

    def step(self, past: list[float], observed: bool, time: int, state: Any) -> tuple[np.ndarray, float, float, Any]:
        x, level, scale = self.read(past, observed, time)
        told = torch.cat([torch.tensor(x, dtype=torch.float64), self.net.series[self.number]])
        y, state = self.net.encoder(told.view(1, 1, -1), state)
        said = (
            self.net.head.weight @ torch.cat([y[0, 0], told[: len(self.how.lags)], told[-14:-8]]) + self.net.head.bias
        )
        return said.detach().numpy(), level, scale, state

    def next(self, past: list[float], said: np.ndarray, level: float, scale: float, at: float | None) -> float:
        if scale == 0:
            return past[-1] if past else 0.0
        one = said[None], np.array([level]), np.array([scale])
        return float((self.kind.mean(*one) if at is None else self.kind.drawn(*one, np.array([at])))[0])

    def paths(self, values: np.ndarray, origin: int, at: np.ndarray) -> np.ndarray:
        begin = max(0, origin // CONTEXT - 1) * CONTEXT
        past, state, known = list[float](), None, True
        for value in values[:begin]:  # before the layer starts the last value is carried on
            past.append(past[-1] if np.isnan(value) else float(value))
            known = not np.isnan(value)
        for t in range(begin, origin):
            said, level, scale, state = self.step(past, known if past else False, t, state)
            known = not np.isnan(values[t])
            past.append(float(values[t]) if known else self.next(past, said, level, scale, None))
        found = np.empty(at.shape)
        for row, draws in enumerate(at):
            path, own, seen = list(past), state, known
            for step, share in enumerate(draws):
                said, level, scale, own = self.step(path, seen, origin + step, own)
                path.append(self.next(path, said, level, scale, share))
                found[row, step], seen = path[-1], True
        return found


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize(("cell", "layers"), [("gru", 1), ("lstm", 2)])
def test_paths_are_those_of_the_slow_forecaster(kind: str, cell: str, layers: int, gaps: bool) -> None:
    module, values = members(cell, kind, layers), series(kind, gaps)
    past = past_of(values, np.array([0.0, 3.0]), np.array([1, 0]))
    at = shares(SAMPLES, HORIZON, 0)
    which, origins = np.array([0, 0, 0, 1, 0, 1, 0]), np.array([30, 13, 7, 9, 16, 3, 21])
    found = drawn(module, past, Drawing(reader(kind), DISTRIBUTIONS[kind], at), which, origins)
    assert found.shape == (7, SAMPLES, HORIZON)
    for row, (i, origin) in enumerate(zip(which, origins, strict=True)):
        slow = Slowly(module.members[0], kind, past.known.starts[i], int(past.numbers[i]))
        np.testing.assert_allclose(found[row], slow.paths(values[i], int(origin), at), rtol=1e-6)


def test_every_step_ahead_sees_every_value_of_the_context() -> None:
    """No lag but the last value: what is longer ago comes through the state, to the first step as to the last."""
    module, values = members("gru", "gaussian", lags=(1,)), series("gaussian", False)[0][:12]
    how = Drawing(Reader((1,), WIDTH, False), DISTRIBUTIONS["gaussian"], shares(1, HORIZON, 0))

    def forecast(changed: int | None = None) -> np.ndarray:
        own = values.copy()
        if changed is not None:
            own[changed] += 1
        past = past_of([own], np.zeros(1), np.zeros(1, np.int64))
        return drawn(module, past, how, np.zeros(1, np.int64), np.array([12]))[0, 0]

    whole = forecast()
    for place in range(6, 12):
        assert (forecast(place) != whole).all()


def test_a_forecast_depends_on_nothing_beside_it_to_the_bit() -> None:
    module = members("gru", "negative_binomial", count=2)
    values = series("negative_binomial", True)
    past = past_of(values, np.zeros(2), np.array([1, 2]))
    how = Drawing(reader("negative_binomial"), DISTRIBUTIONS["negative_binomial"], shares(7, HORIZON, 0))
    which, origins = np.repeat([0, 1], [29, 8]), np.r_[1:30, 1:9]
    together = drawn(module, past, how, which, origins)
    for row in (0, 11, 28, 30, 36):
        alone = drawn(module, past, how, which[row : row + 1], origins[row : row + 1])
        np.testing.assert_array_equal(together[row], alone[0])
    again = drawn(module, past, how, which[::-1], origins[::-1])
    np.testing.assert_array_equal(again[::-1], together)


def test_states_of_many_origins_come_from_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    module, values = members("gru", "gaussian"), series("gaussian", False)
    past = past_of(values, np.zeros(2), np.zeros(2, np.int64))
    how, read = Drawing(reader("gaussian"), DISTRIBUTIONS["gaussian"], shares(2, HORIZON, 0)), 0

    def count(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        nonlocal read
        read += int(named["lengths"].sum())

    handle = module.members[0].encoder.register_forward_pre_hook(count, with_kwargs=True)
    drawn(module, past, how, np.zeros(18, np.int64), np.arange(12, 30))
    handle.remove()
    assert read == 3 * (2 * CONTEXT - 1)  # three blocks, each once up to its last origin


def test_a_constant_series_goes_on_as_it_is() -> None:
    module = members("gru", "student_t")
    past = past_of([np.full(20, 0.1), np.full(1, 7.0)], np.zeros(2), np.zeros(2, np.int64))
    how = Drawing(reader("student_t"), DISTRIBUTIONS["student_t"], shares(3, HORIZON, 0))
    found = drawn(module, past, how, np.array([0, 1]), np.array([20, 1]))
    assert (found[0] == 0.1).all()
    assert (found[1] == 7.0).all()


def test_shares_fill_each_part_once_and_follow_the_seed() -> None:
    found = shares(50, 8, 3)
    np.testing.assert_array_equal(np.sort(np.floor(found * 50), 0), np.arange(50)[:, None].repeat(8, 1))
    np.testing.assert_array_equal(found, shares(50, 8, 3))
    assert (found != shares(50, 8, 4)).any()
    assert abs(np.corrcoef(found.T)[np.triu_indices(8, 1)]).max() < 0.5


def test_forecasts_take_turns_within_their_blocks() -> None:
    turns = in_turn(np.array([2, 0, 2, 1, 2]), np.array([5, 9, 1, 4, 3]))
    assert [sorted(turn.tolist()) for turn in turns] == [[1, 2, 3], [4], [0]]
