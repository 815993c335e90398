"""What every task says of its steps: played as functions, they say what the task itself says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fitted import MODELS, fitted

from gatewise.formats.onnx.check import difference
from gatewise.tasks.errors import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.parts import Arrays, Parts


def parts_of(task: Any) -> Parts:
    found: Parts = task.verb("export")().parts(task)
    return found


def in_torch(parts: Parts) -> Any:
    """Runs a part by its module."""

    def run(name: str, inputs: Arrays) -> dict[str, Any]:
        part = next(one for one in parts.parts if one.name == name)
        assert set(inputs) == {port.name for port in part.inputs}
        with torch.no_grad():
            found = part.module(*(torch.from_numpy(inputs[port.name]) for port in part.inputs))
        return {port.name: value.numpy() for port, value in zip(part.outputs, found, strict=True)}

    return run


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_say_what_the_task_says(name: str, tmp_path: Path) -> None:
    parts = parts_of(fitted(name, tmp_path))
    with torch.no_grad():
        pairs = list(parts.played(in_torch(parts)))
    assert pairs
    for what, expected, found in pairs:
        assert expected.size > 0, what
        assert difference(expected, found) < 2e-6, what


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_names_are_as_declared(name: str, tmp_path: Path) -> None:
    for part in parts_of(fitted(name, tmp_path)).parts:
        names = [port.name for port in (*part.inputs, *part.outputs)]
        assert len(set(names)) == len(names)
        for new, old in part.state.items():
            shapes = {port.name: port.shape for port in (*part.inputs, *part.outputs)}
            assert shapes[new] == shapes[old]
        for example in part.examples:
            with torch.no_grad():
                found = part.module(*example)
            sizes: dict[str, int] = {}
            for port, value in zip((*part.inputs, *part.outputs), (*example, *found), strict=True):
                assert len(port.shape) == value.dim(), port.name
                for wanted, size in zip(port.shape, value.shape, strict=True):
                    assert size == (wanted if isinstance(wanted, int) else sizes.setdefault(wanted, size)), port.name
        first = dict(_free(part, part.examples[0]))
        assert all(size >= 2 for size in first.values())
        assert len(set(first.values())) == len(first)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategy": "recursive"}, "strategy 'recursive' draws sample paths"),
        ({"calendar": True}, "forecasters with covariates or calendar are not written"),
    ],
)
def test_forecasters_that_no_format_takes(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parts_of(Forecaster(horizon=12, hidden_size=4, max_steps=1, n_models=1, **options).fit())


def _free(part: Any, example: Any) -> Any:
    for port, value in zip(part.inputs, example, strict=True):
        for wanted, size in zip(port.shape, value.shape, strict=True):
            if isinstance(wanted, str):
                yield wanted, size
