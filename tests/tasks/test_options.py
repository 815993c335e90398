"""Options stand once: what the constructor, the file, the command line and the documentation say comes from a field."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.cli.arguments import made, parameters
from gatewise.tasks import TASKS, InputError, task_named
from gatewise.tasks.exercises import Adding
from gatewise.tasks.options import TaskOptions, again, default_of, kept, option, table, types_of
from gatewise.tasks.verbs import Fit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Some(TaskOptions):
    width: int | None = option(None, "How wide.", shown="by the data")
    seed: int = again(TaskOptions, "seed", 7)


@pytest.mark.parametrize("name", TASKS)
def test_every_option_has_its_help_and_a_default_that_passes_its_own_check(name: str) -> None:
    kind = task_named(name)
    task = kind()
    names = [f.name for f in dataclasses.fields(kind.options_type)]
    assert list(inspect.signature(kind).parameters.keys() ^ names) == []
    flags = {p.name for p in parameters(kind.options_type)}
    assert flags == set(names)
    for f in dataclasses.fields(kind.options_type):
        assert f.metadata["help"].endswith((".", ",")), f.name
        assert f"| `{f.name}` | {f.metadata['help']} |" in table(kind.options_type)
        assert f"{f.name}: {f.metadata['help']}" in str(kind.__doc__)
        assert types_of(kind.options_type)[f.name] in (int, float, bool, str) or f.name == "cell"
        if f.metadata["shown"] is None and f.name != "cell":
            assert getattr(task.options, f.name) == f.default
    json.dumps(task.options.as_json())


def test_an_option_again_keeps_its_help_and_check_and_changes_its_default() -> None:
    assert Some().seed == 7
    with pytest.raises(InputError, match="seed must be an integer of at least 0, got -1"):
        Some(seed=-1)
    assert default_of(next(f for f in dataclasses.fields(Some) if f.name == "width")) == "by the data"


def test_what_the_data_decide_is_filled_where_it_was_not_given() -> None:
    assert Some().filled({"width": 3}).width == 3
    assert Some(width=5).filled({"width": 3}).width == 5


def test_what_says_where_a_run_trains_is_not_part_of_it() -> None:
    assert {"accelerator", "devices", "num_nodes", "cell"}.isdisjoint(kept(TaskOptions))
    assert {"precision", "seed", "hidden_size"} <= set(kept(TaskOptions))


def test_an_unknown_option_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="Adding has no option 'hidden'; its options are "):
        Adding(hidden=3)


def test_options_of_the_command_line_that_were_not_given_are_the_defaults() -> None:
    values: dict[str, Any] = {"width": None, "seed": 3, "other": 1}
    assert made(Some, values) == Some(seed=3)
    assert values == {"other": 1}
    assert made(Fit, {}).chosen() is None


def test_fit_starts_from_what_was_asked_and_not_from_what_earlier_data_decided(tmp_path: Path) -> None:
    task = Adding(max_steps=4, hidden_size=3)
    task.options = dataclasses.replace(task.options, hidden_size=5)
    assert task.fit().options.hidden_size == 3


@pytest.mark.parametrize("damage", [{"devices": 3}, {"hiden_size": 3}, {"cell": "mine:cell"}])
def test_a_file_with_an_option_that_no_run_writes_is_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    Adding(max_steps=2, hidden_size=3).fit(directory=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["options"] |= damage
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        InputError, match=f"is damaged: a model of the task adding has no option '{next(iter(damage))}'"
    ):
        Adding.load(tmp_path)


def test_resume_takes_where_it_runs_and_refuses_what_it_is(tmp_path: Path) -> None:
    Adding(max_steps=2, hidden_size=3).fit(directory=tmp_path)
    assert Adding.resume(tmp_path, devices=2).options.devices == 2
    with pytest.raises(InputError, match=r"hidden_size: the run in .* was started with 3, got 4"):
        Adding.resume(tmp_path, hidden_size=4)


def test_numbers_of_numpy_become_pythons_own() -> None:
    options = TaskOptions(hidden_size=np.int64(8), dropout=np.float32(0.5), seed=np.uint8(3))
    assert [type(value) for value in (options.hidden_size, options.dropout, options.seed)] == [int, float, int]
    assert json.loads(json.dumps(options.as_json()))["hidden_size"] == 8
    with pytest.raises(InputError, match="num_layers must be an integer of at least 1, got 0"):
        TaskOptions(num_layers=np.int32(0))
