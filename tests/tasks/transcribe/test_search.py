"""Searches against all texts there are, and the n-gram models that steer them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gatewise.tasks.errors import InputError
from gatewise.tasks.transcribe import search as module
from gatewise.tasks.transcribe.decoding import Decoding
from gatewise.tasks.transcribe.grams import BackOff, GramScorer
from gatewise.tasks.transcribe.guide import Guide, LanguageScorer
from gatewise.tasks.transcribe.search import Emission, Search, aligned, greedy, searched
from gatewise.tasks.transcribe.units import BLANK, Units, steps_needed

UNITS = Units([None, " ", "A", "B"])
PIECES = Units([None, " A", "B", " B"])
"""As byte-pair encoding makes them: a space belongs to the piece that it begins."""
SENTENCES = ["A B", "AB A", "AB AB", "B", "A AB B"]
ALL = 10_000
"""A beam that loses nothing."""


def emission(steps: int, seed: int) -> Emission:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(steps, len(UNITS)))).float()
    return logits.log_softmax(-1).numpy()


def log_probability(emission: Emission, tokens: tuple[int, ...]) -> float:
    """Of a text, over all its alignments, by torch."""
    if steps_needed(tokens) > len(emission):
        return -math.inf
    logs = torch.from_numpy(emission).double()[:, None]
    wanted = torch.tensor([list(tokens)]) if tokens else torch.zeros(1, 0, dtype=torch.long)
    lengths = torch.tensor([len(emission)]), torch.tensor([len(tokens)])
    return -float(F.ctc_loss(logs, wanted, *lengths, blank=BLANK, reduction="sum"))


def added(text: str, scorer: LanguageScorer | None, weight: float, bonus: float) -> float:
    """What a language model and the number of words add, computed from the whole text."""
    words = text.split()
    total = bonus * len(words)
    if scorer is None:
        return total
    state = scorer.start()
    for part in words if scorer.by_word else " ".join(words):
        state, logs = scorer.extend(state, part)
        total += weight * logs
    return total + weight * scorer.end(state)


def exhaustive(
    emission: Emission, scorer: LanguageScorer | None, weight: float, bonus: float, units: Units = UNITS
) -> dict[str, float]:
    """The score of each text: that of the likeliest way to write its spaces."""
    found: dict[str, float] = {}
    for length in range(len(emission) + 1):
        for tokens in itertools.product(units.written, repeat=length):
            text = units.decode(tokens)
            score = log_probability(emission, tokens) + added(text, scorer, weight, bonus)
            found[text] = max(found.get(text, -math.inf), score)
    return found


def scorers() -> dict[str, LanguageScorer | None]:
    words = GramScorer(BackOff.learn((s.split() for s in SENTENCES), 3), True, 2)
    return {"none": None, "words": words, "letters": GramScorer(BackOff.learn(SENTENCES, 4), False, 2)}


@pytest.mark.parametrize("kind", ["none", "words", "letters"])
@pytest.mark.parametrize("units", [UNITS, PIECES], ids=["letters", "pieces"])
def test_a_wide_search_finds_the_best_of_all_texts(kind: str, units: Units) -> None:
    scorer, given = scorers()[kind], emission(5, len(kind))
    weight, bonus = (0.8, -0.3) if scorer else (1.0, 0.4)
    wanted = sorted(exhaustive(given, scorer, weight, bonus, units).items(), key=lambda item: -item[1])[:6]
    found = searched(given, Guide(units, scorer, weight, bonus), ALL, 6)
    assert [units.decode(one.tokens) for one in found] == [text for text, _ in wanted]
    assert [one.score for one in found] == pytest.approx([score for _, score in wanted], abs=1e-5)


def test_only_allowed_words_are_written() -> None:
    given = emission(6, 3)
    allowed = {"AB", "B"}
    every = exhaustive(given, None, 1.0, 0.0)
    wanted = max((text for text in every if set(text.split()) <= allowed), key=lambda text: every[text])
    found = searched(given, Guide(UNITS, words=allowed), ALL, 4)
    assert UNITS.decode(found[0].tokens) == wanted
    assert all(set(UNITS.decode(one.tokens).split()) <= allowed for one in found)
    assert UNITS.decode(searched(given, Guide(UNITS, words={"ABABABAB"}), ALL)[0].tokens) == ""


def test_pieces_of_a_recording_give_the_text_of_the_whole() -> None:
    given, guide = emission(30, 4), Guide(UNITS, scorers()["letters"], 0.5, 0.1)
    search = Search(guide, 7)
    for start in range(0, 30, 4):
        search.push(given[start : start + 4])
    assert search.best(3) == searched(given, guide, 7, 3)


def test_a_search_forgets_what_it_did_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letting go of prefixes at every step changes no text, and keeps few: memory of live text does not grow."""
    given, guide = emission(60, 5), Guide(UNITS, scorers()["words"], 0.5, 0.1)
    wanted = searched(given, guide, 6, 6)
    monkeypatch.setattr(module, "FORGET", 1)
    search = Search(guide, 6)
    search.push(given)
    assert search.best(6) == wanted
    longest = max(len(one.tokens) for one in wanted)
    assert len(_reachable(search)) <= 6 * (longest + 1)


def _reachable(search: Search) -> set[object]:
    """All prefixes that a search holds."""
    found: set[object] = set()
    left: list[Any] = list(search._kept)
    while left:
        prefix = left.pop()
        if prefix is not None and prefix not in found:
            found.add(prefix)
            left += [prefix.before, *prefix.children.values()]
    return found


def test_the_likeliest_letters() -> None:
    rows = [2, 2, 0, 2, 3, 3, 1, 0, 0, 2]
    given = np.log(np.full((len(rows), 4), 0.1, np.float32))
    given[np.arange(len(rows)), rows] = math.log(0.7)
    tokens, spans = greedy(given)
    assert UNITS.decode(tokens) == "AAB A"
    assert spans == [(0, 1), (3, 3), (4, 5), (6, 6), (9, 9)] == aligned(given, tokens)
    assert greedy(np.zeros((0, 4), np.float32)) == ([], [])


@pytest.mark.parametrize("seed", range(3))
def test_the_alignment_is_the_likeliest_of_all(seed: int) -> None:
    given, tokens = emission(6, seed), [2, 2, 3]

    def said(path: tuple[int, ...]) -> list[int]:
        return [token for token, _ in itertools.groupby(path) if token != BLANK]

    paths = (path for path in itertools.product((0, 2, 3), repeat=6) if said(path) == tokens)
    best = max(paths, key=lambda path: sum(given[k, token] for k, token in enumerate(path)))
    runs = []
    place = 0
    for token, run in itertools.groupby(best):
        count = len(list(run))
        runs.append((token, (place, place + count - 1)))
        place += count
    assert aligned(given, tokens) == [span for token, span in runs if token != BLANK]
    assert aligned(given, []) == []


@pytest.mark.parametrize("order", [1, 2, 4])
def test_an_n_gram_model_is_a_distribution(order: int) -> None:
    model = BackOff.learn(SENTENCES, order)
    for context in [("<s>",), ("<s>", "A"), ("B",), ("A", " ", "A"), ("B", "B", "B")]:
        every = [*"AB ", "</s>", "<unk>"]
        assert sum(math.exp(model.log_probability(context, token)) for token in every) == pytest.approx(1.0)


def test_counts_are_smoothed_after_witten_and_bell() -> None:
    """By hand: of 3 tokens behind <s>, two are a; behind a, b and the end were seen once each."""
    model = BackOff.learn([["a", "b"], ["a"], ["b"]], 2)
    uniform = 1 / 4
    one = {"a": (2 + 3 * uniform) / (7 + 3), "b": (2 + 3 * uniform) / 10, "</s>": (3 + 3 * uniform) / 10}
    assert math.exp(model.log_probability(("<s>",), "a")) == pytest.approx((2 + 2 * one["a"]) / (3 + 2))
    assert math.exp(model.log_probability(("a",), "b")) == pytest.approx((1 + 2 * one["b"]) / (2 + 2))
    assert math.exp(model.log_probability(("a",), "a")) == pytest.approx(2 / 4 * one["a"])


def test_an_arpa_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.arpa"
    path.write_text(
        "\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-0.5\t<unk>\n-99\t<s>\t-0.2\n-0.4\tAB\t-0.1\n-0.6\t</s>\n\n"
        "\\2-grams:\n-0.3\t<s> AB\n-0.7\tAB </s>\n\n\\end\\\n"
    )
    model = BackOff.read(path)
    assert model.order == 2
    assert not model.of_letters
    ten = math.log(10)
    assert model.log_probability(("<s>",), "AB") == pytest.approx(-0.3 * ten)
    assert model.log_probability(("AB",), "AB") == pytest.approx((-0.1 - 0.4) * ten)
    scorer = GramScorer(model, True, 2)
    state, logs = scorer.extend(scorer.start(), "A")
    assert logs == pytest.approx((-0.2 - 0.5) * ten - 2 * math.log(3))
    assert scorer.end(state) == pytest.approx(-0.6 * ten)
    guide = Decoding(lm=path).guide(UNITS, [], False)
    assert guide.scorer is not None
    assert guide.scorer.by_word


@pytest.mark.parametrize("text", ["", "hello\n", "\\data\\\n\\1-grams:\nx AB\n", "\\data\\\n\\2-grams:\n-1 AB\n"])
def test_what_is_no_arpa_file_gets_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.arpa"
    path.write_text(text)
    with pytest.raises(InputError, match="ARPA"):
        BackOff.read(path)


def test_a_text_is_a_language_model(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("AB A\n\nAB B\n")
    for unit in ("word", "char"):
        guide = Decoding(lm=path, lm_unit=unit).guide(UNITS, [], False)
        assert isinstance(guide.scorer, GramScorer)
        assert guide.scorer.by_word == (unit == "word")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no text"):
        Decoding(lm=tmp_path / "empty.txt").guide(UNITS, [], False)
    with pytest.raises(InputError, match="none of 1 can be written with the training's letters, AB"):
        Decoding(words=["ZZ"]).guide(UNITS, [], False)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"beam": 0}, "beam must be an integer of at least 1, got 0"),
        ({"n_best": 0}, "n_best must be an integer of at least 1, got 0"),
        ({"n_best": 3, "beam": 2}, "n_best must be an integer of at most 2, got 3"),
        ({"lm_unit": "line"}, "lm_unit must be one of word, char, got 'line'"),
        ({"lm_order": 0}, "lm_order must be an integer of at least 1, got 0"),
        ({"lm_weight": math.nan}, "lm_weight must be a number between -1000 and 1000, got nan"),
    ],
)
def test_bad_wishes_get_a_sentence(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Decoding(**given)  # type: ignore[arg-type]
