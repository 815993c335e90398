"""What a search found to be the fastest layout, kept in the cache beside the machine code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gatewise.backends import cache
from gatewise.backends.cuda.card import Card
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Layout
from gatewise.backends.cuda.source import kernel


def _name(design: Design, tried: Sequence[Layout], rows: int, card: Card) -> str:
    """Of the entry: all that the times depend on. Empty where the source of the package cannot be read."""
    ours = cache.source_hash()
    if not ours or not tried:
        return ""
    whole = "\0".join([ours, repr(card), str(rows), kernel(design, tried[0]), *map(repr, tried)])
    return f"{hashlib.sha256(whole.encode()).hexdigest()}.layout"


def remembered(design: Design, tried: Sequence[Layout], rows: int, card: Card) -> Layout | None:
    """Which of the layouts a search found to be the fastest; None where nobody searched."""
    name = _name(design, tried, rows, card)
    place = cache.read(name) if name else None
    return tried[int(place)] if place is not None and place.isdigit() and int(place) < len(tried) else None


def keep(design: Design, tried: Sequence[Layout], rows: int, card: Card, fastest: Layout) -> None:
    name = _name(design, tried, rows, card)
    if name:
        cache.store(name, str(tried.index(fastest)).encode())
