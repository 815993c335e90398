"""What people and machines are told of a training."""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tasks.test_training import Line

from gatewise.tasks.errors import InputError
from gatewise.tasks.history import History
from gatewise.tasks.logs import Events, Several, TensorBoard
from gatewise.tasks.progress import Clock, Progress, duration
from gatewise.tasks.training import Schedule, train

SCHEDULE = Schedule(epochs=20, steps_per_epoch=5, learning_rate=0.05, patience=20)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_log_gets_a_line_for_every_tenth_of_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    line = Line()
    line.note = "a note"
    history = train(line, SCHEDULE, 0, report=Progress)
    lines = lines_of(capsys)
    assert lines[1::2] == ["a note"] * 10
    assert [text.partition("  ")[0] for text in lines[::2]] == [f"step {10 * k}/100" for k in range(1, 11)]
    best = history.best
    figures = f"validation error {history.epochs[-1].value:.3f} (best {best.value:.3f}, epoch {best.epoch})"
    assert lines[-2].startswith(f"step 100/100  loss {history.epochs[-1].loss:.4f}  {figures}  ")
    assert lines[-2].endswith(" rows/s  0 s left")


def test_a_log_is_never_silent_for_long(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in a long epoch nor in a long validation; what is written before shows in the lines themselves."""

    class Slow(Line):
        def batches(self, generator: Any) -> Any:
            for k, batch in enumerate(super().batches(generator)):
                if k == 3:
                    wait_for("step 3/10")
                yield batch

        def validate(self) -> float:
            wait_for("no step for ")
            return super().validate()

    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        deadline, seen = time.monotonic() + 60, ""
        while text not in seen:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            seen += capsys.readouterr().err

    train(Slow(), Schedule(1, 10, 0.05, 1), 0, report=partial(Progress, silence=0.05))
    assert "(a validation, or a long step)" in seen
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_the_thread_of_a_log_ends_with_a_training_that_is_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Line(interrupt_at=3), SCHEDULE, 0, report=Progress)
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    line = Line()
    line.note = "a note"
    train(line, SCHEDULE, 0, report=Progress, title="lines")
    _, err = capsys.readouterr()
    assert "lines" in err
    assert "100/100" in err
    assert err.count("a note") == 20


def test_the_time_left_is_that_of_the_steps_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("gatewise.tasks.progress.time.monotonic", lambda: now[0])
    clock = Clock(100)
    assert clock.left() is None
    clock.step(51)  # the first after the checkpoint of step 50
    now[0] += 10
    clock.step(60)
    assert clock.left() == pytest.approx(40)
    now[0] += 5  # a validation
    assert clock.left() == pytest.approx(60)
    assert clock.idle() == pytest.approx(5)
    assert [duration(s) for s in (3.4, 99, 130, 5000, 7000)] == ["3 s", "99 s", "2 min", "83 min", "1 h 57 min"]


def test_events_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    history = train(Line(), SCHEDULE, 0, report=partial(Events, pause=0.0), title="lines")
    events = [json.loads(text) for text in lines_of(capsys)]
    assert events[0] == {"event": "start", "title": "lines", "total": 100, "metric": "error", "unit": "rows"}
    assert [e["step"] for e in events if e["event"] == "step"] == list(range(1, 101))
    epochs = [e for e in events if e["event"] == "epoch"]
    assert [(e["loss"], e["value"]) for e in epochs] == [(e.loss, e.value) for e in history.epochs]
    assert epochs[-1]["best_epoch"] == history.best.epoch
    assert events[-1] == {"event": "end", "steps": 100, "error": None}


def test_events_say_how_a_training_ended_and_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Line(interrupt_at=8), SCHEDULE, 0, report=partial(Events, pause=1e9))
    events = [json.loads(text) for text in lines_of(capsys)]
    assert [e["event"] for e in events] == ["start", "step", "epoch", "end"]
    assert events[-1] == {"event": "end", "steps": 7, "error": "KeyboardInterrupt"}


def test_several_reporters_are_told_in_turn_and_all_end(capsys: pytest.CaptureFixture[str]) -> None:
    train(Line(), SCHEDULE, 0, report=Several((Progress, partial(Events, pause=1e9))))
    lines = lines_of(capsys)
    assert lines[0].startswith('{"event": "start"')
    assert lines[-1].startswith('{"event": "end"')
    assert sum(text.startswith("step ") for text in lines) == 10


def test_the_table_of_the_epochs_grows_and_is_gone_on_with(tmp_path: Path) -> None:
    def rows() -> list[dict[str, str]]:
        return list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))

    with pytest.raises(KeyboardInterrupt):
        train(Line(interrupt_at=13), SCHEDULE, 1, folder=tmp_path)
    assert [row["epoch"] for row in rows()] == ["1", "2"]
    before = rows()
    history = train(Line(), SCHEDULE, 1, folder=tmp_path, resume=True)
    assert rows()[:2] == before
    assert [float(row["value"]) for row in rows()] == [e.value for e in history.epochs]
    assert [float(row["learning_rate"]) for row in rows()] == [SCHEDULE.rate(5 * k - 1) for k in range(1, 21)]
    assert list(rows()[0]) == ["epoch", "steps", "loss", "value", "seconds", "size", "learning_rate"]


def test_tensorboard_gets_what_a_run_and_its_resumption_saw(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report = partial(TensorBoard, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(Line(interrupt_at=13), SCHEDULE, 1, folder=tmp_path, report=report)
    history = train(Line(), SCHEDULE, 1, folder=tmp_path, report=report, resume=True)
    held = EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0})
    held.Reload()
    assert [e.step for e in held.Scalars("training/loss")] == list(range(1, 101))
    found = held.Scalars("validation/error")
    assert [e.step for e in found] == list(range(5, 101, 5))
    assert [e.value for e in found] == pytest.approx([e.value for e in history.epochs])


def test_tensorboard_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match=r"tensorboard is not installed; pip install 'gatewise\[tensorboard\]'"):
        TensorBoard("", 1, "", "", folder=tmp_path)


def test_a_history_is_a_table() -> None:
    history = History.read('[{"epoch": 1, "steps": 3, "loss": 0.5, "value": 2.0, "seconds": 0.25, "size": 9}]', False)
    table = "epoch,steps,loss,value,seconds,size,learning_rate\n1,3,0.5,2.0,0.25,9,2.0\n"
    assert history.table(lambda step: float(step)) == table
