"""A claim and what became of it, and on what its verdict rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gatewise.study.page import Block
from gatewise.study.statistics import Paired, Verdict, interval, paired


@dataclass(frozen=True)
class Basis:
    """On what a verdict rests, in words, beside its rule: what else a reader needs to sign it or not."""

    margin: str = "none: nothing is estimated"
    budget: str = "none: nothing is trained"
    tuning: str = "none"
    guessing: str = "none"
    change: str = "another definition of the cells"
    """What would change the verdict."""


@dataclass(frozen=True)
class Section:
    """One claim on trial. ``rule``, fixed before a full trial was run, decides; ``figures`` are its numbers."""

    id: str
    claim: str
    how: str
    rule: str
    verdict: Verdict
    sentence: str
    figures: dict[str, Any]
    blocks: list[Block] = field(default_factory=list)
    basis: Basis = Basis()

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "basis": asdict(self.basis)}


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


def turned(pair: Paired) -> str:
    """What would change a verdict that follows from a paired comparison."""
    d, margin = pair.difference, pair.margin
    if pair.relation == "equal":
        return f"a difference of {margin:g} at least; it is {d.mean:.3g}"
    if pair.relation == "undecided":
        return (
            f"more seeds: the interval is {d.high - d.low:.3g} wide, and the margin is ± {margin:g} about "
            f"zero; the difference is {d.mean:.3g}"
        )
    return f"a difference below {margin:g}, or an interval that reaches zero; it is {d}"


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
