"""Pages: their parts, and that opening one in a browser would show a request or an error."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from browsing import opened

from gatewise.study import page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-0.00012346, "−0.0001235"),
        (1234567, "1,234,567"),
        (0.75, "0.75"),
        (True, "True"),
        ("a − b", "a − b"),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    assert page.shown(value) == text


def test_words_cannot_break_the_page() -> None:
    text = page.render("<t>", [page.heading("</h1><script>", ""), page.table(["<b>", "x"], [["</td>", 1.5]])])
    assert "<script>" not in text
    assert "&lt;/td&gt;" in text


def test_figures_cannot_end_their_script() -> None:
    figure = page.lines({"</script>": {"x": [1.0, 2.0], "y": [1.0, math.nan]}}, "x", "y")
    text = page.render("t", [page.plot(figure, "words")])
    assert text.count("</script>") == 3
    assert "NaN" not in text.split("<script>")[0]


def test_a_browser_draws_every_kind_of_block(tmp_path: Path) -> None:
    curves = {"a": {"x": [1.0, 2.0], "y": [1.0, 3.0], "low": [0.5, 2.0], "high": [2.0, 4.0]}}
    blocks = [
        page.heading("A page", ""),
        page.heading("A section", "one", "holds"),
        page.text("Some `code` here."),
        page.code("h' = z ⊙ h"),
        page.table(["name", "value"], [["a", 1.0], ["b", 22.5]]),
        page.plot(page.lines(curves, "x", "y", log_y=True)),
        page.plot(page.bars_and_points(["a", "b"], [1.0, 2.0], [3.0, 4.0], [0.1, 0.2], ("bars", "points"))),
        page.plot(page.heat_map([[0.1, 0.2], [0.3, 0.4]], ["x", "y"], "z", signed=False, every=1)),
    ]
    (tmp_path / "page.html").write_text(page.render("A page", blocks))
    found = opened(tmp_path / "page.html", tmp_path)
    assert (found.requests, found.console) == ([], [])
    assert found.texts("td") == ["a", "1", "b", "22.5"]
    assert found.texts("h1") == ["A page"]
    assert found.dom.count('class="plot js-plotly-plot"') == 3


def test_a_request_and_an_error_would_be_seen(tmp_path: Path) -> None:
    script = '<script>console.error("oh"); nothing()</script>'
    (tmp_path / "bad.html").write_text(f'<html><body><img src="https://example.invalid/x.png">{script}</body></html>')
    found = opened(tmp_path / "bad.html", tmp_path)
    assert found.requests == ["https://example.invalid/x.png"]
    assert any("oh" in line for line in found.console)
    assert any("nothing is not defined" in line for line in found.console)
