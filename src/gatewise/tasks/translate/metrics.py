"""BLEU and chrF by sacreBLEU, exact matches, and two baselines: copying, and a dictionary word by word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gatewise.tasks.errors import need
from gatewise.tasks.translate.pairs import Pairs


def figures(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU, chrF and the share of exact translations, all in per cent."""
    sacrebleu = need("sacrebleu")
    exact = sum(t == r for t, r in zip(translations, references, strict=True))
    return {
        "BLEU": float(sacrebleu.corpus_bleu(translations, [references]).score),
        "chrF": float(sacrebleu.corpus_chrf(translations, [references]).score),
        "exact": 100 * exact / len(references),
    }


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
