"""Lets tests import their shared helpers by name (those in ``support``, and the folders' conftests); keeps compiled
kernels out of the user's cache; fixtures for every folder."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

# The root first: `benches` is the package there, and a folder of tests here.
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "support"), str(Path(__file__).parent)]

# One cache for the whole run, its workers and the processes that tests start: they inherit what is set here. A
# GATEWISE_CACHE that is already set is used instead.
if "GATEWISE_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="gatewise-tests-", ignore_cleanup_errors=True)
    os.environ["GATEWISE_CACHE"] = _cache.name


def pytest_configure(config: pytest.Config) -> None:
    """Workers (``-n 2``) share the cores among them; tests of threads ask for theirs."""
    workers = config.getoption("numprocesses", None)
    if workers:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Uninitialised memory is NaN, so that whatever reads it shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: exit code, standard output, standard error."""

    from gatewise import cli

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gatewise", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call
