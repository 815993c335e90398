"""Whatever befalls a training, what it reached stays, is said in one sentence, and is gone on with to the bits of an
undisturbed run: a full disk and a kill at every write, two processes, a directory that vanishes; for every task."""

from __future__ import annotations

import csv
import errno
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning_fabric  # noqa: F401 (imported once, not in every forked process)
import pytest
import torch
from data.make import pairs, table
from tasks.forked import REFUSED, Forked, Writes
from tasks.transcribe.conftest import sentences, written

from gatewise.tasks import TASKS, InputError, Task, load, task_named

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

EXERCISE = {"span": 4, "hidden_size": 4, "max_steps": 2}
WORDS = {"hidden_size": 8, "embedding_size": 8, "vocabulary": "words", "joint": False, "average": 0.9}
LETTERS = {"hidden_size": 4, "embedding_size": 4, "batch_size": 2, "sequence_length": 8}
SPEECH = {"hidden_size": 4, "num_layers": 1, "batch_seconds": 4.0, "speeds": "1", "max_steps": 26}
SOUNDS = tempfile.TemporaryDirectory(prefix="gatewise-tests-", ignore_cleanup_errors=True)
TINY: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "forecast": ({"horizon": 4, "hidden_size": 4, "max_steps": 26}, table),
    "translate": ({**WORDS, "batch_size": 16, "epochs": 2}, lambda: pairs(40)),
    "language": ({**LETTERS, "epochs": 2}, lambda: ["abc abd. " * 9, "bad cab. " * 9, "dab abc. " * 9]),
    "transcribe": (SPEECH, lambda: written(Path(SOUNDS.name), sentences(6))),
    "adding": (EXERCISE, lambda: None),
    "copy": (EXERCISE, lambda: None),
    "digits": (EXERCISE, lambda: None),
    "mackey_glass": (EXERCISE, lambda: None),
}
"""For every task, options and data of a training of two epochs in a tenth of a second."""
QUICK = "adding"
"""The task for which every write is tried; for the others this is slow."""
EACH = [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in TASKS]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the forked processes, so that torch's products have their bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def data(name: str) -> Any:
    return TINY[name][1]()


def fit(name: str, folder: Path, **how: Any) -> Task:
    kind: Any = task_named(name)
    fitted: Task = kind(**TINY[name][0]).fit(data(name), directory=folder, **how)
    return fitted


def found(folder: Path) -> dict[str, Any]:
    """All that a run's directory holds, but the seconds that its epochs took."""
    held: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    metrics = json.loads(held.pop("metrics.json"))
    for epoch in metrics["history"]:
        del epoch["seconds"]
    rows = [dict(row, seconds="") for row in csv.DictReader(held.pop("metrics.csv").decode().splitlines())]
    return {**held, "metrics": metrics, "rows": rows}


class Calling:
    """A reporter that calls a function with the number of epochs when one is finished and its checkpoint written."""

    def __init__(self, at: Callable[[int], None]) -> None:
        self.at = at

    def __call__(self, title: str, total: int, metric: str, unit: str) -> Calling:
        return self

    def __enter__(self) -> Calling:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, step: int, loss: float, per_second: float) -> None: ...

    def epoch(self, history: Any, note: str) -> None:
        self.at(len(history.epochs))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What the run of a task leaves; here its kernels are compiled, so that forked processes have them."""

    @functools.cache
    def run(name: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("whole") / "run"
        assert len(fit(name, folder).history.epochs) == 2
        return found(folder)

    return run


def go_on(name: str, folder: Path) -> None:
    """What a user does next: resume where there is a run, else fit again."""
    if (folder / "config.json").exists():
        task_named(name).resume(folder)
    else:
        fit(name, folder)


def failing_from(count: int, writes: Writes) -> list[str]:
    """From the n-th write on the disk is full. Returns a list of the writes so far, which grows."""
    seen: list[str] = []

    def before(event: str, path: Path) -> None:
        if event in ("open", "os.rename", "os.mkdir"):
            seen.append(event)
            if len(seen) >= count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writes.before = before
    return seen


def test_every_task_is_tried() -> None:
    assert TINY.keys() == TASKS.keys()


@pytest.mark.parametrize("name", EACH)
def test_a_full_disk_keeps_the_last_checkpoint_and_is_said(
    name: str, tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    expected = undisturbed(name)

    def every_write() -> None:
        writes, count = Writes(tmp_path), 0
        while True:
            count += 1
            folder = tmp_path / str(count) / "run"
            seen = failing_from(count, writes)
            try:
                fit(name, folder)
            except InputError as error:
                sentence = str(error)
            else:
                break
            finally:
                writes.rest()
            assert len(seen) == count, "what failed is not tried again"
            assert "cannot be written: the disk is full" in sentence
            held = {path.name for path in folder.iterdir()} if folder.exists() else set()
            if "model.safetensors" in held:
                assert sentence.endswith(f"{folder} keeps the best model so far")
                assert not {entry for entry in held if entry.startswith(".")}
                load(folder)
            else:
                assert not folder.parent.exists()
            go_on(name, folder)
            assert found(folder) == expected, count
        assert count == len(seen) + 1 > 12

    assert Forked(every_write).end() == (0, "")


def killed_at(count: int, name: str, folder: Path) -> Callable[[], None]:
    """A training that is killed before it changes files for the n-th time."""

    def run() -> None:
        seen: list[str] = []

        def before(event: str, path: Path) -> None:
            seen.append(event)
            if len(seen) == count:
                os.kill(os.getpid(), signal.SIGKILL)

        Writes(folder.parent).before = before
        fit(name, folder)

    return run


@pytest.mark.parametrize("name", EACH)
def test_a_killed_run_is_gone_on_with_to_the_same_bits(
    name: str, tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    expected, count = undisturbed(name), 0
    while True:
        count += 1
        folder = tmp_path / str(count) / "run"
        status, _ = Forked(killed_at(count, name, folder)).end()
        if status == 0:
            break
        assert status == -signal.SIGKILL
        go_on(name, folder)
        assert found(folder) == expected, count
    assert count > 14


def at_checkpoint(count: int, folder: Path, what: Callable[[], None], run: Callable[[], object]) -> Callable[[], None]:
    """A training to which something happens when its n-th checkpoint has been written and is to get its name."""

    def go() -> None:
        seen: list[str] = []

        def before(event: str, path: Path) -> None:
            if (event, path.name) == ("os.rename", "checkpoint.safetensors"):
                seen.append(event)
                if len(seen) == count:
                    what()

        Writes(folder).before = before
        run()

    return go


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_survives_a_kill_and_then_a_full_disk(
    name: str, tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    folder, expected = tmp_path / "run", undisturbed(name)
    assert Forked(at_checkpoint(2, folder, die, lambda: fit(name, folder))).end() == (-signal.SIGKILL, "")
    held = {path.name for path in folder.iterdir()}
    assert {".lock", "config.json", "model.safetensors", "checkpoint.safetensors"} < held
    assert [entry for entry in held if entry.endswith(".part")]
    status, sentence = Forked(at_checkpoint(1, folder, fill, lambda: task_named(name).resume(folder))).end()
    assert (status, sentence) == (
        REFUSED,
        f"{folder}/checkpoint.safetensors cannot be written: the disk is full; {folder} keeps the best model so far",
    )
    assert not list(folder.glob(".*")), "neither the lock nor half a file"
    go_on(name, folder)
    assert found(folder) == expected


@pytest.mark.parametrize("name", TASKS)
def test_a_second_process_is_refused_and_the_first_is_unharmed(
    name: str, tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    folder, expected = tmp_path / "run", undisturbed(name)
    (here, there), (wait, go) = os.pipe(), os.pipe()

    def pause(epoch: int) -> None:
        if epoch == 1:
            os.write(there, b"1")
            os.read(wait, 1)

    first = Forked(lambda: fit(name, folder, report=Calling(pause)))
    assert os.read(here, 1) == b"1"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    busy = rf"directory {folder} is in use: process {first.pid} on \S+ is writing there; wait for its end or stop it$"
    with pytest.raises(InputError, match=f"^output {busy}"):
        fit(name, folder)
    with pytest.raises(InputError, match=f"^run {busy}"):
        task_named(name).resume(folder)
    model = load(folder)  # reading it disturbs nobody
    with pytest.raises(InputError, match=f"^output {busy}"):
        model.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    os.write(go, b"1")
    assert first.end() == (0, "")
    assert found(folder) == expected
    for end in (here, there, wait, go):
        os.close(end)


def test_the_same_process_is_refused_too(tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]) -> None:
    folder, expected = tmp_path / "run", undisturbed(QUICK)
    refused: list[str] = []

    def again(epoch: int) -> None:
        for second in (lambda: fit(QUICK, folder), lambda: task_named(QUICK).resume(folder)):
            with pytest.raises(InputError, match=f"is in use: process {os.getpid()} on") as caught:
                second()
            refused.append(str(caught.value))

    fit(QUICK, folder, report=Calling(again))
    assert len(refused) == 4
    assert found(folder) == expected


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("last", [False, True])
def test_a_directory_that_vanishes_gets_a_sentence(name: str, last: bool, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def remove(epoch: int) -> None:
        if epoch == 1 + last:
            shutil.rmtree(folder)

    with pytest.raises(InputError) as caught:
        fit(name, folder, report=Calling(remove))
    assert str(caught.value) == f"{folder} vanished while it was in use: was it removed, renamed or replaced?"
    assert not folder.exists()


def test_a_directory_that_was_renamed_keeps_the_run(
    tmp_path: Path, undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    with pytest.raises(InputError, match="vanished while it was in use"):
        fit(QUICK, folder, report=Calling(lambda epoch: folder.rename(elsewhere)))
    assert not folder.exists()
    go_on(QUICK, elsewhere)
    assert found(elsewhere) == undisturbed(QUICK)


@pytest.mark.parametrize("finished", [False, True])
def test_a_directory_that_was_replaced_is_not_touched(
    tmp_path: Path, finished: bool, undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    folder = tmp_path / "run"

    def replace(epoch: int) -> None:
        if epoch == 1:
            shutil.rmtree(folder)
            fit(QUICK, folder) if finished else folder.mkdir()

    with pytest.raises(InputError, match=r"the lock \S+run/\.lock vanished while it was in use"):
        fit(QUICK, folder, report=Calling(replace))
    assert (found(folder) if finished else list(folder.iterdir())) == (undisturbed(QUICK) if finished else [])


def test_a_failed_fit_removes_its_own_files_only(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")

    class Failing(Calling):
        def step(self, step: int, loss: float, per_second: float) -> None:
            (tmp_path / "meanwhile.txt").write_text("new")
            raise RuntimeError("in the first epoch")

    with pytest.raises(RuntimeError, match="in the first epoch"):
        fit(QUICK, tmp_path, report=Failing(lambda epoch: None))
    assert {path.name for path in tmp_path.iterdir()} == {"old.txt", "meanwhile.txt"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("training diverged"), "^training diverged; .*run keeps the best model so far$"),
        (RuntimeError("a fault"), "^a fault$"),
    ],
    ids=["InputError", "RuntimeError"],
)
def test_a_fit_that_fails_later_keeps_what_it_reached(
    tmp_path: Path, error: Exception, sentence: str, undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    folder = tmp_path / "run"

    def fail(epoch: int) -> None:
        raise error

    with pytest.raises(type(error), match=sentence):
        fit(QUICK, folder, report=Calling(fail))
    assert load(folder).fitted()
    go_on(QUICK, folder)
    assert found(folder) == undisturbed(QUICK)


def test_data_are_never_written_over(tmp_path: Path) -> None:
    """The table of a forecast lies where the run is to go, under the name of the run's own copy."""
    rows = "\n".join(f"2020-01-{day:02},{day * day % 7}" for day in range(1, 32))
    (tmp_path / "data.csv").write_text(f"day,cups\n{rows}\n")
    before = (tmp_path / "data.csv").read_bytes()
    with pytest.raises(InputError, match=r"already holds a file data\.csv, which a run would write over"):
        task_named("forecast")(horizon=4).fit(tmp_path / "data.csv", directory=tmp_path)  # type: ignore[call-arg]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"data.csv": before}
