"""Two processes on a host, started here or by torchrun: the losses of one, one writer, and what is said and kept when
one of them ends."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tasks.trained import ROWS, SCHEDULE, Sums, digest, figures

from gatewise.tasks.errors import InputError
from gatewise.tasks.history import History
from gatewise.tasks.machines import Machines
from gatewise.tasks.training import train

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
TWO = Machines(devices=2)
LOST = "refused: another process of this training ended, or its host cannot be reached any more"
SCRIPT = Path(__file__).with_name("trained.py")
Outcome = tuple[list[list[float]], str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Figures and weights of a training in two processes."""
    sums, folder = Sums(), tmp_path_factory.mktemp("two")
    found = figures(train(sums, SCHEDULE, 1, folder, machines=TWO))
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [line[2] for line in found]
    return found, digest(sums.module)


def test_two_processes_have_the_losses_of_one(undisturbed: Outcome) -> None:
    """Of equal shares the mean of the means is the mean; sums are taken in another order."""
    alone = figures(train(Sums(), SCHEDULE, 1))
    torch.testing.assert_close(torch.tensor(undisturbed[0]), torch.tensor(alone), rtol=1e-4, atol=1e-5)
    assert [line[4] for line in alone] == [ROWS * 5] * 4


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_the_other_and_the_run_is_resumed(
    rank: int, tmp_path: Path, undisturbed: Outcome
) -> None:
    with pytest.raises(InputError, match=rf"^process {rank + 1} of 2 of the training was ended by SIGKILL$"):
        train(Sums(end=(rank, 8)), SCHEDULE, 1, tmp_path, machines=TWO)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1"], "what was lost is less than an epoch"
    resumed = Sums()
    history = train(resumed, SCHEDULE, 1, tmp_path, resume=True, machines=TWO)
    assert (figures(history), digest(resumed.module)) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_process_raises_is_what_is_said(rank: int) -> None:
    with pytest.raises(InputError, match=r"^training diverged in step 3: the loss is inf;"):
        train(Sums(end=(rank, 3), how="diverge"), SCHEDULE, 1, machines=TWO)
    with pytest.raises(RuntimeError, match=r"(?s)a process of the training raised.*ZeroDivisionError: in one process"):
        train(Sums(end=(rank, 3), how="fault"), SCHEDULE, 1, machines=TWO)


def launch(out: Path, **asked: Any) -> tuple[int, str]:
    """Two processes by torchrun: its exit code, and standard error."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    asked["out"] = str(out)
    done = subprocess.run([*command, json.dumps(asked)], capture_output=True, text=True, env=environment, timeout=200)
    return done.returncode, done.stderr


def test_a_process_of_torchrun_is_killed_and_the_run_resumed(tmp_path: Path, undisturbed: Outcome) -> None:
    run = tmp_path / "run"
    run.mkdir()
    code, printed = launch(tmp_path, folder=str(run), end=[1, 8])
    assert code != 0
    assert LOST in printed.splitlines()
    assert 'trained.py", line' not in printed, "no traceback of ours"
    code, printed = launch(tmp_path, folder=str(run), resume=True)
    assert code == 0, printed
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert (found["figures"], found["weights"]) == undisturbed
        assert found["first"] == (rank == 0)


def test_the_first_process_alone_reports(tmp_path: Path) -> None:
    """In a file, since it is another process than this one."""
    log = tmp_path / "log"
    train(Sums(), SCHEDULE, 1, machines=TWO, report=Note(log))
    assert log.read_text().splitlines() == ["sums 20", *[f"epoch {number}" for number in range(1, 5)]]


class Note:
    """A reporter that writes epochs into a file."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __call__(self, title: str, total: int, metric: str, unit: str) -> Note:
        self._write(f"sums {total}")
        return self

    def __enter__(self) -> Note:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, step: int, loss: float, per_second: float) -> None: ...

    def epoch(self, history: History, note: str) -> None:
        self._write(f"epoch {len(history.epochs)}")

    def _write(self, line: str) -> None:
        with self.log.open("a") as file:
            print(line, file=file)
