"""The exercises: their examples are what they say, a cell learns them, bad options get a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.tasks import InputError, load
from gatewise.tasks.exercises import Adding, Copy, Digits, Exercise, MackeyGlass
from gatewise.tasks.exercises.synthetic import mackey_glass

EVERY = (Adding, Copy, Digits, MackeyGlass)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_adding_marks_one_number_in_each_half() -> None:
    examples = Adding(span=20).training(200, generator())
    marks = examples.inputs[..., 1]
    assert bool((marks[:10].sum(0) == 1).all())
    assert bool((marks[10:].sum(0) == 1).all())
    assert torch.equal((examples.inputs[..., 0] * marks).sum(0), examples.targets[0, :, 0])


def test_copy_asks_for_what_was_said_first() -> None:
    examples = Copy(span=7).training(50, generator())
    assert examples.inputs.shape == (17, 50, 10)
    assert torch.equal(examples.inputs[:5].argmax(-1), examples.targets)
    assert bool((examples.inputs[12].argmax(-1) == 9).all())
    assert examples.inputs.sum(-1).eq(1).all()


def test_digits_are_the_whole_data_set_and_a_share_of_it() -> None:
    whole = [Digits().held_out(part).targets.shape[1] for part in ("training", "validation", "test")]
    assert sum(whole) == 1797
    few = Digits(share=0.01).training(500, generator())
    assert len({tuple(row) for row in few.inputs[..., 0].T.tolist()}) == 12
    rows, pixels = Digits(span=8).held_out("test").inputs, Digits().held_out("test").inputs
    assert torch.equal(rows.transpose(0, 1).flatten(1), pixels.transpose(0, 1).flatten(1))


def test_the_series_is_chaotic_about_a_period_and_windows_look_ahead() -> None:
    series = mackey_glass().astype(np.float64)
    assert abs(series.mean()) < 1e-6
    again, half = (float(np.corrcoef(series[:-lag], series[lag:])[0, 1]) for lag in (50, 25))
    assert half < -0.3 < 0.6 < again < 0.99  # a quasi-period of about 50, and chaos
    examples = MackeyGlass(span=9).training(20, generator())
    assert torch.equal(examples.inputs[29:], examples.targets[: 100 - 29])  # input at t is the answer of t - 9


@pytest.mark.parametrize("kind", EVERY)
def test_the_held_out_examples_are_the_same_for_every_seed(kind: type[Exercise]) -> None:
    first, second = kind(seed=0).held_out("test"), kind(seed=1, cell="lstm").held_out("test")
    assert torch.equal(first.inputs, second.inputs)
    assert not torch.equal(first.inputs[:, :100], kind().held_out("validation").inputs[:, :100])


@pytest.mark.parametrize(
    ("kind", "options", "share"),
    [
        (Adding, {"span": 8, "max_steps": 200, "learning_rate": 0.02}, 0.3),
        (Copy, {"span": 1, "max_steps": 150, "learning_rate": 0.02}, 0.8),
        (Digits, {"span": 8, "max_steps": 100, "learning_rate": 0.02}, 0.3),
        (MackeyGlass, {"max_steps": 60, "learning_rate": 0.02}, 0.3),
    ],
)
def test_a_cell_learns_it(kind: type[Exercise], options: dict[str, Any], share: float) -> None:
    exercise = kind(hidden_size=24, **options).fit()
    (own, naive) = (figures[kind.metric] for figures in exercise.scores.values())
    assert own < share * naive


def test_the_same_seed_gives_the_same_result_and_a_saved_run_loads(tmp_path: Path) -> None:
    options: dict[str, Any] = {"span": 6, "hidden_size": 4, "max_steps": 20, "share": 0.01, "clip_norm": None}
    one = Adding(cell="rnn", **options).fit(directory=tmp_path / "run")
    two = Adding(cell="rnn", **options).fit()
    assert one.scores == two.scores
    again = load(tmp_path / "run")
    assert again.score() == one.scores
    assert again.predict()["outputs"].shape == (1, 1000, 1)


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (Adding, {"span": 0}, "span must be an integer of at least 1"),
        (Adding, {"hidden_size": 2.5}, "hidden_size must be an integer"),
        (Adding, {"learning_rate": 0.0}, "learning_rate must be a number above 0"),
        (Adding, {"clip_norm": -1.0}, "clip_norm must be a number above 0, got"),
        (Adding, {"initialise": "zeros"}, "initialise must be one of torch"),
        (Adding, {"initialise": "q=1"}, "initialise names a gate 'q'; those of cell gru"),
        (Adding, {"initialise": "chrono", "cell": "rnn"}, "chrono needs a gate that keeps the state"),
        (Adding, {"cell": "gro"}, "cell must be one of gru"),
        (Adding, {"cell": "augru"}, "takes attention"),
        (Digits, {"span": 7}, "span must divide the 64 pixels"),
        (MackeyGlass, {"span": 401}, "span must be an integer of at most 400"),
    ],
)
def test_bad_options_get_a_sentence(kind: type[Exercise], options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        kind(**options).read(None)


def test_data_are_not_taken() -> None:
    with pytest.raises(InputError, match="makes its own examples"):
        Adding().fit("file.csv")


def test_training_stops_once_the_target_is_reached() -> None:
    whole = Adding(span=4, hidden_size=8, max_steps=200).fit()
    reached = [epoch.value for epoch in whole.history.epochs]
    target = reached[5]
    stopped = Adding(span=4, hidden_size=8, max_steps=200, target=target).fit()
    first = next(k for k, value in enumerate(reached) if value <= target)
    assert [epoch.value for epoch in stopped.history.epochs] == reached[: first + 1]
    assert stopped.history.steps < whole.history.steps


def test_a_target_is_a_number_above_zero() -> None:
    with pytest.raises(InputError, match="target must be a number above 0, got 0"):
        Adding(target=0)
