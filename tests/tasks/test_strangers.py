"""What docs/security.md says of a stranger's model folder: it runs nothing, names no path and writes nowhere else."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from gatewise.tasks import InputError, load
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.exercises import Adding
from gatewise.tasks.folder import CONFIG, METRICS, WEIGHTS, write_bytes


@pytest.fixture(scope="module")
def fitted() -> Adding:
    return Adding(span=4, hidden_size=2, max_steps=1).fit()


@pytest.fixture
def folder(fitted: Adding, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a Python file in the working directory leaves behind when it is run."""
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path / "ran"


class Opens:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", [CONFIG, METRICS, WEIGHTS])
def test_a_pickle_in_place_of_a_file_is_refused_and_not_read(folder: Path, trap: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Opens(trap)))
    with pytest.raises(InputError, match=f"{name} is damaged"):
        load(folder)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Opens(trap))).close()
    assert trap.exists()  # so the trap works


@pytest.mark.parametrize("entry", ["cell", "task", "options", "options.cell", "options.initialise"])
@pytest.mark.parametrize("value", ["mine.py:cell", "mine:cell", "mine"])
def test_no_entry_names_a_module_or_a_path(folder: Path, trap: Path, entry: str, value: str) -> None:
    config = json.loads((folder / CONFIG).read_text())
    outer, _, inner = entry.partition(".")
    config[outer] = {**config[outer], inner: value} if inner else value
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError):
        load(folder)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["mine.py:cell", "mine:cell"])
def test_a_cell_asked_for_by_the_user_does_run_his_file(trap: Path, name: str) -> None:
    with pytest.raises(InputError, match="has no cell 'cell'"):
        cell_of(name)
    assert trap.exists()


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "forecast.csv").symlink_to(tmp_path / "precious")
    write_bytes(tmp_path / "forecast.csv", b"theirs")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "forecast.csv").read_bytes() == b"theirs"
    assert not (tmp_path / "forecast.csv").is_symlink()
