"""State that steps hand on: gradients are cut, epochs start anew, resuming is exact, rows start anew by ``reset``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gatewise as gw
from gatewise.tasks.objective import CarriedObjective, Objective, Schedule, mapped, own_rows
from gatewise.tasks.training import train

SCHEDULE = Schedule(epochs=3, steps_per_epoch=4, learning_rate=0.02, patience=3)
ROWS, STEPS = 3, 5


class Stream(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = gw.LSTM(2, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor, state: Any = None, reset: Tensor | None = None) -> tuple[Tensor, Any]:
        y, state = self.layer(x, state, reset=reset)
        return self.head(y), state


class Running(CarriedObjective):
    """The mean of all inputs since the row's sequence began, over pieces of rows that go on and on."""

    metric = "error"

    def __init__(self, interrupt_at: int | None = None) -> None:
        torch.manual_seed(4)
        self.module = Stream()
        self.interrupt_at, self.steps = interrupt_at, 0
        self.states: list[Any] = []

    def batches(self, generator: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            x = torch.from_numpy(generator.normal(size=(STEPS, ROWS, 2))).float()
            yield x, torch.from_numpy(generator.random((STEPS, ROWS)) < 0.1)

    def carried_loss(self, forward: Callable[..., Any], batch: tuple[Tensor, Tensor], state: Any) -> tuple[Tensor, Any]:
        self.steps += 1
        if self.steps == self.interrupt_at:
            raise KeyboardInterrupt
        self.states.append(state)
        x, reset = batch
        output, state = forward(x, state, reset)
        return ((output - x.mean(-1, keepdim=True)) ** 2).mean(), state

    def validate(self) -> float:
        x = torch.linspace(-1, 1, 24).reshape(6, 2, 2)
        return float(self.loss(self.module, (x, torch.zeros(6, 2, dtype=torch.bool))))

    def size(self, batch: tuple[Tensor, Tensor]) -> int:
        return STEPS * ROWS

    def share(self, batch: tuple[Tensor, Tensor], rank: int, world: int) -> tuple[Tensor, Tensor]:
        own = own_rows(ROWS, rank, world)
        return batch[0][:, own], batch[1][:, own]


def test_the_state_is_none_when_an_epoch_begins_and_elsewhere_what_the_step_before_left_without_gradient() -> None:
    running = Running()
    train(running, SCHEDULE, seed=0)
    states = running.states
    trained = [state for state in states[:12] if state is not None]
    assert [state is None for state in states[:5]] == [True, False, False, False, True]
    assert all(not tensor.requires_grad for state in trained for tensor in state)
    assert all(tuple(tensor.shape) == (1, ROWS, 6) for state in trained for tensor in state)


def test_a_carried_training_is_resumed_to_the_bit(tmp_path: Path) -> None:
    whole, resumed = Running(), Running()
    expected = train(whole, SCHEDULE, seed=1)
    with pytest.raises(KeyboardInterrupt):
        train(Running(interrupt_at=8), SCHEDULE, seed=1, folder=tmp_path)
    history = train(resumed, SCHEDULE, seed=1, folder=tmp_path, resume=True)
    assert [(e.loss, e.value) for e in history.epochs] == [(e.loss, e.value) for e in expected.epochs]
    for one, other in zip(resumed.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_pieces_give_the_losses_and_states_of_the_whole_with_rows_that_start_anew() -> None:
    running = Running()
    batches = [batch for batch, _ in zip(running.batches(np.random.default_rng(2)), range(6), strict=False)]
    assert torch.cat([reset for _, reset in batches])[1:].any(), "rows start anew within and between pieces"
    state, losses = None, []
    with torch.no_grad():
        for batch in batches:
            loss, state = running.carried_loss(running.module, batch, state)
            losses.append(float(loss))
        x, reset = (torch.cat(parts) for parts in zip(*batches, strict=True))
        loss, final = running.carried_loss(running.module, (x, reset), None)
        row, start = 1, int(reset[:, 1].nonzero()[-1])
        _, alone = running.module(x[start:, row : row + 1])
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(state, final, strict=True))
    assert all(torch.equal(a[:, row : row + 1], b) for a, b in zip(state, alone, strict=True))


class Pair(NamedTuple):
    one: Tensor
    other: Any


def test_every_tensor_of_a_structure_is_changed() -> None:
    one, two = torch.ones(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    tree = Pair(one, {"a": [two, None, 3], "b": SCHEDULE})
    cut = mapped(Tensor.detach, tree)
    assert isinstance(cut, Pair)
    assert not cut.one.requires_grad
    assert not cut.other["a"][0].requires_grad
    assert cut.other["a"][1:] == [None, 3]
    assert cut.other["b"] == SCHEDULE


@pytest.mark.parametrize(("count", "world"), [(7, 2), (2, 2), (1, 2), (2, 5), (5, 3)])
def test_no_process_is_without_rows_and_every_row_is_taken(count: int, world: int) -> None:
    shares = [list(range(count))[own_rows(count, rank, world)] for rank in range(world)]
    assert all(shares)
    assert {row for share in shares for row in share} == set(range(count))
    if count >= world:
        assert sorted(row for share in shares for row in share) == list(range(count))


def test_an_objective_without_state_gets_none() -> None:
    class Plain(Objective):
        metric = "error"

        def batches(self, generator: np.random.Generator) -> Iterator[Any]:
            yield None

        def loss(self, forward: Callable[..., Any], batch: Any) -> Tensor:
            return torch.zeros(())

        def validate(self) -> float:
            return 0.0

        def size(self, batch: Any) -> int:
            return 1

        def share(self, batch: Any, rank: int, world: int) -> Any:
            return batch

    assert Plain().carried_loss(lambda: None, None, None)[1] is None
