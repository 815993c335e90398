"""The command line where a disk is full or a directory read-only: one line, exit code 2, and --resume goes on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lightning_fabric  # noqa: F401 (imported once, not in every forked process)
import numpy as np
import pytest
from tasks.forked import Forked
from tasks.translate.conftest import toy

from gatewise import cli
from gatewise.tasks import InputError, load
from gatewise.tasks.claim import claimed
from gatewise.tasks.translate import Translator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")
FIT = ["--horizon", "4", "--hidden-size", "28", "--n-models", "1", "--max-steps", "26"]
"""Two epochs; 25 KB of weights, 100 KB a checkpoint."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a table of data."""
    days = np.datetime64("2020-01-01") + np.arange(60)
    rows = [f"{day},{i % 7 + i * i % 11}" for i, day in enumerate(days)]
    (tmp_path / "table.csv").write_text("\n".join(["day,cups", *rows]) + "\n")
    return tmp_path


def run(
    place: Path, *words: str, before: Callable[[], None] = lambda: None, output: Path = Path(os.devnull)
) -> tuple[int, list[str]]:
    """The exit code of a command in a forked process, and its lines on standard error but those of the progress."""
    errors = place / "errors.txt"

    def command() -> None:
        sys.argv = ["gatewise", *words]
        before()
        sys.stdout = output.open("w", buffering=1)
        with errors.open("w") as sys.stderr:
            cli.main()

    code, _ = Forked(command).end()
    lines = errors.read_text().splitlines()
    errors.unlink()
    return code, [line for line in lines if not line.startswith("step ")]


def fit(place: Path, *words: str, before: Callable[[], None] = lambda: None) -> tuple[int, list[str]]:
    return run(place, "fit", "forecast", str(place / "table.csv"), *FIT, "-o", *words, before=before)


def test_a_disk_that_is_really_full(place: Path) -> None:
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=180k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        out = disk / "runs" / "a"
        sentence = f"gatewise: {out}/checkpoint.safetensors cannot be written: the disk is full; "
        sentence += f"{out} keeps the best model so far, --resume goes on"
        assert fit(place, str(out)) == (2, [sentence])
        assert len(load(out).predict()["y"]) == 4
        assert fit(place, str(out), "--resume") == (2, [sentence])
        assert not list(out.glob(".*"))
        code, lines = fit(place, str(disk / "b"), "--hidden-size", "96")
        refused = f"gatewise: {disk}/b/model.safetensors cannot be written: the disk is full; nothing was written"
        assert (code, lines) == (2, [refused])
        assert not (disk / "b").exists()
        subprocess.run(["mount", "-o", "remount,size=400k", str(disk)], check=True)
        assert fit(place, str(out), "--resume") == (0, [])
        assert fit(place, str(place / "whole")) == (0, [])
        models = [(folder / "model.safetensors").read_bytes() for folder in (out, place / "whole")]
        assert models[0] == models[1]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_files_that_may_not_grow(place: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))

    out = place / "run"
    code, lines = fit(place, str(out), before=limit)
    sentence = f"gatewise: {out}/checkpoint.safetensors cannot be written: File too large; {out} keeps the best model"
    assert (code, lines) == (2, [f"{sentence} so far, --resume goes on"])
    assert {path.name for path in out.iterdir()} == {"config.json", "data.csv", "metrics.csv", "model.safetensors"}


def obey() -> None:
    """Give up the right of the superuser to write what may not be written."""
    version_3, all_sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None, use_errno=True).capset(version_3, all_sets) == 0


def test_directories_that_are_read_only(place: Path) -> None:
    (place / "read").mkdir()
    (place / "read").chmod(0o555)
    refused = "cannot be written: Permission denied"
    code, lines = fit(place, str(place / "read"), before=obey)
    assert (code, lines) == (2, [f"gatewise: output directory {place / 'read'} {refused}"])
    code, lines = fit(place, str(place / "read" / "run"), before=obey)
    assert (code, lines) == (2, [f"gatewise: output directory {place / 'read' / 'run'} {refused}"])
    assert not list((place / "read").iterdir())


def test_a_finished_run_is_read_where_nothing_can_be_written(place: Path) -> None:
    out = place / "run"
    assert fit(place, str(out)) == (0, [])
    out.chmod(0o555)
    assert fit(place, str(out), "--resume", before=obey) == (0, [])
    assert run(place, "score", str(out), before=obey) == (0, [])
    code, lines = run(place, "predict", str(out), before=obey)
    assert (code, lines) == (2, [f"gatewise: output directory {out} cannot be written: Permission denied"])
    (out / "model.safetensors").chmod(0)
    code, lines = run(place, "score", str(out), before=obey)
    assert (code, lines) == (2, [f"gatewise: {out}/model.safetensors cannot be read: Permission denied"])
    (out / "metrics.json").unlink()
    code, lines = fit(place, str(out), "--resume", before=obey)
    assert (code, lines) == (2, [f"gatewise: run directory {out} cannot be written: Permission denied"])


def test_a_full_disk_behind_standard_output(place: Path) -> None:
    code, lines = run(place, "cells", "--json", output=Path("/dev/full"))
    assert (code, lines) == (2, ["gatewise: a file cannot be written: the disk is full"])


@pytest.mark.slow
def test_two_processes_of_one_training_hold_its_directory_together(tmp_path: Path) -> None:
    """Each with the disk, and the death, of a real process."""
    (tmp_path / "pairs.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in toy(400)))
    out, options = (
        tmp_path / "run",
        "--vocabulary words --separate --hidden-size 32 --embedding-size 16 --batch-size 16",
    )
    command = [sys.executable, "-m", "gatewise", "fit", "translate", str(tmp_path / "pairs.tsv"), *options.split()]
    command += ["--epochs", "400", "--patience", "400", "--devices", "2", "-o", str(out)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    limited = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=limit)
    sentence = f"gatewise: {out}/checkpoint.safetensors cannot be written: File too large; {out} keeps the best model"
    assert limited.communicate(timeout=100)[1].splitlines()[-1] == f"{sentence} so far, --resume goes on"
    assert limited.returncode == 2
    resumed = subprocess.Popen([*command, "--resume"], stderr=subprocess.DEVNULL, text=True)
    wait_for((out / "checkpoint.safetensors").exists)
    resumed.kill()
    resumed.wait()
    with pytest.raises(InputError, match=f"is in use: process {resumed.pid} on"):
        Translator.resume(out)  # those that it spawned have not ended yet

    def ended() -> bool:
        with contextlib.suppress(InputError), claimed(out):
            return True
        return False

    wait_for(ended)
    assert not list(out.glob(".*"))


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
