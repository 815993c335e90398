"""The translator: fit, translate, score, save, load, resume, several processes, and what is refused."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tasks.translate.conftest import SMALL, toy

from gatewise.tasks.errors import InputError
from gatewise.tasks.registry import load
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.metrics import Dictionary, signatures
from gatewise.tasks.translate.pairs import read_pairs
from gatewise.tasks.translate.phrases import REPEATS, phrases
from gatewise.tasks.translate.picture import draw


def same_weights(one: Translator, other: Translator) -> bool:
    own, others = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(own[name], others[name]) for name in own)


def test_it_learns_and_is_scored_beside_baselines(small: Translator) -> None:
    scores = small.score()
    assert list(scores) == ["gru", "dictionary", "copy"]
    assert scores["gru"]["BLEU"] > scores["dictionary"]["BLEU"] > scores["copy"]["BLEU"]
    assert scores == small.scores
    assert small.history.best.value == max(epoch.value for epoch in small.history.epochs)
    assert small.history.size_per_second > 0
    found = small.evaluate(toy(seed=5))
    assert sum(group["pairs"] for group in found.by_length.values()) == 240
    assert {row[0] for row in found.wrong} <= set(found.source)


def test_translations_scores_and_n_best(small: Translator) -> None:
    texts = ["red cat eats.", "dog sees."]
    found = small.translations(texts, beam_size=4, n_best=3)
    assert [len(best) for best in found] == [3, 3]
    assert small.translate(texts, beam_size=4) == [best[0].text for best in found]
    assert small.predict(texts[0]) == small.translate(texts[:1])
    assert len(small.predict()) == len(small.pairs["validation.tsv.gz"])


def test_unknown_words_are_copied_through_attention() -> None:
    """Names that come once each stay unknown; what is written for one is the source piece that was looked at."""
    generator = np.random.default_rng(1)
    pairs = []
    for source, target in toy(400):
        left, right = source.rstrip(".").split(), target.rstrip(".").split()
        name, place = "".join(generator.choice(list("abcdefgh"), 7)), int(generator.integers(len(left) + 1))
        left.insert(place, name)
        right.insert(len(right) - place, name)
        pairs.append((" ".join(left), " ".join(right)))
    options = {**SMALL, "hidden_size": 32, "dropout": 0.0, "epochs": 12, "max_steps": 200}
    translator = Translator(**options).fit(pairs)
    found = translator.translate(["red zorglub cat eats", "dog sees red zorglub"])
    assert found == ["mange chat zorglub rouge", "zorglub rouge voit chien"]


def test_one_vocabulary_for_both_languages_is_one_embedding(tmp_path: Path) -> None:
    options = {**SMALL, "joint": True, "vocabulary": "bpe", "vocabulary_size": 60, "max_steps": 4, "epochs": 2}
    translator = Translator(**options).fit(toy(60), directory=tmp_path / "run")
    assert translator.network.source is translator.network.target
    translator.save(tmp_path / "m")
    assert load(tmp_path / "m").predict() == load(tmp_path / "run").predict() == translator.predict()


def test_saved_and_loaded_it_says_the_same(small: Translator, tmp_path: Path) -> None:
    small.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert isinstance(again, Translator)
    assert again.predict() == small.predict()
    assert again.scores == small.scores
    assert again.score() == small.scores
    (tmp_path / "m" / "vocabulary.json").write_text('{"target": {}}')
    with pytest.raises(InputError, match="damaged"):
        load(tmp_path / "m")


class Interrupting:
    """A reporter that presses Ctrl-C at a step."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Interrupting:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, step: int, loss: float, per_second: float) -> None:
        if step == 40:
            raise KeyboardInterrupt

    def epoch(self, history: object, note: str) -> None:
        assert "→" in note


def test_interrupted_and_resumed_equals_uninterrupted(small: Translator, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Translator(**SMALL).fit(toy(), directory=tmp_path, report=Interrupting)
    assert load(tmp_path).score()["gru"]["BLEU"] > 0
    resumed = Translator.resume(tmp_path, toy(), hidden_size=24)
    assert same_weights(resumed, small)
    assert resumed.scores == small.scores
    with pytest.raises(InputError, match="data: differs"):
        Translator.resume(tmp_path, toy(seed=3))


def test_a_run_in_mixed_precision_is_resumed_in_its_own(tmp_path: Path) -> None:
    options = {**SMALL, "epochs": 4, "max_steps": 48}
    whole = Translator(**options, precision="bf16-mixed").fit(toy())
    with pytest.raises(KeyboardInterrupt):
        Translator(**options, precision="bf16-mixed").fit(toy(), directory=tmp_path, report=Interrupting)
    with pytest.raises(InputError, match=r"precision: the run in .* was started with 'bf16-mixed', got '32-true'"):
        Translator.resume(tmp_path, precision="32-true")
    resumed = Translator.resume(tmp_path)
    assert same_weights(resumed, whole)
    assert not same_weights(Translator(**options).fit(toy()), whole)
    with pytest.raises(InputError, match="precision must be one of 32-true, bf16-mixed, got '16'"):
        Translator(**options, precision="16")


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    options = {**SMALL, "hidden_size": 64, "dropout": 0.0, "max_steps": 24, "epochs": 2}
    one = Translator(**options).fit(toy())
    two = Translator(**options, devices=2).fit(toy(), directory=tmp_path / "two")
    numbers = sum(p.numel() for p in two.network.parameters())
    assert 4 * numbers > 1 << 16, "more than a pipe between processes holds"
    losses = [epoch.loss for epoch in one.history.epochs], [epoch.loss for epoch in two.history.epochs]
    np.testing.assert_allclose(*losses, rtol=0.1)
    assert same_weights(two, load(tmp_path / "two"))  # type: ignore[arg-type]


def test_over_long_pairs_are_listed_and_left_out() -> None:
    pairs = toy(60)
    pairs[3] = (" ".join(["cat"] * 40), "chat")
    pairs[50] = ("cat", " ".join(["chat"] * 40))
    translator = Translator(**SMALL, longest=20)
    translator.read(pairs, validation=toy(20, seed=9))
    assert translator.left_out == [4, 51]
    assert len(translator.pairs["train.tsv.gz"]) == 58
    with pytest.raises(InputError, match="longest of 1 leaves no pair: the shortest has a side of 3 pieces"):
        Translator(**SMALL, longest=1).read(toy(20), validation=toy(20, seed=9))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"decoder": "beam"}, "decoder must be one of attention, final, got 'beam'"),
        ({"hidden_size": 7}, "hidden_size must be even"),
        ({"embedding_size": 0}, "embedding_size must be an integer of at least 1"),
        ({"dropout": 1.0}, "dropout must be a number of at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be"),
        ({"vocabulary": "letters"}, "vocabulary must be one of bpe, words"),
        ({"vocabulary_size": 3}, "vocabulary_size must be an integer of at least 8"),
        ({"joint": 1}, "joint must be True or False, got 1"),
        ({"longest": 0}, "longest must be"),
        ({"batch_size": True}, "batch_size must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"cell": "gro"}, "cell must be one of"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_out_of_range_get_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Translator(**options)


def test_bad_requests_get_a_sentence(small: Translator) -> None:
    for arguments, sentence in [
        ({"texts": ["a", " "]}, "text 2 is empty"),
        ({"texts": ["a", 3]}, "got int as number 2"),
        ({"texts": "a"}, "texts must be a list of texts, got one text"),
        ({"texts": ["a"], "beam_size": 0}, "beam_size must be an integer of at least 1"),
        ({"texts": ["a"], "n_best": 6}, "n_best must be an integer of at most 5"),
        ({"texts": ["a"], "max_length": 0}, "max_length must be"),
    ]:
        with pytest.raises(InputError, match=sentence):
            small.translations(**arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="line 1: the columns look swapped"):
        small.score([(target, source) for source, target in toy(20)])
    with pytest.raises(InputError, match="is not fitted"):
        Translator().translate(["a"])
    with pytest.raises(InputError, match="expected 20 or more"):
        Translator().read(toy(5))
    with pytest.raises(InputError, match="expected none without data"):
        Translator().read(None, validation=toy(5))
    with pytest.raises(InputError, match="devices must be an integer of at least 1"):
        Translator(devices=0)


@pytest.mark.parametrize("fixture", ["small", "final"])
def test_a_look_inside(fixture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    translator: Translator = request.getfixturevalue(fixture)
    found = translator.look("red cat eats.")
    assert found.source == ["▁red", "▁cat", "▁eats", "."]
    assert found.target[-1] == "</s>"
    assert found.reading is not None
    assert found.writing is not None
    assert found.reading[0].shape == (4, 12)
    assert found.writing.shape == (len(found.target), 24)
    assert (found.attention is None) == (fixture == "final")
    if found.attention is not None:
        np.testing.assert_allclose(found.attention.sum(1), 1, rtol=1e-5)
        assert found.gate == "z"
    rows = list(csv.reader(io.StringIO(found.csv())))
    assert len(rows) == 1 + len(found.target)
    draw(found, tmp_path / "look.png")
    assert (tmp_path / "look.png").stat().st_size > 10_000


def test_a_cell_without_a_gate_is_looked_into_all_the_same(tmp_path: Path) -> None:
    translator = Translator(cell="rnn", **{**SMALL, "max_steps": 2}).fit(toy(40))
    found = translator.look("red cat.")
    assert (found.gate, found.reading, found.writing) == (None, None, None)
    draw(found, tmp_path / "look.svg")


def test_the_dictionary_knows_words_by_their_company() -> None:
    dictionary = Dictionary(read_pairs([(s.rstrip("."), t.rstrip(".")) for s, t in toy()]))
    assert dictionary.translate("red dog zorglub") == "rouge chien zorglub"
    assert "tok:13a" in signatures()["BLEU"]


def test_the_embedded_phrases_hold_out_what_training_has_not() -> None:
    parts = phrases()
    training = set(parts.training.source)
    repeated = Counter(parts.training.source)
    assert repeated["twelve"] > 1
    assert max(repeated.values()) == REPEATS
    assert (len(training), len(parts.validation), len(parts.test)) == (20000, 500, 1000)
    assert not training & set(parts.validation.source + parts.test.source)
    pairs = dict(zip(parts.training.source, parts.training.target, strict=True))
    assert pairs["two hundred"] == "deux cents"
    assert any("soixante et onz" in text for text in pairs.values())
