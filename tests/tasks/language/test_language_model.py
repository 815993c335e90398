"""The language model as a task: it learns, every option acts, runs go on to the bit, bad input gets a sentence."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.tasks.errors import InputError
from gatewise.tasks.language import language_model
from gatewise.tasks.language.corpus import LARGE
from gatewise.tasks.language.options import EMBEDDED_STEPS, STEPS
from gatewise.tasks.language.store import TOKENS
from gatewise.tasks.text.sources import sources
from gatewise.tasks.text.tokenizers import Bytes

SMALL: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8, "batch_size": 4, "sequence_length": 16}
SMALL |= {"learning_rate": 2e-2, "max_steps": 60, "dropout": 0.0}
TINY = {**SMALL, "max_steps": 8}
LINE = "the cat sat on the mat. "


def texts(count: int = 40) -> list[str]:
    """Documents of which a small network learns most in a second."""
    generator = np.random.default_rng(0)
    return [LINE * int(generator.integers(2, 5)) for _ in range(count)]


@pytest.fixture(scope="module")
def fitted() -> gw.LanguageModel:
    return gw.LanguageModel(**SMALL).fit(texts())


def weights(model: gw.LanguageModel) -> dict[str, torch.Tensor]:
    return model.fitted().state_dict()


def same(one: gw.LanguageModel, other: gw.LanguageModel) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_is_scored_beside_n_grams(fitted: gw.LanguageModel) -> None:
    scores = fitted.scores
    assert list(scores) == ["gru_reset_after", *(f"{n}-gram" for n in range(6, 0, -1))]
    assert scores["gru_reset_after"]["nats"] < 0.5 * scores["1-gram"]["nats"]
    assert scores["6-gram"]["nats"] < scores["2-gram"]["nats"] < scores["1-gram"]["nats"]
    for values in scores.values():
        assert list(values) == ["nats", "bits", "perplexity"]
        assert values["bits"] == pytest.approx(values["nats"] / math.log(2))
    best = fitted.history.best
    assert best.value == pytest.approx(scores["gru_reset_after"]["nats"], rel=1e-5)
    assert LINE.split()[0] in fitted.generate("", 40, temperature=0)


def test_the_figures_are_those_of_the_single_tokens(fitted: gw.LanguageModel) -> None:
    text = LINE * 2
    logs, table = fitted.logprobs(text), fitted.surprises(text)
    assert logs.shape == (len(text),)
    assert table["token"] == list(text)
    assert (table["nats"] == -logs).all()
    assert (table["entropy"] > 0).all()
    assert (table["rank"][logs > -math.log(2)] == 1).all()
    assert table["rank"].max() > 1
    whole = fitted.score([text])["gru_reset_after"]
    with_end = -logs.sum() - _end(fitted, text)
    assert whole["nats"] == pytest.approx(with_end / len(text), rel=1e-4)
    assert whole["perplexity"] == pytest.approx(math.exp(with_end / (len(text) + 1)), rel=1e-4)


def _end(model: gw.LanguageModel, text: str) -> float:
    """Log-probability of the end behind a text."""
    ids = torch.tensor([model.tokenizer.end, *model.tokenizer.encode(text).tolist()])
    with torch.no_grad():
        seen, _ = model.network.run(ids[:, None])
        return float(model.network.log_probabilities(seen[-1])[0, -1])


def test_texts_are_streamed_and_the_same_in_any_company(fitted: gw.LanguageModel) -> None:
    how: dict[str, Any] = {"temperature": 0.9, "top_k": 9, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1}
    alone = fitted.generate("the ", 50, seed=3, **how)
    assert "".join(fitted.generate("the ", 50, stream=True, seed=3, **how)) == alone
    together = fitted.generate(["cat", "the ", ""], 50, seed=3, **how)
    assert together[1] == alone
    found = ["", "", ""]
    for number, piece in fitted.generate(["cat", "the ", ""], 50, stream=True, seed=3, **how):
        found[number] += piece
    assert found == together
    assert fitted.generate("the ", 50, seed=4, **how) != alone
    assert "sat" not in fitted.generate("the cat ", 30, stop="sat", temperature=0)
    assert fitted.predict("the cat ") == fitted.generate(["the cat "])
    best = fitted.likeliest("the c", 8, beam=4)
    assert best[0][0].startswith("at ")
    assert [total for _, total in best] == sorted((total for _, total in best), reverse=True)


OPTIONS: list[dict[str, Any]] = [
    {"tokenizer": "byte"},
    {"tokenizer": "bpe", "vocabulary_size": 262},
    {"separator": "cat"},
    {"held_out": 0.3},
    {"cell": "lstm"},
    {"cell": "gru"},
    {"num_layers": 2, "dropout": 0.3},
    {"num_layers": 2, "dropout": 0.3, "locked": True},
    {"input_dropout": 0.3},
    {"embedding_dropout": 0.3},
    {"weight_dropout": 0.3},
    {"num_layers": 2, "layer_norm": True},
    {"tied": True},
    {"cutoffs": "4,8"},
    {"batch_size": 3},
    {"sequence_length": 9},
    {"weight_decay": 0.5},
    {"clip_norm": 0.01},
    {"warmup": 0.9},
    {"average": 0.9},
    {"learning_rate": 1e-3},
    {"initialise": "orthogonal"},
    {"embedding_size": 5},
    {"seed": 1},
    {"precision": "bf16-mixed"},
    {"epochs": 2, "max_steps": None},
]


@pytest.fixture(scope="module")
def plain() -> gw.LanguageModel:
    return gw.LanguageModel(**TINY).fit(texts())


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: " ".join(f"{k}={v}" for k, v in option.items()))
def test_every_option_changes_the_model_and_comes_back_from_disk(
    option: dict[str, Any], plain: gw.LanguageModel, tmp_path: Path
) -> None:
    model = gw.LanguageModel(**{**TINY, **option}).fit(texts())
    assert not same(model, plain)
    model.save(tmp_path / "m")
    again = gw.LanguageModel.load(tmp_path / "m")
    assert same(again, model)
    assert again.options == model.options
    assert again.generate(["the ", ""], 20) == model.generate(["the ", ""], 20)
    assert again.score() == model.score() == model.scores
    (named,) = [values for name, values in model.scores.items() if name == model.cell.name]
    assert ("nats/token" in named) == ("tokenizer" in option)


def test_what_nobody_gave_is_filled_by_the_data() -> None:
    for data, kind, steps, embedding in (
        (None, "char", EMBEDDED_STEPS, 64),
        (texts(), "byte", STEPS, 64),
        (texts(), "bpe", STEPS, 256),
    ):
        model = gw.LanguageModel(tokenizer=kind, vocabulary_size=260)
        model.read(data)
        assert (model.options.max_steps, model.options.embedding_size) == (steps, embedding)
    model = gw.LanguageModel(epochs=3)
    model.read(texts())
    assert (model.options.max_steps, model.schedule().epochs) == (None, 3)


def test_a_custom_cell_trains_writes_and_comes_back(tmp_path: Path) -> None:
    @gw.cell
    def leaky(gate: Any, x: Any, h: Any) -> Any:
        """A cell of one's own."""
        z = gw.sigmoid(gate.z(x, h))
        return z * h + (1 - z) * gw.tanh(gate.n(x))

    model = gw.LanguageModel(cell=leaky, **{**TINY, "weight_dropout": 0.1}).fit(texts(), directory=tmp_path / "m")
    assert gw.LanguageModel.load(tmp_path / "m").generate("the ", 20) == model.generate("the ", 20)


def test_an_adaptive_softmax_ranks_tokens_by_frequency() -> None:
    model = gw.LanguageModel(**TINY, cutoffs="3,6").fit(texts())
    ranks = weights(model)["head.ranks"]
    counts = model.corpus.tokens().counts() if model.corpus else None
    assert counts is not None
    assert ranks.argmin() == counts.argmax()


def test_the_embedded_text_and_the_shakespeare_cut() -> None:
    model = gw.LanguageModel(**TINY)
    model.read(None)
    training, held = model._parts()
    assert len(training.spans) > 50 < 70
    assert held.ids[0] == held.end
    one = gw.LanguageModel(**TINY)
    one.read([LINE * 100])
    training, held = one._parts()
    assert (len(training), len(held)) == (2161, 240)


def test_a_validation_text_is_used_and_kept(tmp_path: Path) -> None:
    model = gw.LanguageModel(**TINY).fit(texts(), validation=["the mat sat on the cat. "], directory=tmp_path / "m")
    assert len(model._parts()[1]) == 25
    again = gw.LanguageModel.load(tmp_path / "m")
    assert again.score() == model.scores
    assert len(again._parts()[0]) == sum(map(len, texts())) + 40
    again.save(tmp_path / "copy")
    assert gw.LanguageModel.load(tmp_path / "copy").score() == model.scores


def test_files_of_all_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINE * 20)
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write(LINE * 20)
    model = gw.LanguageModel(**TINY).fit([tmp_path / "a.txt", tmp_path / "b.txt.gz"])
    assert same(model, gw.LanguageModel(**TINY).fit(str(tmp_path)))
    assert model.score(str(tmp_path / "*.txt")) == model.score([LINE * 20])


def test_a_model_without_its_text_still_writes(tmp_path: Path, plain: gw.LanguageModel) -> None:
    plain.save(tmp_path / "m")
    for name in LARGE:
        (tmp_path / "m" / name).unlink(missing_ok=True)
    model = gw.LanguageModel.load(tmp_path / "m")
    assert model.generate("the ", 20) == plain.generate("the ", 20)
    with pytest.raises(InputError, match=r"tokens\.bin cannot be read"):
        model.score()


def test_a_damaged_store_is_noticed_when_it_is_read(tmp_path: Path, plain: gw.LanguageModel) -> None:
    plain.save(tmp_path / "m")
    path = tmp_path / "m" / TOKENS
    raw = path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    with pytest.raises(InputError, match=r"tokens\.bin is damaged"):
        gw.LanguageModel.load(tmp_path / "m").score()


def test_ctrl_c_while_text_is_cut_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Bytes, piece: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bytes, "encode_piece", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gw.LanguageModel(**TINY, tokenizer="byte").fit(texts(), directory=tmp_path / "m")
    assert not (tmp_path / "m").exists()
    gw.LanguageModel(**TINY, tokenizer="byte").fit(texts(), directory=tmp_path / "m")


def test_resume_takes_the_same_text_alone(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text(LINE * 40)
    model = gw.LanguageModel(**TINY).fit(str(file), directory=tmp_path / "m")
    moved = tmp_path / "moved.txt"
    file.rename(moved)
    assert same(gw.LanguageModel.resume(tmp_path / "m", str(moved)), model)
    moved.write_text(LINE * 41)
    with pytest.raises(InputError, match="data: differs"):
        gw.LanguageModel.resume(tmp_path / "m", str(moved))
    with pytest.raises(InputError, match="tokenizer: the run in"):
        gw.LanguageModel.resume(tmp_path / "m", tokenizer="byte")


@pytest.mark.parametrize("options", [{}, {"cutoffs": "3,8"}], ids=["full", "adaptive"])
def test_two_processes_have_the_losses_of_one(options: dict[str, Any]) -> None:
    """Each maps the file of tokens for itself; gradients are added in another order. Rare tokens are not in every share
    of a batch."""
    data = [*texts(), "zebra", *texts(9)]
    one, two = (gw.LanguageModel(**TINY, **options, devices=devices).fit(data) for devices in (1, 2))
    for a, b in zip(one.history.epochs, two.history.epochs, strict=True):
        assert (a.steps, a.size) == (b.steps, b.size)
        assert a.value == pytest.approx(b.value, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "data", "sentence"),
    [
        ({"tokenizer": "words"}, None, "tokenizer must be one of char, byte, bpe or the path of a tokenizer.json"),
        ({"tokenizer": "none.json"}, ["abc"], "none.json is no tokenizer.json that can be read"),
        ({"separator": ""}, None, "separator must be a text that is not empty, got ''"),
        ({"held_out": 0}, None, "held_out must be a number above 0 and below 1, got 0"),
        ({"cutoffs": "9,4"}, None, "cutoffs must be rising numbers from 1 on with commas, such as 2000,10000"),
        ({"cutoffs": "a"}, None, "cutoffs must be rising numbers"),
        ({"cutoffs": "3", "tied": True}, None, "tied and cutoffs do not go together"),
        ({"cutoffs": "999"}, ["abc" * 50], "stay below the number of tokens, 4, got"),
        ({}, [""], "data: the text is empty"),
        ({}, ["a"], "data: 2 tokens are too few to train on and to validate with"),
        ({}, 7, "data must be a path, a list of paths or a list of texts, got int"),
        ({"cell": "gru_d"}, None, "takes"),
    ],
)
def test_bad_input_gets_a_sentence(options: dict[str, Any], data: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        gw.LanguageModel(**{**TINY, **options}).fit(data, directory=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_unknown_characters_are_named(plain: gw.LanguageModel) -> None:
    for call in (plain.generate, plain.logprobs, plain.surprises, plain.predict, plain.likeliest):
        with pytest.raises(InputError, match=r"no character 'ß' \(U\+00DF\)"):
            call("the ß")
    with pytest.raises(InputError, match=r"text 1: .* has no characters 'É' \(U\+00C9\), '!'"):
        plain.score(["É!"])
    with pytest.raises(InputError, match="has no character 'Z'"):
        gw.LanguageModel(**TINY).fit(texts(), validation=["Z"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"length": 0}, "length must be an integer of at least 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"prompt": 7}, "prompt must be a text or a list of texts, got 7"),
        ({"stop": [""]}, "stop must hold texts that are not empty"),
        ({"temperature": -1}, "temperature must be a number of at least 0"),
        ({"heat": 1}, "generate has no option 'heat'; it has repetition_penalty, temperature"),
    ],
)
def test_bad_options_of_writing(plain: gw.LanguageModel, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        plain.generate(**arguments)


def test_what_is_not_fitted_says_so() -> None:
    for call in ("generate", "score", "surprises", "predict"):
        with pytest.raises(InputError, match="the language model is not fitted"):
            getattr(gw.LanguageModel(), call)("a")


def test_the_parts_that_a_study_asks_for(plain: gw.LanguageModel) -> None:
    labels, series = plain.positions("a t")
    assert (labels, series) == (["<end>", "a", "␣", "t"], None)
    plain.sample_pass()()
    bigger = plain.resized(gw.cells.lstm, 20)
    assert bigger.build()(next(plain.objective().batches(np.random.default_rng(0))))[0] > 0
    held = plain._parts()[1].spans[0]
    assert len(plain.positions()[0]) == min(language_model.READ, held[1] - held[0]) + 1


def test_text_read_once_may_come_from_a_source(plain: gw.LanguageModel) -> None:
    assert plain.score(sources(texts()[:3])) == plain.score(texts()[:3])
