"""Kernels as machine code: compiled once, kept in memory and in the cache on disk; layouts that spill are left out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from gatewise.backends import cache
from gatewise.backends.cuda import choice, kept, nvrtc
from gatewise.backends.cuda.card import Card
from gatewise.backends.cuda.cubin import Resources, resources
from gatewise.backends.cuda.design import Design, UnsuitableError
from gatewise.backends.cuda.layout import Layout, Number
from gatewise.backends.cuda.source import kernel, packing, skeleton

TRIED = 6
"""Layouts that are compiled until one does not spill."""


@dataclass(frozen=True)
class Code:
    cubin: bytes
    resources: Resources


def code(design: Design, layout: Layout, architecture: str) -> Code:
    """The kernel of a design in a layout.

    Raises:
        RuntimeError: where there is neither NVRTC nor an entry of the cache.
    """
    return _code(kernel(design, layout), architecture)


def packing_code(number: Number, architecture: str) -> Code:
    """The kernel that packs weights. It raises as ``code``."""
    return _code(packing(number), architecture)


@lru_cache(maxsize=512)
def _code(source: str, architecture: str) -> Code:
    name = _name(source, architecture)
    cubin = cache.read(name) if name else None
    if cubin is None:
        cubin, _ = nvrtc.compiled(source, skeleton(), architecture)
        if name:
            cache.store(name, cubin)
    return Code(cubin, resources(cubin))


def _name(source: str, architecture: str) -> str:
    """Of the entry: all that decides the code. Empty where the source of the package cannot be read."""
    ours = cache.source_hash()
    if not ours or nvrtc.library() is None:
        return ""
    whole = "\0".join([ours, source, architecture, *map(str, nvrtc.version())])
    return f"{hashlib.sha256(whole.encode()).hexdigest()}.cubin"


@lru_cache(maxsize=1024)
def fitting(design: Design, number: Number, units: int, rows: int, card: Card) -> tuple[Layout, Code]:
    """What a search found, else the most promising layout that does not spill; where all of the first few do, the one
    that spills least.

    Raises:
        UnsuitableError: where the card has no room for the weights.
    """
    known: list[tuple[Layout, Code]] = []
    tried = choice.candidates(design, number, units, rows, card)[:TRIED]
    found = kept.remembered(design, tried, rows, card)
    if found is not None:
        return found, code(design, found, card.architecture)
    for layout in tried:
        known.append((layout, code(design, layout, card.architecture)))
        if known[-1][1].resources.stack == 0:
            return known[-1]
    if not known:
        raise UnsuitableError(choice.too_large(design, units))
    return min(known, key=lambda pair: pair[1].resources.stack)
