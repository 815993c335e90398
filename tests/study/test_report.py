"""The page of a model: of any task and any cell, with the figures of its JSON, and no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browsing import opened

import gatewise as gw
from gatewise.study.page import shown
from gatewise.study.report import report
from gatewise.tasks import InputError
from gatewise.tasks.exercises import Digits
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.translate import Translator


@gw.cell
def own(gate, x, h):  # type: ignore[no-untyped-def]
    k = gw.sigmoid(gate.k(x, h))
    return k * h + (1 - k) * gw.relu(gate.a(x, h))


def test_a_forecaster_and_its_page_in_a_browser(tmp_path: Path) -> None:
    Forecaster(horizon=4, hidden_size=6, max_steps=10).fit(directory=tmp_path / "m")
    found = report(tmp_path / "m")
    assert found == json.loads((tmp_path / "m" / "report.json").read_text())
    page = opened(tmp_path / "m" / "report.html", tmp_path, width=420)
    assert (page.requests, page.console) == ([], [])
    rows = [row for block in found["blocks"] if block["kind"] == "table" for row in block["rows"]]
    assert page.texts("td") == [shown(value) for row in rows for value in row]
    assert "MASE" in page.dom
    assert page.dom.count('class="plot js-plotly-plot"') == sum(block["kind"] == "plot" for block in found["blocks"])
    assert "<title>The cell gru</title>" in page.dom


def test_a_cell_of_ones_own_on_an_exercise(tmp_path: Path) -> None:
    Digits(span=8, cell=own, hidden_size=5, max_steps=4).fit(directory=tmp_path / "m")
    found = report(tmp_path / "m", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    titles = [b["figure"]["layout"]["title"]["text"] for b in found["blocks"] if b["kind"] == "plot"]
    assert {"gate k", "gate a"} <= set(titles)
    assert any(block["kind"] == "drawing" and "ReLU" in block["svg"] for block in found["blocks"])


def test_a_translator_whose_layer_reads_both_ways(tmp_path: Path) -> None:
    pairs = [(f"the dog number {i} runs", f"le chien numéro {i} court") for i in range(60)]
    Translator(hidden_size=8, embedding_size=4, max_steps=1).fit(pairs, directory=tmp_path / "m")
    found = report(tmp_path / "m", tmp_path / "out")
    words = [block["text"] for block in found["blocks"] if block["kind"] == "text"]
    assert any("reads forwards only" in text for text in words)
    hover = [
        b["figure"]["data"][0]["text"][0] for b in found["blocks"] if b["kind"] == "plot" and b["title"] == "gate z"
    ]
    assert "runs" in "".join(hover[0])


def test_a_directory_without_a_model_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a model directory"):
        report(tmp_path)
    assert list(tmp_path.iterdir()) == []
