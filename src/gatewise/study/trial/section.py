"""A claim and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewise.study.page import Block
from gatewise.study.statistics import Paired, Verdict, interval, paired


@dataclass(frozen=True)
class Section:
    """One claim on trial. ``rule`` says what decides it, fixed before anything was run; ``figures`` are its numbers."""

    id: str
    claim: str
    how: str
    rule: str
    verdict: Verdict
    sentence: str
    figures: dict[str, Any]
    blocks: list[Block] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def spread(values: Sequence[float]) -> str:
    """A mean and its interval in words."""
    return str(interval(values))


def beside(pair: Paired) -> str:
    """What a paired comparison says of its first figure."""
    words = {"equal": "equal within the margin", "undecided": "inconclusive"}
    return words.get(pair.relation, pair.relation)


def reach(pair: Paired) -> str:
    """A difference with its interval and p-value."""
    return f"{pair.difference} (p = {pair.p_value:.2g})"


def higher(a: Sequence[float], b: Sequence[float], margin: float) -> tuple[Verdict, Paired]:
    """Whether ``a`` is higher than ``b`` by the margin at least; fails where they are equal within it or it is
    lower."""
    pair = paired(a, b, margin)
    verdicts: dict[str, Verdict] = {"higher": "holds", "equal": "fails", "lower": "fails", "undecided": "undecided"}
    return verdicts[pair.relation], pair


def alike(a: Sequence[float], b: Sequence[float], margin: float) -> tuple[Verdict, Paired]:
    """Whether ``a`` and ``b`` are equal within the margin: fails where one is beyond it."""
    pair = paired(a, b, margin)
    verdicts: dict[str, Verdict] = {"higher": "fails", "equal": "holds", "lower": "fails", "undecided": "undecided"}
    return verdicts[pair.relation], pair
