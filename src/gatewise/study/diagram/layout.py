"""Places for a drawing: layers from left to right, few crossings, state lines straight along the top.

The method of Sugiyama, Tagawa & Toda 1981: longest-path layers, bends where a line crosses a layer, orders by
barycentres, then heights that are least squares under the order (isotonic regression by pooling adjacent violators).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from gatewise.study.diagram.graph import Drawing, Line, Vertex

GAP_X, GAP_Y, SWEEPS = 46.0, 20.0, 24
_SPINE_WEIGHT = 1e9  # a state's line stays straight before anything else is near its neighbours


def place(drawing: Drawing) -> tuple[float, float]:
    """Set layer, x and y (centres, in pixels) of every vertex, add the bends of lines; returns width and height."""
    _layers(drawing)
    layers = _bent(drawing)
    _order(layers, drawing.lines)
    _heights(layers, drawing.lines)
    return _widths(layers), max(v.y + v.height / 2 for layer in layers for v in layer)


def _layers(drawing: Drawing) -> None:
    """One layer behind the last of what a vertex is made of; sources first, sinks last."""
    lines = list(drawing.lines)
    for _ in drawing.vertices:
        for line in lines:
            line.end.layer = max(line.end.layer, line.start.layer + 1)
    last = max(v.layer for v in drawing.vertices)
    for vertex in drawing.vertices:
        if vertex.kind == "sink":
            vertex.layer = last


def _bent(drawing: Drawing) -> list[list[Vertex]]:
    """The vertices by layer, with a bend for every layer that a line passes."""
    layers: list[list[Vertex]] = [[] for _ in range(1 + max(v.layer for v in drawing.vertices))]
    for vertex in drawing.vertices:
        layers[vertex.layer].append(vertex)
    for line in drawing.lines:
        spine = line.end.spine if line.spine else None
        line.bends = [Vertex("bend", spine=spine, layer=k) for k in range(line.start.layer + 1, line.end.layer)]
        for bend in line.bends:
            layers[bend.layer].append(bend)
    return layers


def _links(lines: Iterable[Line]) -> list[tuple[Vertex, Vertex]]:
    """Pairs of vertices in neighbouring layers."""
    paths = [(line.start, *line.bends, line.end) for line in lines]
    return [pair for path in paths for pair in itertools.pairwise(path)]


def _neighbours(lines: Iterable[Line]) -> tuple[dict[Vertex, list[Vertex]], dict[Vertex, list[Vertex]]]:
    before: dict[Vertex, list[Vertex]] = {}
    after: dict[Vertex, list[Vertex]] = {}
    for a, b in _links(lines):
        after.setdefault(a, []).append(b)
        before.setdefault(b, []).append(a)
    return before, after


def _order(layers: list[list[Vertex]], lines: list[Line]) -> None:
    """Order the layers so that lines cross little; what lies on a state's line stays on top, and x at the bottom."""
    before, after = _neighbours(lines)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, after)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        for k in range(1, len(layers)) if forth else range(len(layers) - 2, -1, -1):
            fixed = layers[k - 1 if forth else k + 1]
            places = {v: float(i) for i, v in enumerate(fixed)}
            near = before if forth else after
            _sort(layers[k], places, near, len(fixed))
        _exchange(layers, before, after)
        count = _crossings(layers, after)
        if count < fewest:
            best, fewest = [list(layer) for layer in layers], count
    for layer, kept in zip(layers, best, strict=True):
        layer[:] = kept


def _rank(vertex: Vertex) -> int:
    return -1 if vertex.spine is None else -1000 + vertex.spine


def _sort(layer: list[Vertex], places: dict[Vertex, float], near: dict[Vertex, list[Vertex]], count: int) -> None:
    """Order one layer by the mean place of each vertex' neighbours; one without any stays where it was."""
    own = {v: i * count / max(1, len(layer)) for i, v in enumerate(layer)}

    def mean(v: Vertex) -> float:
        found = [places[n] for n in near.get(v, ())]
        return sum(found) / len(found) if found else own[v]

    layer.sort(key=lambda v: (_rank(v), mean(v)))


def _exchange(
    layers: list[list[Vertex]], before: dict[Vertex, list[Vertex]], after: dict[Vertex, list[Vertex]]
) -> None:
    """Swap neighbours in a layer as long as that takes crossings away."""
    for k, layer in enumerate(layers):
        sides = []
        if k > 0:
            sides.append(({v: i for i, v in enumerate(layers[k - 1])}, before))
        if k + 1 < len(layers):
            sides.append(({v: i for i, v in enumerate(layers[k + 1])}, after))
        changed = True
        while changed:
            changed = False
            for i in range(len(layer) - 1):
                a, b = layer[i], layer[i + 1]
                if _rank(a) != _rank(b):
                    continue
                gain = 0
                for places, near in sides:
                    for p in (places[v] for v in near.get(a, ())):
                        for q in (places[v] for v in near.get(b, ())):
                            gain += (p > q) - (p < q)
                if gain > 0:
                    layer[i], layer[i + 1] = b, a
                    changed = True


def _crossings(layers: list[list[Vertex]], after: dict[Vertex, list[Vertex]]) -> int:
    count = 0
    for left, right in itertools.pairwise(layers):
        places = {v: i for i, v in enumerate(right)}
        ends = [(i, places[w]) for i, v in enumerate(left) for w in after.get(v, ())]
        count += sum(a < c and b > d for a, b in ends for c, d in ends)
    return count


def _heights(layers: list[list[Vertex]], lines: list[Line]) -> None:
    """Heights near those of the neighbours, in order and apart."""
    before, after = _neighbours(lines)
    rows = {k: i for i, k in enumerate(sorted({v.spine for layer in layers for v in layer if v.spine is not None}))}
    for layer in layers:
        y = 0.0
        for vertex in layer:
            vertex.y = y
            y += vertex.height + GAP_Y
    for sweep in range(2 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted, weights = [], []
            for v in layer:
                near = [*before.get(v, ()), *after.get(v, ())]
                row = None if v.spine is None else rows[v.spine] * 60.0
                wanted.append(row if row is not None else sum(n.y for n in near) / len(near) if near else v.y)
                weights.append(_SPINE_WEIGHT if row is not None else 3.0 if v.kind == "bend" else 1.0)
            for vertex, y in zip(layer, _apart(layer, wanted, weights), strict=True):
                vertex.y = y
    top = min(v.y - v.height / 2 for layer in layers for v in layer)
    for layer in layers:
        for vertex in layer:
            vertex.y -= top


def _apart(layer: list[Vertex], wanted: list[float], weights: list[float]) -> list[float]:
    """The heights nearest to the wanted ones, by weighted least squares, that keep the order and the gaps."""
    offsets, blocks = [0.0], []
    for a, b in itertools.pairwise(layer):
        gap = GAP_Y / 2 if "bend" in (a.kind, b.kind) else GAP_Y
        offsets.append(offsets[-1] + (a.height + b.height) / 2 + gap)
    for y, offset, weight in zip(wanted, offsets, weights, strict=True):
        blocks.append([y - offset, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, w, n = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * w) / (last[1] + w)
            last[1], last[2] = last[1] + w, last[2] + n
    levels = [mean for mean, _, n in blocks for _ in range(int(n))]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]


def _widths(layers: list[list[Vertex]]) -> float:
    """Set x, layer by layer; returns the width."""
    x = 0.0
    for layer in layers:
        width = max((v.width for v in layer), default=0.0)
        for vertex in layer:
            vertex.x = x + width / 2
        x += width + GAP_X
    return x - GAP_X
