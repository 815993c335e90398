"""Drawing tokens: each option leaves the tokens it says, with the probabilities it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.language.sampling import Sampler, Sampling

LIKELY = np.array([0.05, 0.4, 0.1, 0.3, 0.15])
LOGITS = np.log(LIKELY).astype(np.float32) + 3


def drawn(how: Sampling, logits: np.ndarray[Any, Any] = LOGITS, count: int = 4000) -> np.ndarray[Any, Any]:
    sampler = Sampler(how, 0, [], 0, len(logits))
    return np.bincount([sampler(logits) for _ in range(count)], minlength=len(logits)) / count


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        (Sampling(), [0, 1, 2, 3, 4]),
        (Sampling(top_k=2), [1, 3]),
        (Sampling(top_k=9), [0, 1, 2, 3, 4]),
        (Sampling(top_p=0.6), [1, 3]),
        (Sampling(top_p=0.75), [1, 3, 4]),
        (Sampling(top_p=0.3), [1]),
        (Sampling(min_p=0.3), [1, 3, 4]),
        (Sampling(min_p=1.0), [1]),
        (Sampling(top_k=3, top_p=0.8), [1, 3]),  # of the three, which are 0.85 together, 0.8 are 0.68
        (Sampling(top_p=0.9, min_p=0.5), [1, 3]),
    ],
)
def test_tokens_come_as_often_as_they_should(how: Sampling, kept: list[int]) -> None:
    expected = np.zeros(5)
    expected[kept] = LIKELY[kept] / LIKELY[kept].sum()
    found = drawn(how)
    assert found == pytest.approx(expected, abs=0.03)
    assert np.flatnonzero(found).tolist() == kept


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_is_a_power(temperature: float) -> None:
    expected = LIKELY ** (1 / temperature)
    assert drawn(Sampling(temperature=temperature)) == pytest.approx(expected / expected.sum(), abs=0.03)


def test_temperature_zero_takes_the_likeliest() -> None:
    assert drawn(Sampling(temperature=0), count=20).tolist() == [0, 1, 0, 0, 0]


def test_equally_likely_tokens_beyond_k_are_left_out() -> None:
    found = drawn(Sampling(top_k=2), np.zeros(5, np.float32))
    assert found == pytest.approx([0.5, 0.5, 0, 0, 0], abs=0.03)


def test_a_penalty_makes_what_occurred_less_likely() -> None:
    logits = np.array([2.0, 1.5, -1.0], np.float32)
    sampler = Sampler(Sampling(repetition_penalty=2.0, temperature=0), 0, [0], 0, 3)
    assert [sampler(logits) for _ in range(2)] == [1, 0]  # 2 → 1 from the prompt, then 1.5 → 0.75
    sampler = Sampler(Sampling(repetition_penalty=2.0, temperature=0), 0, [2], 0, 3)
    assert sampler(np.array([-1.5, -3.0, -1.0], np.float32)) == 0
    assert logits.tolist() == [2.0, 1.5, -1.0]


def test_random_numbers_depend_on_seed_prompt_and_repetition() -> None:
    def first(*given: Any) -> list[int]:
        sampler = Sampler(Sampling(), *given, 5)
        return [sampler(LOGITS) for _ in range(40)]

    assert first(1, [2], 0) == first(1, [2], 0)
    assert len({tuple(first(*given)) for given in ((1, [2], 0), (2, [2], 0), (1, [3], 0), (1, [2], 1))}) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_k", 0),
        ("top_k", 1.5),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -1),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("repetition_penalty", True),
    ],
)
def test_what_is_out_of_range_gets_a_sentence(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{name} must be .*, got {value!r}"):
        Sampling(**{name: value})
