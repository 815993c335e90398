"""The training loop: schedule, early stopping, the best weights, interruption and resuming to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import CHECKPOINT, WEIGHTS, read_tensors, write_tensors
from gatewise.tasks.loop import Loop
from gatewise.tasks.together import alone
from gatewise.tasks.training import PRECISIONS, History, Machines, Objective, Schedule, train

SCHEDULE = Schedule(epochs=6, steps_per_epoch=5, learning_rate=0.05, patience=6)


class Line(Objective):
    """Fit a line with dropout, so that torch's random numbers matter; can raise at a step."""

    metric = "error"

    def __init__(self, interrupt_at: int | None = None, values: list[float] | None = None) -> None:
        torch.manual_seed(3)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.interrupt_at, self.values, self.steps = interrupt_at, values, 0
        self.seen: list[list[Tensor]] = []

    def batches(self, generator: np.random.Generator) -> Iterator[Tensor]:
        while True:
            yield torch.from_numpy(generator.normal(size=(16, 4))).float()

    def loss(self, forward: Callable[..., Tensor], batch: Tensor) -> Tensor:
        self.steps += 1
        if self.steps == self.interrupt_at:
            raise KeyboardInterrupt
        return ((forward(batch) - batch.sum(-1, keepdim=True)) ** 2).mean()

    def size(self, batch: Tensor) -> int:
        return len(batch)

    def share(self, batch: Tensor, rank: int, world: int) -> Tensor:
        return batch[rank::world]

    def validate(self) -> float:
        if self.values is not None:
            return self.values.pop(0)
        x = torch.linspace(-1, 1, 40).reshape(10, 4)
        return float(((self.module(x) - x.sum(-1, keepdim=True)) ** 2).mean())


def weights(line: Line) -> list[Tensor]:
    return [p.detach().clone() for p in line.module.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def figures(history: History) -> list[tuple[int, int, float, float]]:
    return [(e.epoch, e.steps, e.loss, e.value) for e in history.epochs]


def test_training_improves_and_the_schedule_ends_it() -> None:
    line = Line()
    history = train(line, SCHEDULE, seed=0)
    assert history.finished
    assert history.steps == 30
    assert history.epochs[-1].value < 0.8 * history.epochs[0].value


def test_max_steps_cut_the_last_epoch_short() -> None:
    schedule = Schedule(epochs=6, steps_per_epoch=5, learning_rate=0.05, patience=6, max_steps=12)
    assert [e.steps for e in train(Line(), schedule, seed=0).epochs] == [5, 5, 2]
    assert schedule.rate(11) < 0.1 * schedule.learning_rate


def test_stops_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    line = Line(values=[3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    schedule = Schedule(epochs=6, steps_per_epoch=5, learning_rate=0.05, patience=2)
    history = train(line, schedule, seed=0, folder=tmp_path)
    assert len(history.epochs) == 4
    assert history.best.epoch == 2
    saved, _ = read_tensors(tmp_path / WEIGHTS)
    assert same(weights(line), [saved[name] for name, _ in line.module.named_parameters()])


LAST = Schedule(epochs=4, steps_per_epoch=5, learning_rate=0.05, patience=4, average=0.9, keep_last=True)


def test_the_last_weights_are_kept_where_all_planned_steps_were_taken(tmp_path: Path) -> None:
    """As averaged, in the module and in the folder; also where a crash came between the last epoch and the end."""
    line = Line(values=[3.0, 1.0, 2.0, 2.5])
    history = train(line, LAST, seed=0, folder=tmp_path)
    assert (history.best.epoch, history.kept.epoch) == (2, 4)
    saved, _ = read_tensors(tmp_path / CHECKPOINT)
    assert same(weights(line), [saved[f"average.{k}"] for k in range(4)])
    best = Line(values=[3.0, 1.0, 2.0, 2.5])
    assert train(best, replace(LAST, keep_last=False), seed=0).kept.epoch == 2
    assert not same(weights(line), weights(best))
    write_tensors(tmp_path / WEIGHTS, best.module.state_dict())
    again = Line()
    assert train(again, LAST, seed=0, folder=tmp_path, resume=True).kept.epoch == 4
    saved, _ = read_tensors(tmp_path / WEIGHTS)
    for found in (weights(again), [saved[name] for name, _ in line.module.named_parameters()]):
        assert same(found, weights(line))


@pytest.mark.parametrize("ends", ["patience", "Ctrl-C"])
def test_a_training_that_ends_early_keeps_the_best_weights_all_the_same(tmp_path: Path, ends: str) -> None:
    stopped = ends == "Ctrl-C"
    line, short = Line(16 if stopped else None, [3.0, 1.0, 2.0]), Line(values=[3.0, 1.0])
    schedule = LAST if stopped else replace(LAST, patience=1)
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        assert train(line, schedule, seed=0, folder=tmp_path).kept.epoch == 2
    with pytest.raises(IndexError):  # of the values: the weights after two epochs
        train(short, LAST, seed=0)
    assert same(weights(line), weights(short))


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    lines = [Line(), Line(), Line()]
    histories = [train(line, SCHEDULE, seed) for line, seed in zip(lines, (1, 1, 2), strict=True)]
    assert figures(histories[0]) == figures(histories[1])
    assert same(weights(lines[0]), weights(lines[1]))
    assert not same(weights(lines[0]), weights(lines[2]))


@pytest.mark.parametrize("step", [1, 5, 6, 13, 30])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, step: int) -> None:
    whole = Line()
    expected = train(whole, SCHEDULE, seed=1)
    with pytest.raises(KeyboardInterrupt):
        train(Line(interrupt_at=step), SCHEDULE, seed=1, folder=tmp_path)
    resumed = Line()
    history = train(resumed, SCHEDULE, seed=1, folder=tmp_path, resume=True)
    assert figures(history) == figures(expected)
    assert same(weights(resumed), weights(whole))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_large_module_in_either_precision_is_resumed_to_the_bit(
    tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large modules are trained by the optimiser's fused form."""
    monkeypatch.setattr("gatewise.tasks.loop.FUSED", 1)
    whole, resumed = Line(), Line()
    expected = train(whole, SCHEDULE, seed=1, machines=Machines(precision))
    with pytest.raises(KeyboardInterrupt):
        train(Line(interrupt_at=13), SCHEDULE, seed=1, folder=tmp_path, machines=Machines(precision))
    history = train(resumed, SCHEDULE, seed=1, folder=tmp_path, resume=True, machines=Machines(precision))
    assert figures(history) == figures(expected)
    assert same(weights(resumed), weights(whole))


def test_mixed_precision_learns_with_weights_in_float32() -> None:
    plain, mixed = Line(), Line()
    expected = train(plain, SCHEDULE, seed=1)
    history = train(mixed, SCHEDULE, seed=1, machines=Machines("bf16-mixed"))
    assert all(p.dtype == torch.float32 for p in weights(mixed))
    assert history.epochs[0].loss != expected.epochs[0].loss
    assert history.epochs[-1].value == pytest.approx(expected.epochs[-1].value, rel=0.05)


def test_the_mean_of_the_weights_is_taken_back_also_when_a_validation_is_interrupted() -> None:
    class Interrupted(Line):
        def validate(self) -> float:
            self.seen.append(weights(self))
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return 1.0

    schedule = Schedule(epochs=6, steps_per_epoch=5, learning_rate=0.05, patience=6, average=0.9)
    line = Interrupted()
    with alone(Machines()) as together:
        loop = Loop(together, line, schedule, 0, None, None)
        loop.run_epoch()
        with pytest.raises(KeyboardInterrupt):
            loop.run_epoch()
    assert same(line.seen[1], loop.average)
    assert not same(weights(line), loop.average)


def test_an_interrupted_training_leaves_the_best_weights_in_the_module() -> None:
    values = [3.0, 1.0, 2.0]
    interrupted, shorter = Line(interrupt_at=13, values=list(values)), Line(values=list(values))
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, SCHEDULE, seed=1)
    train(shorter, Schedule(6, 5, 0.05, patience=1), seed=1)
    assert same(weights(interrupted), weights(shorter))


def test_the_global_random_state_stays() -> None:
    line = Line()
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    train(line, SCHEDULE, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_a_foreign_checkpoint_gets_a_sentence(tmp_path: Path) -> None:
    write_tensors(tmp_path / "checkpoint.safetensors", {"a": torch.zeros(1)}, {"history": "[]"})
    with pytest.raises(InputError, match="is foreign"):
        train(Line(), SCHEDULE, seed=0, folder=tmp_path, resume=True)


def test_not_a_number_stops_training_with_a_sentence() -> None:
    with pytest.raises(InputError, match="broke down in epoch 1"):
        train(Line(values=[float("nan")]), SCHEDULE, seed=0)


@pytest.mark.parametrize(("gradient", "sentence"), [(False, "the loss is inf"), (True, "a gradient is not finite")])
def test_a_diverging_training_gets_a_sentence(gradient: bool, sentence: str) -> None:
    class Diverging(Line):
        def loss(self, forward: Callable[..., Tensor], batch: Tensor) -> Tensor:
            output = forward(batch)
            return (0 * output).sqrt().sum() if gradient else output.abs().sum() + torch.inf

    with pytest.raises(InputError, match=f"training diverged in step 1: {sentence}"):
        train(Diverging(), SCHEDULE, seed=0)
