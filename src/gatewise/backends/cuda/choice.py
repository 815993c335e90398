"""Which layouts suit a cell, its sizes and a card, the most promising first.

The time of a step is estimated as a sum of what the step has to do, times what that was measured to take: some 900
layouts of three cells in both directions at eight shapes, in bfloat16 on an H200 (tests/data/cuda_layouts.csv). By that
the first choice takes 1.05 times as long as the best of 20 layouts on average (1.29 at most), and the best of the first
six 1.01 times (1.14 at most); for shapes that are left out of the fit 1.07 (1.48) and 1.01 (1.14). On other cards the
order is a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import ceil

from gatewise.backends.cuda.card import MOST_REGISTERS, REGISTERS, Card
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Exchange, Layout, Number

_FITTED: dict[Exchange, Sequence[float]] = {
    Exchange.ALONE: (0.162, 0.00694, 0.000276, 0.00027, 0.000495, 8.79e-05, 0.0162, 0.00591, 0.00813),
    Exchange.CLUSTER: (0.31, 0.00196, 0.000385, 0.000156, 0.000276, 4.45e-05, 0.0063, 0.0391, 0.000598),
    Exchange.CACHE: (0.615, 0.0, 0.000499, 0.0013, 0.0, 2.37e-05, 0.0, 0.122, 0.00239),
}
"""µs for each of ``_work``, by non-negative least squares of relative errors over layouts that do not spill (relative
error 0.06, 0.10 and 0.16 in the mean square)."""
_TAKEN = 58
"""Registers of a thread for addresses and loops, as compiled kernels show."""
_SPARE = 16
"""Registers that the compiler finds beyond the estimate: with one step of weights more, kernels spill."""


def _work(design: Design, layout: Layout) -> Sequence[float]:
    """What a step has to do, in the order of ``_FITTED``."""
    n, tiles = layout.number, len(design.tiles)
    sums = max(1, *(len(design.sums(p + 1)) for p in range(design.phases)))
    columns = layout.steps * layout.shares * n.depth
    own = ceil(4 * layout.tiles / (layout.shares / layout.together))
    return (
        design.phases,
        tiles * layout.groups * layout.steps * layout.shares * 2 * layout.tiles / 4,  # products of a quarter
        tiles * layout.groups * (layout.steps - layout.resident) * layout.shares * 8,  # cycles: weights, read
        layout.groups // layout.together * len(design.vectors) * columns * layout.rows * n.bytes / 128,  # operands
        layout.groups * layout.shares * sums * layout.tiles * 10,  # sums, written and read
        len(design.vectors) * layout.units * layout.share * n.bytes,  # bytes that arrive
        own * design.phases,  # elements of a thread
        own * len(design.inputs),
        layout.steps * 2 * tiles * layout.together * layout.tiles,  # products of a warp, one after another
    )


def rounds(layout: Layout, card: Card, rows: int) -> int:
    """Launches, or turns of blocks on the card, for all rows."""
    sets = ceil(rows / layout.share)
    if layout.exchange is Exchange.CLUSTER:
        return ceil(sets / card.clusters[layout.blocks])
    return ceil(sets / max(1, card.multiprocessors // layout.blocks))


def microseconds(design: Design, layout: Layout, card: Card, rows: int) -> float:
    """The estimate for a step of all rows."""
    terms = zip(_work(design, layout), _FITTED[layout.exchange], strict=True)
    return rounds(layout, card, rows) * sum(amount * cost for amount, cost in terms)


def _sets(design: Design, units: int, rows: int, card: Card) -> Iterator[tuple[Exchange, int, int, int]]:
    """Ways to share out units and rows: exchange, blocks of a set, groups of a block, rows of a set."""
    groups, found = ceil(units / 16), list[tuple[Exchange, int, int, int]]()
    if groups <= 16 or not design.vectors:
        found.append((Exchange.ALONE, 1, groups, card.multiprocessors))
    for blocks, at_once in card.clusters.items():
        own = ceil(groups / blocks)
        if blocks > 1 and own * (blocks - 1) < groups and own <= 16 and design.vectors:
            found.append((Exchange.CLUSTER, blocks, own, at_once))
    for own in (1, 2, 3, 4):
        blocks = ceil(groups / own)
        if 4 <= blocks <= card.multiprocessors and design.vectors:
            found.append((Exchange.CACHE, blocks, own, card.multiprocessors // blocks))
    for exchange, blocks, own, at_once in found:
        even = ceil(rows / at_once)
        for share in sorted({min(n, even) for n in (8, 16, 24, 32, even)}):
            if share <= 32:
                yield exchange, blocks, own, share


def _warps(groups: int, units: int) -> Iterator[tuple[int, int]]:
    """Groups that a warp takes together, and warps that share a sum."""
    for together, shares in product((1, 2, 4), (1, 2, 3, 4, 6, 8, 12, 16)):
        if groups % together == 0 and shares % together == 0:
            warps = groups // together * shares
            if warps <= 16 and (warps >= 4 or units <= 64) and not (warps < 8 and shares < 4 and units > 128):
                yield together, shares


def _fits(design: Design, layout: Layout, card: Card) -> Iterator[Layout]:
    """The layout with as many weights in registers as there is likely room for, and with one step fewer."""
    registers = min(MOST_REGISTERS, REGISTERS // layout.threads // 8 * 8)
    own = ceil(4 * layout.tiles / (layout.shares / layout.together))
    if own > 12:
        return
    tiles = max(1, len(design.tiles)) * layout.together
    kept = sum(len(nodes) for nodes in design.kept) + len(design.carries)
    room = registers - _TAKEN - tiles * layout.tiles * 4 - 4 * layout.tiles - own * (len(design.inputs) // 2 + kept)
    room -= 8 * (layout.exchange is Exchange.CACHE)
    likely = max(0, min(layout.steps, (room + _SPARE) // (8 * tiles)))
    for serial in (False, True) if layout.exchange is Exchange.CACHE and len(design.vectors) > 1 else (False,):
        found = [replace(layout, resident=r, serial=serial) for r in sorted({max(0, likely - 1), likely})]
        found = [each for each in found if each.shared(design) <= card.shared]
        yield from found
        if found:
            return


@lru_cache(maxsize=1024)
def candidates(design: Design, number: Number, units: int, rows: int, card: Card) -> tuple[Layout, ...]:
    """Layouts that the card has room for, the most promising first; none where weights do not fit on the chip."""
    found: list[Layout] = []
    for exchange, blocks, groups, share in _sets(design, units, rows, card):
        for together, shares in _warps(groups, units):
            rough = Layout(number, units, exchange, blocks, groups, together, shares, ceil(share / 8), 0, share=share)
            found += _fits(design, rough, card)
    return tuple(sorted(dict.fromkeys(found), key=lambda layout: microseconds(design, layout, card, rows)))


def too_large(design: Design, units: int) -> str:
    """What is said where there is no layout."""
    return f"the weights of {len(design.tiles)} products of {units} units do not fit on this card"
