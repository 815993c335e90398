"""BLEU and chrF by sacreBLEU, exact matches, and two baselines: copying, and a dictionary word by word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gatewise.tasks.errors import need
from gatewise.tasks.translate.pairs import Pairs

SHORT, LONG = 10, 15
"""Words of a source up to which it counts as short, and up to which as of middle length."""


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of a corpus, in per cent: mixed case, tokens as sacreBLEU cuts them by default."""
    return float(need("sacrebleu").corpus_bleu(translations, [references]).score)


def figures(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU, chrF and the share of exact translations, all in per cent."""
    chrf = need("sacrebleu").corpus_chrf(translations, [references]).score
    exact = sum(t == r for t, r in zip(translations, references, strict=True))
    return {"BLEU": bleu(translations, references), "chrF": float(chrf), "exact": 100 * exact / len(references)}


@dataclass(frozen=True)
class Evaluation:
    """Sources, what was wanted, and translations by name: the model's first."""

    source: list[str]
    target: list[str]
    translations: dict[str, list[str]]

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """BLEU, chrF and exact translations by name."""
        return {name: figures(found, self.target) for name, found in self.translations.items()}

    @cached_property
    def by_length(self) -> dict[str, dict[str, float]]:
        """BLEU by name for short, middle and long sources, with their number under ``pairs``."""
        lengths = [len(text.split()) for text in self.source]
        groups = {f"up to {SHORT} words": range(SHORT + 1), f"{SHORT + 1} to {LONG} words": range(SHORT + 1, LONG + 1)}
        groups[f"more than {LONG} words"] = range(LONG + 1, 1 + max(LONG, *lengths))
        found: dict[str, dict[str, float]] = {}
        for title, group in groups.items():
            own = [k for k, length in enumerate(lengths) if length in group]
            if own:
                wanted = [self.target[k] for k in own]
                scores = {name: bleu([texts[k] for k in own], wanted) for name, texts in self.translations.items()}
                found[title] = {"pairs": float(len(own)), **scores}
        return found

    @property
    def wrong(self) -> list[tuple[str, str, str]]:
        """(source, wanted, translation) of what the model did not translate exactly."""
        rows = zip(self.source, self.target, next(iter(self.translations.values())), strict=True)
        return [row for row in rows if row[1] != row[2]]


def signatures() -> dict[str, str]:
    """What sacreBLEU calls the ways it measures."""
    metrics = need("sacrebleu.metrics")

    found = {}
    for name, metric in (("BLEU", metrics.BLEU()), ("chrF", metrics.CHRF())):
        metric.corpus_score(["a"], [["a"]])  # the signature tells the number of references
        found[name] = str(metric.get_signature())
    return found


class Dictionary:
    """Translates word by word: each word to the one that keeps its company, by Dice's coefficient over the pairs."""

    def __init__(self, pairs: Pairs) -> None:
        seen: Counter[str] = Counter()
        wanted: Counter[str] = Counter()
        together: Counter[tuple[str, str]] = Counter()
        for source, target in zip(pairs.source, pairs.target, strict=True):
            left, right = set(source.split()), set(target.split())
            seen.update(left)
            wanted.update(right)
            together.update((s, t) for s in left for t in right)
        best: dict[str, tuple[float, str]] = {}
        for (s, t), count in together.items():
            best[s] = max(best.get(s, (0.0, "")), (2 * count / (seen[s] + wanted[t]), t))
        self.words = {s: t for s, (_, t) in best.items()}

    def translate(self, text: str) -> str:
        """Word by word; a word never seen is copied."""
        return " ".join(self.words.get(word, word) for word in text.split())
