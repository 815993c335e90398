"""What was reached stands beside what was wanted."""

from __future__ import annotations

from typing import Any

import pytest

from benches import relatives, report_goals
from benches.derive import PEER_NAMES
from benches.goals import FLOOR, GOALS, PEER, TORCH, before_goal, judge, of_kind
from benches.shapes import INFERENCE_SHAPES, STEP_SHAPES, TRAIN_SHAPES, Shape

SHAPE = "8,200,128,256"


def run(threads: int = 1, **milliseconds: float) -> dict[str, Any]:
    columns = {
        name: {"ms": {"median": ms, "disturbed": 0.0}, "share": 1.0 / ms, "bound": "arithmetic"}
        for name, ms in milliseconds.items()
    }
    return {"threads": threads, "shapes": [{"shape": SHAPE, "columns": columns}]}


def test_every_goal_is_of_a_measured_shape() -> None:
    measured = {str(shape) for shape in (*STEP_SHAPES, *INFERENCE_SHAPES, *TRAIN_SHAPES)}
    assert GOALS.keys() <= measured


def test_the_best_peer_of_either_form_counts() -> None:
    found = run(torch_gru=6.4, gru_after=2.0, gru_before=2.5, onnx_runtime_after=3.0, jax_scan_before=1.9)
    after, before = judge([found], PEER_NAMES)
    assert after.figures[1][TORCH].value == pytest.approx(3.2)
    assert after.figures[1][TORCH].met
    assert after.figures[1][PEER].whom == before.figures[1][PEER].whom == "jax_scan_before"
    assert after.figures[1][PEER].value == pytest.approx(0.95)
    assert after.figures[1][PEER].missing == pytest.approx(0.05)
    assert after.figures[1][FLOOR].value == pytest.approx(2.0)
    assert not after.figures[1][FLOOR].met
    assert before.figures[1][TORCH].value == pytest.approx(2.56)
    assert [f.met for f in of_kind([after, before], TORCH)] == [True, False]
    assert after.figures[1][PEER].on_floor == pytest.approx(1.9)
    assert not after.figures[1][PEER].beyond


def test_each_thread_setting_has_its_goal() -> None:
    both = [run(1, torch_gru=4.0, gru_after=1.0), run(2, torch_gru=4.0, gru_after=1.0)]
    (line,) = judge(both, PEER_NAMES)
    assert [line.figures[threads][TORCH].met for threads in (1, 2)] == [True, False]
    assert PEER not in line.figures[1]


def test_what_others_disturbed_is_not_judged() -> None:
    found = run(torch_gru=6.4, gru_after=2.0)
    found["shapes"][0]["columns"]["torch_gru"]["ms"]["disturbed"] = 1.0
    lines = judge([found], PEER_NAMES)
    assert of_kind(lines, TORCH) == []
    assert len(of_kind(lines, FLOOR)) == 1
    assert "3.20 / 3.2†" in report_goals.goals([found])


def test_the_table_says_what_is_missing() -> None:
    text = report_goals.goals([run(torch_gru=5.0, gru_after=2.0, jax_scan_after=2.0)])
    assert f"| {SHAPE} | after | 2.50 / 3.2 (−22%) | **1.00** / 1 JAX, after | 2.00 / 1.2 (+67%) |" in text
    assert report_goals.goals([{"threads": 1, "shapes": []}]) == ""
    out_of_reach = report_goals.goals([run(torch_gru=3.0, gru_after=2.0)])
    assert "1.50 / 3.2 (−53%‡)" in out_of_reach
    assert "‡ A layer on its floor" in out_of_reach


def test_before_over_after() -> None:
    assert before_goal(Shape(1, 1, 2, 3)) == 1.4
    assert before_goal(Shape(8, 1, 2, 3)) == 1.1
    assert before_goal(Shape(4, 1, 2, 3)) is None
    text = report_goals.before([run(gru_after=2.0, gru_before=2.1), run(2, gru_after=2.0, gru_before=3.0)])
    assert f"| {SHAPE} | **1.05** | 1.50 | 1.1 |" in text


def test_where_the_lstm_is_the_cheaper_one() -> None:
    found = run(torch_gru=4.0, torch_lstm=3.0, gru_after=2.0, gru_before=2.5, lstm=2.6)
    peaks = {"torch_gru": 3.0, "torch_lstm": 6.0, "gru_after": 2.0, "gru_before": 2.0, "lstm": 1.0}
    memory = [{"shape": SHAPE, "column": name, "step_mb": mb} for name, mb in peaks.items()]
    text = relatives.lstm([found], memory)
    assert f"| {SHAPE} | **0.75** | 1.30 | 1.04 | 2.00 | **0.50** | **0.50** |" in text
    assert "- torch.nn.LSTM beside torch.nn.GRU: the claim on time fails in 1 of 1, the middle ratio is 0.75" in text


def test_memory_in_training_is_held_against_torch() -> None:
    peaks = {"torch_gru": 3.0, "gru_after": 3.0, "gru_before": 3.5}
    memory = [{"shape": f"train {SHAPE}", "column": name, "step_mb": mb} for name, mb in peaks.items()]
    assert f"| train {SHAPE} | 3.0 | **3.0** | 3.5 |" in relatives.memory(memory)
    assert relatives.memory([]) == ""
