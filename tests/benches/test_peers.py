"""Peers compute what they are timed for; where one is not installed, it is left out and said."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from benches import peers
from benches.check import Reference, verify
from benches.columns import Column
from benches.problem import Problem
from benches.shapes import Shape

SEQUENCE = Shape(3, 4, 5, 7)
TRAIN, STEP = Shape(3, 4, 5, 7, "train"), Shape(1, 1, 5, 7, "step")


@pytest.mark.parametrize("column", [pytest.param(c, id=c.name) for c in peers.PEERS])
def test_numbers_are_those_of_the_formula(column: Column, monkeypatch: pytest.MonkeyPatch) -> None:
    if column.package in peers.missing():
        pytest.skip(f"{column.package} is not installed")
    for name, value in peers.environment(1).items():
        monkeypatch.setenv(name, value)
    for shape in (TRAIN if TRAIN.kind in column.kinds else SEQUENCE, STEP):
        if shape.kind in column.kinds:
            problem = Problem.of(shape, column.formula)
            error, run = verify(column, problem, Reference.of(problem, shape.time))
            assert 0 <= error <= 1
            before = run.results()["y"]
            run.call()
            assert torch.equal(run.results()["y"], before)


def test_the_forms_differ() -> None:
    """A peer that mixed up the two would be seen: on the same weights they are far apart."""
    problem = Problem.of(SEQUENCE, "gru_before")
    after = Problem.of(SEQUENCE, "gru_after")
    bias = {"bias_hh_l0": torch.zeros(21)}
    same = Problem(after.reference, {**problem.parameters, **bias}, problem.x, problem.dy, problem.kind)
    first, second = (Reference.of(p, 4).results["y"] for p in (problem, same))
    assert float((first - second).abs().max()) > 1e-3


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name in ("onnx", "jax") else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert {"onnxruntime", "jax"} <= set(peers.missing())
    assert not any(column.package in ("onnxruntime", "jax") for column in peers.installed())
    assert not {"onnxruntime", "jax"} & peers.versions().keys()
