"""What a recursive network reads: all steps at once and step by step, against one value after the other."""

from __future__ import annotations

import numpy as np
import pytest

from gatewise.tasks.forecast import cycles
from gatewise.tasks.forecast.cycles import Cycles
from gatewise.tasks.forecast.frequency import Frequency, named
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.reader import FAR, Reader, Walk

LAGS, WIDTH, BEFORE, STEPS = (1, 2, 5), 4, 8, 9


def reader(counts: bool = False) -> Reader:
    return Reader(LAGS, WIDTH, counts)


def slowly(past: np.ndarray, observed: bool, counts: bool) -> tuple[list[float], float, float]:
    """What is read behind values (NaN before the first), level and scale, the obvious way."""

    def level(end: int) -> float:
        window = [v for v in past[max(0, end - WIDTH) : end] if not np.isnan(v)]
        return 0.0 if counts or not window else float(np.mean(window))

    away = []
    for i in range(max(0, len(past) - WIDTH), len(past)):
        if not np.isnan(past[i]):
            first = np.isnan(past[max(0, i - WIDTH) : i]).all() and not counts
            away.append(0.0 if first else abs(past[i] - level(i)))
    spread, middle = (float(np.mean(away)) if away else 0.0), level(len(past))
    scale = 1 + spread if counts else spread
    lagged = [
        0.0 if np.isnan(past[-lag]) or not scale else np.clip((past[-lag] - middle) / scale, -FAR, FAR) for lag in LAGS
    ]
    return [*lagged, float(observed), *([np.log(scale)] if counts else [])], middle, scale


def series(counts: bool) -> np.ndarray:
    """One that began long ago, one that begins in the middle, one that does not move at first."""
    generator = np.random.default_rng(0)
    values = generator.poisson(3, (3, BEFORE + STEPS)) if counts else 1e5 + np.cumsum(generator.normal(size=(3, 17)), 1)
    values = np.asarray(values, np.float64)
    values[1, :6] = np.nan
    values[2, :11] = values[2, 0]
    values[0, 12] += 500  # far from all before it
    return values


@pytest.mark.parametrize("counts", [False, True])
def test_steps_together_and_one_by_one_are_the_slow_ones(counts: bool) -> None:
    how, values = reader(counts), series(counts)
    observed = np.random.default_rng(1).random(values.shape) > 0.3
    phases = Cycles((7.0,)).phases(np.zeros(3), np.arange(STEPS)[None].repeat(3, 0))
    x, units = how.read(values, observed, phases)
    assert x.shape == (3, STEPS, how.channels + 6)
    walk = Walk(how, values[:, :BEFORE], observed[:, BEFORE - 1], 2, STEPS)
    for t in range(STEPS):
        stepwise = walk.read(phases[:, t]).reshape(3, 2, -1)
        for row in range(3):
            read, level, scale = slowly(values[row, : BEFORE + t], observed[row, BEFORE + t - 1], counts)
            np.testing.assert_allclose(x[row, t, : len(read)], read, rtol=1e-7, atol=1e-7)
            assert units.level[row, t] == pytest.approx(level, rel=1e-12)
            assert units.scale[row, t] == pytest.approx(scale or 1.0, rel=1e-7)
            assert units.last[row, t] == values[row, BEFORE + t - 1]
            assert units.moving[row, t] == (scale > 0)
        np.testing.assert_allclose(stepwise, np.stack([x[:, t]] * 2, 1), rtol=1e-7, atol=1e-7)
        came = np.stack([values[:, BEFORE + t]] * 2, 1)
        walk.take(came, np.stack([observed[:, BEFORE + t]] * 2, 1))


def test_nothing_is_read_of_the_value_itself_or_later_ones() -> None:
    how, values = reader(), series(False)
    observed, phases = ~np.isnan(values), np.zeros((3, STEPS, 0))
    changed = values.copy()
    changed[:, BEFORE + 4 :] += 9
    one, other = how.read(values, observed, phases)[0], how.read(changed, observed, phases)[0]
    np.testing.assert_array_equal(one[:, :5], other[:, :5])
    assert (one[:, 5] != other[:, 5]).any(1).all()


@pytest.mark.parametrize(
    ("freq", "start", "steps", "periods"),
    [("h", "2024-01-01T00", 24 * 7, [24, 168]), ("D", "2024-01-01", 7, [7]), ("MS", "2024-01-01", 12, [12])],
)
def test_the_calendar_turns_once_in_a_day_week_or_year(freq: str, start: str, steps: int, periods: list[int]) -> None:
    frequency = named("freq", freq)
    series = Series("", np.datetime64(start, "s"), np.zeros(400), frequency)
    found = cycles.of(frequency, frequency.season, 400)
    assert list(found.periods) == periods
    later = Series("", series.times(steps, steps + 1)[0], np.zeros(9), frequency)
    at = np.arange(9)[None]
    one, other = (found.phases(np.array([cycles.start_of(s)]), at) for s in (series, later))
    np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_allclose(one[0, 0, : one.shape[2] // len(periods) // 2], 0, atol=1e-9)  # sines of a first hour


def test_cycles_need_two_turns_and_hold_the_season_that_was_asked_for() -> None:
    daily = Frequency(seconds=86400)
    assert cycles.of(daily, 7, 700).periods == (7,)
    assert len(cycles.of(daily, 7, 800).periods) == 2
    assert cycles.of(daily, 10, 100).periods == (7, 10)
    assert cycles.of(Frequency(units=1), 1, 100).periods == ()
    assert cycles.of(Frequency(business=True), 5, 100).periods == (5,)
    assert cycles.start_of(Series("", np.datetime64("2024-01-02", "s"), np.zeros(3), Frequency(business=True))) % 5 == 1
