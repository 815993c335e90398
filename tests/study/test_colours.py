"""A cell has one colour in every figure, and no line joins unrelated cells."""

from __future__ import annotations

from gatewise.study import page
from gatewise.study.colours import COLOURS, by_cell
from gatewise.study.compare import Comparison, Entry
from gatewise.study.picture import drawn


def test_lines_of_a_cell_share_its_colour_whatever_stands_beside_them() -> None:
    assert by_cell(["lstm", "gru, torch", "gru, chrono"])["gru, chrono"] == by_cell(["gru"])["gru"]
    assert by_cell(["rnn", "gru"])["gru"] == by_cell(["gru", "lstm", "rnn"])["gru"]


def test_a_cell_of_ones_own_takes_a_colour_that_is_free() -> None:
    found = by_cell(["mine", "lstm", "yours"])
    assert len(set(found.values())) == 3
    assert set(found.values()) <= set(COLOURS)


def test_bars_points_and_lines_of_a_page_agree() -> None:
    bars = page.bars_and_points(["rnn, 4 units", "lstm, 4 units"], [1.0, 2.0], [3.0, 4.0], [0.1, 0.2], ("a", "b"))
    drawn = page.lines({"lstm": {"x": [1.0], "y": [2.0]}, "rnn": {"x": [1.0], "y": [2.0]}}, "x", "y")
    assert bars["data"][0]["marker"]["color"] == [one["line"]["color"] for one in reversed(drawn["data"])]
    assert bars["data"][1]["mode"] == "markers"


def test_the_picture_of_a_comparison_joins_no_cells() -> None:
    entries = [
        Entry(name, sizing, 4, 10 + k, [0.5, 0.6], 0.1, 0.1, 100, [[1.0, 2.0]] * 2, [[0.9, 0.5 + k]] * 2, None)
        for k, (name, sizing) in enumerate([("gru", "both"), ("lstm", "size"), ("rnn", "size")])
    ]
    figure = drawn(Comparison("adding", "MSE", False, 2, 0.05, "forward", entries, {"always 1": 0.17}))
    panel, curves, score = figure.axes
    assert all(len(line.get_xdata()) == 1 for line in score.get_lines() if line.get_marker() == "D")
    assert len({line.get_color() for line in curves.get_lines()}) == 3
    assert [line.get_color() for line in curves.get_lines()] == list(by_cell(["gru", "lstm", "rnn"]).values())
    assert len(panel.patches) == 3
