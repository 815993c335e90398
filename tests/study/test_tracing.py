"""Traces of models: half-lives, order of the units, the CSV, sampling of long inputs."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.study.observe import Reading, states_over_time
from gatewise.study.plots import gradient_picture, trace_picture
from gatewise.study.tracing import half_lives, nth, of_reading, rate_of_change, traced
from gatewise.tasks.exercises import Digits
from gatewise.tasks.forecast import Forecaster


def reading_of(cell: gw.Cell, steps: int = 12) -> Reading:
    torch.manual_seed(0)
    layer = gw.Recurrent(cell, 3, 5)
    return Reading(layer, torch.randn(steps, 3), None, {}, [str(t) for t in range(steps)], None)


def test_ordinals() -> None:
    assert [nth(k) for k in (2, 3, 4, 11, 12, 21, 22, 101, 113)] == [
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "21st",
        "22nd",
        "101st",
        "113th",
    ]


def test_half_lives() -> None:
    kept = np.array([[0.5, 0.9, 1.0], [0.5, 0.9, 1.0]])
    found = half_lives(kept)
    assert found[:2] == pytest.approx([1.0, math.log(0.5) / math.log(0.9)])
    assert found[2] > 1e9
    assert half_lives(np.array([[0.25], [1.0]])) == pytest.approx([1.0])  # a quarter over two steps


def test_rate_of_change() -> None:
    found = rate_of_change(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 9.0]]))
    assert math.isnan(found[0])
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(1.0)


@pytest.mark.parametrize(("cell", "keeper"), [(gw.cells.gru, "z"), (gw.cells.lstm, "f"), (gw.cells.rnn, None)])
def test_units_are_ordered_by_half_life(cell: gw.Cell, keeper: str | None) -> None:
    read = reading_of(cell)
    found = of_reading(read)
    assert found.keeper == keeper
    assert sorted(found.units) == list(range(5))
    whole = read.layer.trace(read.x)
    for name, values in found.gates.items():
        assert values == pytest.approx(whole.gates[name][0].numpy()[:, found.units])
    if keeper is not None:
        assert list(found.half_life) == sorted(found.half_life, reverse=True)
        assert found.half_life == pytest.approx(half_lives(found.gates[keeper]))


def test_a_cell_that_renews_keeps_by_the_complement() -> None:
    found = of_reading(reading_of(gw.cells.gru_renew))
    assert found.half_life == pytest.approx(half_lives(1 - found.gates["z"]))


def test_states_over_time_are_those_of_the_layer() -> None:
    layer, x = gw.LSTM(3, 4, num_layers=2), torch.randn(6, 2, 3)
    found = states_over_time(layer, x)
    y, (_h, c) = layer(x)
    assert found[0] == pytest.approx(y.detach().double().numpy())
    assert found[1, -1] == pytest.approx(c[-1].detach().double().numpy())


def test_the_trace_of_a_forecaster_has_its_series_above(tmp_path: Path) -> None:
    forecaster = Forecaster(horizon=4, hidden_size=6, max_steps=10).fit()
    found = traced(forecaster)
    assert found.series is not None
    assert found.series[-1] == forecaster.series[0].values[-1]
    assert found.labels[-1] == "2001-12-29"
    trace_picture(found, tmp_path / "trace.png")
    assert (tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(found.csv().splitlines()))
    assert len(rows) == len(found.labels) * 6
    assert rows[0].keys() >= {"step", "label", "unit", "half_life_steps", "output", "r", "z", "n"}
    assert float(rows[7]["z"]) == pytest.approx(found.gates["z"][1, 1], rel=1e-5)


def test_a_long_input_is_sampled_and_that_is_said(tmp_path: Path) -> None:
    found = of_reading(reading_of(gw.cells.gru, steps=1001))
    trace_picture(found, tmp_path / "trace.svg")
    assert len(found.csv().splitlines()) == 1 + 1001 * 5


def test_a_model_of_any_task_with_a_cell_of_ones_own(tmp_path: Path) -> None:
    @gw.cell
    def own(gate, x, h):  # type: ignore[no-untyped-def]
        k = gw.sigmoid(gate.k(x, h))
        return k * h + (1 - k) * gw.relu(gate.a(x, h))

    found = traced(Digits(span=8, cell=own, hidden_size=6, max_steps=5).fit(), row=2)
    assert (found.cell, found.keeper, len(found.labels)) == ("own", "k", 8)
    trace_picture(found, tmp_path / "own.png")
    from gatewise.study.gradients import of_cell

    gradient_picture("own", of_cell(own, steps=5, hidden_size=4, seeds=1), tmp_path / "flow.png")
    assert (tmp_path / "flow.png").stat().st_size > 1000
