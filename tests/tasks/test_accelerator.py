"""Training on a card is one option of every task: a sentence where there is none, else the results of the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gatewise.tasks.base import Task
from gatewise.tasks.exercises import Adding
from gatewise.tasks.registry import names
from gatewise.tasks.translate.translator import Translator

without = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
with_one = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
PAIRS = [
    (f"the {noun} is {kind}", f"{noun} {kind} {noun}") for noun in ("sea", "sun", "car") for kind in ("red", "old")
]


@without
@pytest.mark.parametrize("task", names())
def test_without_a_card_every_fit_says_so_and_writes_nothing(
    task: str, run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("fit", task, "-o", "m", "--accelerator", "cuda")
    assert (code, out) == (2, "")
    assert err.splitlines() == ["gatewise: accelerator: torch finds no CUDA device here, got 'cuda'"]
    assert not any(tmp_path.iterdir())


@without
def test_auto_trains_on_the_processor_where_there_is_no_card() -> None:
    found = [Adding(span=6, max_steps=4, accelerator=where).fit().history.epochs for where in ("auto", "cpu")]
    assert [epoch.loss for epoch in found[0]] == [epoch.loss for epoch in found[1]]


@pytest.mark.cuda
@with_one
@pytest.mark.parametrize(
    ("kind", "options", "data"),
    [(Adding, {"span": 8}, None), (Translator, {"hidden_size": 16, "cell": "gru_reset_after"}, PAIRS * 20)],
)
def test_a_card_gives_the_results_of_the_processor(kind: type[Task], options: dict[str, Any], data: Any) -> None:
    cpu, cuda = (kind(**options, max_steps=20, accelerator=where) for where in ("cpu", "cuda"))
    found = [[e.loss for e in task.fit(data).history.epochs] for task in (cpu, cuda)]
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(found[1]), rtol=2e-2, atol=2e-2)
