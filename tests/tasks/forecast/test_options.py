"""Options of a forecaster: every value that makes no sense gets one sentence that names it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gatewise.tasks import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.table import Table

BAD: list[tuple[str, Any, str]] = [
    ("hidden_size", 0, "an integer of at least 1, got 0"),
    ("num_layers", None, "an integer of at least 1, got None"),
    ("level", 100, "numbers between 0 and 100, such as 80,95, got 100"),
    ("level", "high", "numbers between 0 and 100, such as 80,95, got 'high'"),
    ("level", [], "numbers between 0 and 100"),
    ("lags", [1.5], "whole numbers between"),
    ("lags", "0,12", "whole numbers between"),
    ("strategy", "both", "one of direct, recursive, steps, got 'both'"),
    ("test_size", 0, "an integer of at least 1, got 0"),
    ("hidden_size", 10**8, "at most 16384, got 100000000"),
    ("num_layers", 10**6, "at most 64, got 1000000"),
    ("epochs", 0, "an integer of at least 1, got 0"),
    ("horizon", True, "an integer of at least 1, got True"),
    ("season", 10**20, "at most 1000000"),
    ("seed", True, "an integer of at least 0, got True"),
    ("seed", 10**23, "at most 9223372036854775807"),
    ("label", 3, "a text or None, got 3"),
    ("dropout", "a", "a number of at least 0 and below 1, got 'a'"),
    ("dropout", math.nan, "got nan"),
    ("learning_rate", 0.0, "a number above 0 and at most 1, got 0.0"),
    ("learning_rate", math.inf, "got inf"),
    ("learning_rate", 1e30, "got 1e.30"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), BAD, ids=str)
def test_a_value_out_of_range_or_of_another_type_gets_a_sentence(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be .*{sentence}"):
        Forecaster(**{name: value})


def test_levels_and_lags_are_texts_or_lists() -> None:
    options = Forecaster(level=[95, 80.5], lags="24,1").options
    assert (options.level, options.levels) == ("80.5,95", [80.5, 95.0])
    assert (options.lags, options.repeats) == ("1,24", [1, 24])
    assert Forecaster(level=90).options.levels == [90.0]


def test_options_of_one_strategy_are_refused_by_the_other() -> None:
    with pytest.raises(InputError, match="level needs strategy 'direct', got 'steps'"):
        Forecaster(strategy="steps", level=80)
    with pytest.raises(InputError, match="batch_size needs strategy 'direct', got 'steps'"):
        Forecaster(strategy="steps", batch_size=8)
    with pytest.raises(InputError, match="test_size must be at least the horizon of 12, got 6"):
        Forecaster(horizon=12, test_size=6)


@pytest.mark.parametrize("strategy", ["direct", "recursive"])
def test_a_step_has_as_many_windows_as_are_asked_for(strategy: str) -> None:
    model = Forecaster(horizon=4, season=4, strategy=strategy, n_models=2, batch_size=5, max_steps=1)
    steps = np.arange(60)
    model.fit(Table({"a": (steps, steps % 4.0 + steps % 7)}, "y"))
    batch = next(model.objective().batches(np.random.default_rng(0)))
    assert batch.inputs.shape[:2] == (5, 2)


def test_a_network_beyond_all_memory_gets_a_sentence() -> None:
    with pytest.raises(InputError, match=r"hidden_size squared times num_layers must be at most .*got 16384 and 64"):
        Forecaster(hidden_size=1 << 14, num_layers=64)
