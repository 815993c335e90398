"""The diagram of a cell: everything the equations name is drawn once, nothing overlaps, state lines are straight."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from cells_zoo import ZOO

from gatewise import Cell, cells
from gatewise.study.diagram import diagram
from gatewise.study.diagram.graph import drawing
from gatewise.study.diagram.layout import place

EVERY = [*(cells.get(name) for name in cells.names()), *ZOO.values(), cells.gru.pin(z=1), cells.lstm.pin(f=1)]
SVG = "{http://www.w3.org/2000/svg}"


def of(cell: Cell) -> ET.Element:
    return ET.fromstring(diagram(cell))


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: cell.name)
def test_states_inputs_and_gates_are_drawn(cell: Cell) -> None:
    texts = [text.text for text in of(cell).iter(f"{SVG}text")]
    for state in cell.states:
        assert texts.count(f"{state}'") == 1
    for gate in cell.gates:
        shown = [gate, gate + "\u0303", f"W_{gate}", f"U_{gate}", f"b_{gate}", f"W_{gate}, U_{gate}"]
        assert any(name in texts for name in shown), gate
    assert [text for text in texts if text and " = " in text]


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: cell.name)
def test_boxes_keep_apart_and_lines_run_to_the_right(cell: Cell) -> None:
    drawn = drawing(cell)
    width, height = place(drawn)
    solid = [v for v in drawn.vertices if v.kind != "bend"]
    for a, b in itertools.combinations(solid, 2):
        apart_x = abs(a.x - b.x) >= (a.width + b.width) / 2
        apart_y = abs(a.y - b.y) >= (a.height + b.height) / 2 - 1e-6
        assert apart_x or apart_y, (a, b)
    for line in drawn.lines:
        layers = [line.start.layer, *(bend.layer for bend in line.bends), line.end.layer]
        assert layers == list(range(layers[0], layers[-1] + 1))
    assert all(0 <= v.x <= width and -1e-6 <= v.y <= height for v in drawn.vertices)


@pytest.mark.parametrize(
    ("cell", "straight"),
    [(cells.gru, {"h"}), (cells.lstm, {"c"}), (ZOO["two_speeds"], {"h", "slow"}), (cells.rnn, set())],
)
def test_the_line_of_a_state_is_straight_from_edge_to_edge(cell: Cell, straight: set[str]) -> None:
    drawn = drawing(cell)
    place(drawn)
    for k, state in enumerate(cell.states):
        on = [v for v in drawn.vertices if v.spine == k] + [
            b for line in drawn.lines if line.spine and line.end.spine == k for b in line.bends
        ]
        assert (state in straight) == bool(on)
        assert len({round(v.y, 6) for v in on}) <= 1
        assert not on or {v.kind for v in on} >= {"source", "sink"}


def test_the_gru_is_drawn_as_in_its_paper() -> None:
    drawn = drawing(cells.gru)
    gates = {v.name: v.label for v in drawn.vertices if v.kind == "gate"}
    assert gates == {"r": "σ", "z": "σ", "n": "tanh"}
    operations = sorted(v.label for v in drawn.vertices if v.kind == "operation")
    assert operations == ["+", "1 −", "×", "×", "×"]
    into_n = [line.start.label for line in drawn.lines if line.end.name == "n"]
    assert sorted(into_n) == ["x", "×"]


def test_few_lines_cross() -> None:
    def crossings(cell: Cell) -> int:
        drawn = drawing(cell)
        place(drawn)
        links = []
        for line in drawn.lines:
            path = [line.start, *line.bends, line.end]
            links += [(a.layer, a.y, b.y) for a, b in itertools.pairwise(path)]
        return sum(a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in itertools.combinations(links, 2))

    # h and x both feed each of k gates side by side: k (k - 1) / 2 crossings cannot be avoided.
    assert crossings(cells.lstm) <= 4 * 3 // 2 + 2
    assert crossings(cells.gru) <= 6


def test_peepholes_are_dashed_and_nothing_is_fetched() -> None:
    text = diagram(cells.lstm_peephole)
    assert text.count("diagonal") >= 3
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert diagram(cells.lstm_peephole) == text
