"""A page in one file: text, tables, drawings and plots with hover; it asks nothing of any network.

A page is made from plain values (what also goes into the JSON beside it), so that the two cannot differ.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gatewise.study.colours import by_cell
from gatewise.tasks.errors import need

MARKS = ("circle", "square", "diamond", "cross", "triangle-up", "x")
MOST_LABELS, FEW = 24, 6
"""Labels along an axis at most; places so few that each gets a tick."""
VERDICTS = {"holds": "holds", "passes": "holds", "fails": "fails", "undecided": "undecided"}
VERDICTS |= {"too short to tell": "short", "not run": "short"}
"""What stands in a badge → its class."""
Block = dict[str, Any]
Figure = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c242c; --soft: #5b6672; --paper: #ffffff; --band: #f3f5f8; --rule: #d5dae0;
  --holds: #00694c; --fails: #a53f00; --undecided: #5b6672; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaef; --soft: #a2adb9; --paper: #14181d; --band: #1d232b;
  --rule: #38414c; --holds: #4fd1a5; --fails: #ff9d5c; --undecided: #a2adb9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.2rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0.4rem 0 0.6rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0.4rem; padding-top: 0.8rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.02rem; margin: 1.4rem 0 0.2rem; }
p { margin: 0.5rem 0; max-width: 46rem; }
.soft { color: var(--soft); font-size: 0.92rem; }
.verdict { display: inline-block; font-weight: 650; font-size: 0.85rem; padding: 0.05rem 0.6rem; border-radius: 1rem;
  border: 1.5px solid currentColor; vertical-align: 0.12em; }
.holds { color: var(--holds); } .fails { color: var(--fails); border-style: double; border-width: 3px; }
.undecided { color: var(--undecided); border-style: dashed; }
.short { color: var(--undecided); border-style: dotted; }
.wide { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th, td { padding: 0.22rem 0.8rem 0.22rem 0; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; }
thead th { border-bottom: 1px solid var(--rule); font-weight: 600; }
tbody tr:nth-child(even) { background: var(--band); }
pre { background: var(--band); padding: 0.7rem 1rem; overflow-x: auto; font-size: 0.92rem; }
.plot { width: 100%; margin: 0.6rem 0; }
figure { margin: 0.8rem 0; } figure svg { max-width: 100%; height: auto; }
@media (max-width: 46rem) { figure { overflow-x: auto; } figure svg { max-width: none; } }
nav { margin: 0.8rem 0 1.2rem; } nav a { color: inherit; }
@media print { h2 { break-after: avoid; } .plot, figure, table { break-inside: avoid; } }
"""
_SCRIPT = """
const dark = window.matchMedia('(prefers-color-scheme: dark)');
const specs = JSON.parse(document.getElementById('figures').textContent);
function themed(layout) {
  const ink = dark.matches ? '#e6eaef' : '#1c242c', rule = dark.matches ? '#38414c' : '#d5dae0';
  const axes = {};
  for (const name of Object.keys(layout).filter(k => /^[xy]axis/.test(k))) {
    axes[name] = {...layout[name], gridcolor: rule, zerolinecolor: rule, linecolor: rule, automargin: true};
  }
  return {...layout, ...axes, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    font: {color: ink, size: 13, family: 'system-ui, sans-serif'},
    margin: {l: 60, r: 20, t: 34, b: 50, ...layout.margin},
    legend: {orientation: 'h', y: -0.22, ...layout.legend}, hoverlabel: {namelength: -1}};
}
function draw() {
  for (const [id, spec] of Object.entries(specs)) {
    Plotly.react(id, spec.data, themed(spec.layout), {responsive: true, displaylogo: false, displayModeBar: false});
  }
}
draw();
dark.addEventListener('change', draw);
"""


def shown(value: Any) -> str:
    """A value of a table as text: whole numbers with separators, others to four digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}".replace("-", "−")


def heading(text: str, anchor: str | None = None, verdict: str | None = None) -> Block:
    """A heading: of the page with an empty anchor, of a section with one, else below it."""
    return {"kind": "heading", "text": text, "anchor": anchor, "verdict": verdict}


def text(words: str, soft: bool = False) -> Block:
    return {"kind": "text", "text": words, "soft": soft}


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Block:
    return {"kind": "table", "header": list(header), "rows": [list(row) for row in rows]}


def code(words: str) -> Block:
    return {"kind": "code", "text": words}


def drawing(svg: str) -> Block:
    return {"kind": "drawing", "svg": svg}


def plot(figure: Figure, title: str = "") -> Block:
    """A plot; what it says for those who do not see it is its title."""
    return {"kind": "plot", "figure": figure, "title": title}


def render(title: str, blocks: Sequence[Block]) -> str:
    """The page as HTML.

    Raises:
        InputError: without plotly, whose script goes into the page.
    """
    figures: dict[str, Figure] = {}
    body = [_block(block, figures) for block in blocks]
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        *body,
    ]
    if figures:
        need("plotly", "study")
        from plotly.offline import get_plotlyjs

        parts.append(f'<script type="application/json" id="figures">{_inside_script(figures)}</script>')
        parts.append(f"<script>{get_plotlyjs()}</script><script>{_SCRIPT}</script>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _inside_script(value: Any) -> str:
    """JSON that no browser takes for the end of the script; not-a-number becomes null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False).replace("</", "<\\/")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _block(block: Block, figures: dict[str, Figure]) -> str:
    kind = block["kind"]
    if kind == "heading":
        badge = _badge(block["verdict"])
        level = {None: "h3", "": "h1"}.get(block["anchor"], "h2")
        anchor = f' id="{escape(block["anchor"])}"' if block["anchor"] else ""
        return f"<{level}{anchor}>{escape(block['text'])}{badge}</{level}>"
    if kind == "text":
        return f'<p class="{"soft" if block["soft"] else ""}">{_marked(block["text"])}</p>'
    if kind == "code":
        return f"<pre>{escape(block['text'])}</pre>"
    if kind == "drawing":
        return f"<figure>{block['svg']}</figure>"
    if kind == "plot":
        name = f"plot{len(figures)}"
        figures[name] = block["figure"]
        height = block["figure"]["layout"].get("height", 380)
        return (
            f'<div class="plot" id="{name}" role="img" aria-label="{escape(block["title"])}" style="height:{height}px">'
            "</div>"
        )
    return _table(block["header"], block["rows"])


def _badge(verdict: str | None) -> str:
    return f' <span class="verdict {VERDICTS[verdict]}">{escape(verdict)}</span>' if verdict else ""


def _marked(words: str) -> str:
    """Text with `code` marked as such."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))


def _table(header: list[str], rows: list[list[Any]]) -> str:
    numeric = [all(isinstance(r[k], (int, float)) or r[k] is None for r in rows) for k in range(len(header))]
    kinds = [' class="number"' if n else "" for n in numeric]
    head = "".join(f"<th{k}>{escape(name)}</th>" for name, k in zip(header, kinds, strict=True))
    lines = []
    for row in rows:
        cells = [
            f"<td{k}>{_badge(v) if isinstance(v, str) and v in VERDICTS else _marked(shown(v))}</td>"
            for v, k in zip(row, kinds, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def lines(
    series: Mapping[str, Mapping[str, Sequence[float]]],
    x_title: str,
    y_title: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    title: str = "",
    height: int = 380,
) -> Figure:
    """Lines with bands: name → x, y and where there are any low and high. Lines of one cell share its colour."""
    data: list[dict[str, Any]] = []
    colours = by_cell(list(series))
    for k, (name, one) in enumerate(series.items()):
        colour, many = colours[name], len(one["x"]) > 30
        if "low" in one:
            band = {"x": [*one["x"], *reversed(one["x"])], "y": [*one["high"], *reversed(one["low"])]}
            style = {"fill": "toself", "fillcolor": colour, "opacity": 0.16, "line": {"width": 0}, "mode": "lines"}
            data.append({**band, **style, "hoverinfo": "skip", "showlegend": False, "legendgroup": name})
        line = {"color": colour, "width": 2, "dash": ("solid", "dash", "dot", "dashdot")[k % 4]}
        mode = {"mode": "lines"} if many else {"mode": "lines+markers", "marker": {"symbol": MARKS[k % 6], "size": 8}}
        data.append({"x": list(one["x"]), "y": list(one["y"]), "name": name, "line": line, "legendgroup": name, **mode})
    sides = {x_title: ("x", log_x), y_title: ("y", log_y)}
    xaxis, yaxis = (
        _axis(words, [v for one in data for v in one[side]] if log else None) for words, (side, log) in sides.items()
    )
    return {"data": data, "layout": {**_titled(title), "height": height, "xaxis": xaxis, "yaxis": yaxis}}


def _titled(title: str) -> dict[str, Any]:
    """A title, or no room for one."""
    words = {"title": {"text": title, "font": {"size": 14}}}
    return words if title else {**words, "margin": {"t": 14}}


def _axis(title: str, logarithmic: Sequence[float] | None = None) -> dict[str, Any]:
    """An axis; a logarithmic one, for these values, has a tick for each of few, else about eight at powers of ten, or
    at 1, 2 and 5 times them where the values span less than two."""
    axis: dict[str, Any] = {"title": {"text": title, "standoff": 14}}
    if logarithmic is None:
        return axis
    axis |= {"type": "log", "exponentformat": "power"}
    places = sorted(set(logarithmic))
    if len(places) <= FEW:
        return {**axis, "tickvals": places, "ticktext": [f"{v:g}" for v in places]}
    known = [math.log10(v) for v in logarithmic if v > 0]
    powers = max(known, default=0.0) - min(known, default=0.0)
    return {**axis, "dtick": "D2" if powers < 2 else math.ceil(powers / 8)}


def over_positions(
    series: Mapping[str, Mapping[str, Sequence[float]]], labels: Sequence[str], y_title: str, every: int = 1
) -> Figure:
    """Lines over the positions of an input, each position with its label; ``every`` k-th of them is there."""
    figure = lines(series, "position in the input", y_title, height=280)
    figure["layout"]["xaxis"] = _positions(labels, every)
    return figure


def _positions(labels: Sequence[str], every: int) -> dict[str, Any]:
    """The axis of the positions of an input: labels that say more than their number stand at some two dozen of them."""
    axis = _axis("position in the input")
    if all(label.isdigit() or not label for label in labels):
        return axis
    places = range(0, len(labels), -(-len(labels) // MOST_LABELS))
    return {**axis, "tickvals": [k * every for k in places], "ticktext": [labels[k] for k in places]}


def bars_and_points(
    names: Sequence[str],
    bars: Sequence[float],
    points: Sequence[float],
    errors: Sequence[float],
    titles: tuple[str, str],
) -> Figure:
    """Bars on the left axis, points with error bars on the right one: parameters and score of unrelated cells, which no
    line joins."""
    colours = list(by_cell(names).values())
    left: dict[str, Any] = {"type": "bar", "x": list(names), "y": list(bars), "name": titles[0]}
    left |= {"marker": {"color": colours, "opacity": 0.45}}
    right: dict[str, Any] = {"x": list(names), "y": list(points), "name": titles[1], "yaxis": "y2", "mode": "markers"}
    right |= {"marker": {"size": 11, "symbol": "diamond", "color": colours}}
    # The colour is said, since plotly takes the list of the marks' colours for one, and black in its place.
    right["error_y"] = {"type": "data", "array": list(errors), "visible": True, "color": "#777777"}
    second: dict[str, Any] = {"title": {"text": titles[1]}, "overlaying": "y", "side": "right", "rangemode": "tozero"}
    second |= {"tickmode": "auto", "showgrid": False}
    layout = {"xaxis": {}, "yaxis": {"title": {"text": titles[0]}}, "yaxis2": second, "height": 380, "bargap": 0.5}
    return {"data": [left, right], "layout": layout | {"margin": {"r": 70}}}


def heat_map(values: Sequence[Sequence[float]], labels: Sequence[str], title: str, signed: bool, every: int) -> Figure:
    """Units over positions: dark to light for a gate in [0, 1], two colours around 0 for signed values."""
    scale = [[0, "#b35806"], [0.5, "#f7f7f7"], [1, "#542788"]] if signed else "Cividis"
    hover = "position %{x} %{text}<br>unit %{y}: %{z:.3f}<extra></extra>"
    data: dict[str, Any] = {
        "type": "heatmap",
        "z": [list(row) for row in values],
        "colorscale": scale,
        "hovertemplate": hover,
    }
    data |= {"zmin": -1 if signed else 0, "zmax": 1, "text": [list(labels) for _ in values]}
    data |= {"x": [k * every for k in range(len(labels))]}
    axes = {
        "xaxis": _positions(labels, every),
        "yaxis": {"title": {"text": "unit"}, "autorange": "reversed"},
    }
    return {"data": [data], "layout": {**_titled(title), "height": 320, **axes}}
